"""SEABO against an oracle written from the paper."""

import pytest
import torch

from algos.parity import background_like_the_expert, rewards
from helpers import random_dataset
from oracles import seabo as oracle


@pytest.mark.parametrize("divides", [True, False])
@pytest.mark.parametrize("neighbours", [1, 3])
def test_rewards_equal_the_oracle(neighbours: int, divides: bool) -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    row, expert_row = dataset.background.rows(), dataset.expert.rows()
    expected = oracle.seabo(
        dataset.background.obs[row].double(), dataset.background.obs[row + 1].double(), None,
        dataset.expert.obs[expert_row].double(), dataset.expert.obs[expert_row + 1].double(),
        2.0, 0.7, neighbours, 2, divides,
    )  # fmt: skip
    reward = rewards(
        "seabo", dataset, reward_factor=2.0, reward_slope=0.7, neighbours=neighbours,
        divides_by_actions=divides,
    )  # fmt: skip
    torch.testing.assert_close(reward, expected, rtol=1e-5, atol=0)


def test_a_copy_of_the_experts_episode_has_the_highest_reward() -> None:
    reward = rewards("seabo", background_like_the_expert(random_dataset()))
    assert float(reward[:7].mean()) > float(reward[7:].mean())
