"""Actions of a trained policy: type, shape and bounds."""

import pytest
import torch

from engine.runs import train
from fastifo.data.dataset import Dataset
from helpers import random_dataset


def test_actions_have_the_type_and_shape_of_the_observations() -> None:
    policy = train("bc", random_dataset()).policy()
    batch = torch.randn(4, 3)
    assert policy.act(batch).shape == (4, 2)
    single = policy.act(batch[0].numpy())
    assert type(single).__name__ == "ndarray"
    assert single.shape == (2,)
    assert torch.equal(torch.from_numpy(single), policy.act(batch)[0])
    with pytest.raises(ValueError, match=r"expected shape \(3,\) or \(B, 3\)"):
        policy.act(torch.zeros(4))


def test_actions_are_scaled_to_the_given_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    episode = {
        "obs": torch.randn(21, 3, generator=generator),
        "action": torch.full((20, 2), 3.0),
    }
    dataset = Dataset.from_episodes([episode], action_low=[-4.0, 1.0], action_high=[4.0, 5.0])
    policy = train("bc", dataset, 300, num_bins=101, learning_rate=3e-3).policy()
    action = policy.act(dataset.background.obs[0])
    assert abs(float(action[0]) - 3.0) < 0.3
    assert abs(float(action[1]) - 3.0) < 0.3
