"""The expert policies that ship with the package."""

import json

import numpy as np
import pytest
import torch

from fastifo.envs.experts import FOLDER, load_expert
from fastifo.envs.rollout import rollout

FLOORS = {"Hopper-v4": 2500, "HalfCheetah-v4": 4000, "Walker2d-v4": 3000, "Ant-v4": 3000}


@pytest.mark.parametrize("env_id", sorted(FLOORS))
@pytest.mark.slow
def test_a_shipped_expert_is_small_states_its_origin_and_reaches_its_minimum_return(
    env_id: str,
) -> None:
    file = FOLDER / f"{env_id}.npz"
    assert file.stat().st_size <= 400_000
    origin = json.loads((FOLDER / f"{env_id}.json").read_text())
    assert {"algorithm", "seed"} <= set(origin)
    (played,) = rollout(
        [load_expert(env_id)], env_id, 6, True, seed=3, record=False, progress=False
    ).episodes
    # The median: one of so few episodes may fail early. The minimum is for the mean of 50 episodes.
    assert np.median(played.returns) > FLOORS[env_id]


def test_an_expert_samples_around_its_mean_action_with_the_deviation_of_its_file() -> None:
    expert = load_expert("Walker2d-v4")
    obs = torch.zeros(20_000, 17)
    assert expert.noise(7, 0, 4) is None
    expert.noise_scale = 0.5
    noise = expert.noise(7, 0, len(obs))
    assert noise is not None
    assert torch.equal(noise[:4], expert.noise(7, 0, len(obs))[:4])  # type: ignore[index]
    assert not torch.equal(noise, expert.noise(7, 1, len(obs)))  # type: ignore[arg-type]
    # Standard errors of 20,000 draws: 0.007 for a mean, 0.005 for a deviation.
    torch.testing.assert_close(noise.mean(0), torch.zeros(6), rtol=0, atol=0.04)
    torch.testing.assert_close(noise.std(0), torch.ones(6), rtol=0, atol=0.03)
    mean, sampled = expert.act_rows(obs, None), expert.act_rows(obs, noise)
    inside = mean[0].abs() < 0.3  # far from the bounds, where clipping hardly matters
    assert bool(inside.any())
    assert expert.deviation is not None
    ratio = (sampled - mean).std(0)[inside] / (0.5 * expert.deviation[inside])
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=0.05)


def test_an_expert_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is an expert for Walker2d, not for HalfCheetah-v4"):
        load_expert("HalfCheetah-v4", FOLDER / "Walker2d-v4.npz")
