"""A script that misjudges where the object is."""

import numpy as np
import pytest
import torch

from fastifo.envs.experts.expert import normal
from fastifo.envs.experts.metaworld import MetaworldScript
from fastifo.envs.experts.misjudging import MisjudgingExpert
from fastifo.envs.experts.robosuite import RobosuiteScript


def test_normal_numbers_have_mean_0_and_deviation_1_and_depend_on_the_counter() -> None:
    seed = torch.tensor([3])
    numbers = normal(seed, torch.tensor([0]), 7, 5000, 2)
    assert numbers.shape == (5000, 2)
    assert abs(float(numbers.mean())) < 0.05
    assert abs(float(numbers.std()) - 1.0) < 0.05
    assert normal(seed, torch.tensor([0]), 7, 5000, 2).equal(numbers)
    assert not normal(seed, torch.tensor([1]), 7, 5000, 2).equal(numbers)


def test_the_script_acts_as_if_the_object_were_elsewhere() -> None:
    script = MetaworldScript("metaworld/CoffeeButton")
    obs = torch.rand(6, 39)
    expert = MisjudgingExpert(script, 0.1, seed=0)
    noise = expert.noise(stream=5, step=0, rows=6)
    assert noise.shape == (6, 3)
    elsewhere = obs.clone()
    elsewhere[:, 4:7] += noise
    before = obs.clone()
    assert expert.act_rows(obs, noise).equal(script.act_rows(elsewhere, None))
    assert obs.equal(before)
    assert expert.act_rows(obs, None).equal(script.act_rows(obs, None))


def test_the_error_is_another_in_each_episode_and_the_same_in_all_its_steps() -> None:
    script = MetaworldScript("metaworld/CoffeeButton")
    script.noise_scale = 0.5
    expert = MisjudgingExpert(script, 0.2, seed=1)
    first, later = expert.noise(5, 0, 4000), expert.noise(5, 9, 4000)
    assert first.shape == (4000, 3 + 4)
    assert first[:, :3].equal(later[:, :3])
    assert not first[:, 3:].equal(later[:, 3:])
    assert float(first[:, :3].std()) == pytest.approx(0.2, abs=0.01)
    assert len(np.unique(first[:, 0])) > 3900
    assert not MisjudgingExpert(script, 0.2, seed=2).noise(5, 0, 4000).equal(first)
    obs = torch.rand(4000, 39)
    shifted = script.displaced(obs, first[:, :3])
    assert expert.act_rows(obs, first).equal(script.act_rows(shifted, first[:, 3:]))


@pytest.mark.parametrize(
    ("task", "layout", "width", "first"),
    [("Lift", "1.5", 19, 0), ("PickPlaceCan", "1.5", 23, 7), ("PickPlaceCan", "1.4", 23, 0)],
)
def test_robosuite_scripts_see_the_object_displaced(
    task: str, layout: str, width: int, first: int
) -> None:
    script = RobosuiteScript(f"robosuite/{task}", {"object_layout": layout})
    obs, offset = torch.rand(5, width), torch.rand(5, 3)
    moved = script.displaced(obs, offset) - obs
    expected = torch.zeros(5, width)
    expected[:, first : first + 3] = offset
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(
        script.read(script.displaced(obs, offset).double()).position,
        script.read(obs.double()).position + offset,
        check_dtype=False,
    )
