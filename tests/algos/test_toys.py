"""Two toy tasks on a plane: one that every method solves, and one that the paper says VfO-bin
may not.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from fastifo.algos import ALGORITHMS, BACKBONES
from fastifo.data.dataset import Dataset

STEPS, SPEED = 30, 0.1


def move(start: Tensor, policy: Any) -> tuple[Tensor, Tensor]:
    """One episode of a point whose action is its velocity: observations and actions."""
    obs, actions = [start], []
    for step in range(STEPS):
        action = policy(obs[-1], step).clamp(-1.0, 1.0)
        actions.append(action)
        obs.append(obs[-1] + SPEED * action)
    return torch.stack(obs), torch.stack(actions)


def expert(obs: Tensor, step: int) -> Tensor:
    """Straight to the origin."""
    return -obs / SPEED


def worlds(background: Any) -> Dataset:
    """Expert observations from all around; episodes of `background(number)` to learn from."""
    g = torch.Generator().manual_seed(0)

    def episode(policy: Any) -> dict[str, Tensor]:
        obs, action = move(2 * torch.rand(2, generator=g) - 1, policy)
        reward = -(obs[1:].norm(dim=1))
        return {"obs": obs, "action": action, "reward": reward}

    played = [episode(background(number, g)) for number in range(60)]
    return Dataset.from_episodes(played, [episode(expert) for _ in range(20)])


def wavering(number: int, g: torch.Generator) -> Any:
    """Three steps in ten are the expert's, the others go anywhere."""

    def policy(obs: Tensor, step: int) -> Tensor:
        anywhere = 2 * torch.rand(2, generator=g) - 1
        return expert(obs, step) if float(torch.rand(1, generator=g)) < 0.3 else anywhere

    return policy


def adrift(number: int, g: torch.Generator) -> Any:
    """One step in five is the expert's, the others go off in the episode's own direction."""
    angle = 2 * torch.pi * torch.rand(1, generator=g)
    away = 0.7 * torch.cat([angle.cos(), angle.sin()])

    def policy(obs: Tensor, step: int) -> Tensor:
        other = away + 0.1 * torch.randn(2, generator=g)
        return expert(obs, step) if float(torch.rand(1, generator=g)) < 0.2 else other

    return policy


def mixed(number: int, g: torch.Generator) -> Any:
    """A fifth of the episodes are the expert's; the others move at random."""
    return expert if number % 5 == 0 else lambda obs, step: 2 * torch.rand(2, generator=g) - 1


def distance(run: fastifo.Run, deterministic: bool = True) -> float:
    """Mean distance from the origin over the second half of episodes from the rim."""
    policy = run.policy(0)
    angle = torch.arange(8) * torch.pi / 4
    obs = torch.stack([angle.cos(), angle.sin()], 1)
    found = []
    for _ in range(STEPS):
        obs = obs + SPEED * torch.as_tensor(policy.act(obs, deterministic))
        found.append(obs.norm(dim=1).mean())
    return float(torch.stack(found[STEPS // 2 :]).mean())


def solve(name: str, dataset: Dataset, **fields: Any) -> fastifo.Run:
    """A method trained for a second or two."""
    general: dict[str, Any] = {
        "num_updates": 1500, "hidden_sizes": (64, 64), "batch_size": 128, "num_bins": 21,
        "kernel_width": 0.1, "learning_rate": 1e-3, "gamma": 0.9, "disc_updates": 500,
        "inverse_updates": 1000, "temperature": 0.1, "inverse_temperature": 1.0,
    }  # fmt: skip
    known = {*vars(ALGORITHMS[name].Config()), "num_updates"}
    own = {k: v for k, v in general.items() if k in known} | fields
    return fastifo.train(name, dataset, progress=False, **own)


# Rewards for being near the expert's transitions, which lie all over this plane, say little here.
@pytest.mark.parametrize("name", sorted({*ALGORITHMS} - {*BACKBONES, "bc", "rebrac"}))
def test_every_method_moves_a_point_to_where_the_expert_goes(name: str) -> None:
    dataset = worlds(adrift)
    obs = dataset.background.obs.view(60, STEPS + 1, 2)
    assert float(obs[:, STEPS // 2 :].norm(dim=2).mean()) > 0.9
    assert distance(solve(name, dataset)) < 0.2


def test_cloning_drifts_as_the_background_does() -> None:
    assert distance(solve("bc", worlds(adrift))) > 1.0


def test_rebrac_moves_a_point_to_where_the_expert_goes() -> None:
    # It holds its policy near the mean of the actions, which must not lead away.
    assert distance(solve("rebrac", worlds(wavering))) < 0.1


def test_hidden_expert_episodes_among_random_ones_are_found_by_smodice_and_dilo() -> None:
    dataset = worlds(mixed)
    found = {
        name: distance(solve(name, dataset, num_updates=3000))
        for name in ("smodice", "dilo", "bc", "vfo_bin")
    }
    assert max(found["smodice"], found["dilo"]) < 0.15
    assert found["bc"] > 0.5  # it averages over both kinds
    # The study has VfO-bin behind both on such data: most of what leads on is not the expert's.
    assert found["vfo_bin"] > max(found["smodice"], found["dilo"])
