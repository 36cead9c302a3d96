"""The SEABO oracle equals values worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from . import seabo
from .problems import column


def seabo_reward(**changed: Any) -> Tensor:
    """One transition (0, 0); expert rows at distance 3 and 5."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    given: dict[str, Any] = {"obs": zero, "next_obs": zero, "action": None}
    given |= {"expert_obs": column([3.0, 0.0])[:, None]}
    given |= {"expert_next_obs": column([4.0, 3.0])[:, None]}
    given |= {"alpha": 1.0, "beta": 0.5, "k": 1, "action_dim": 6, "divides": True}
    return seabo.seabo(**{**given, **changed})


def test_seabo_example_is_07788() -> None:
    assert seabo_reward().item() == pytest.approx(0.7788, abs=5e-5)
    assert seabo_reward(divides=False).item() == pytest.approx(math.exp(-1.5))
    assert seabo_reward(alpha=2.0, beta=0.1).item() == pytest.approx(2 * math.exp(-0.05))


def test_seabo_reads_the_kth_neighbour_or_the_mean() -> None:
    assert seabo_reward(k=2).item() == pytest.approx(math.exp(-2.5 / 6))
    assert seabo_reward(k=2, averages=True).item() == pytest.approx(math.exp(-2 / 6))


def test_seabo_with_actions() -> None:
    action = torch.zeros(1, 1, dtype=torch.float64)
    expert_action = column([0.0, 4.0])[:, None]  # both rows are 5 away
    reward = seabo_reward(action=action, expert_action=expert_action, k=1)
    assert reward.item() == pytest.approx(math.exp(-2.5 / 6))
    with pytest.raises(ValueError, match="both or neither"):
        seabo_reward(action=action)
