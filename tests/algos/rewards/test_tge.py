"""TGE's rewards: values against the oracle, and what they depend on."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from algos.parity import prepared
from algos.rewards.tge_runs import SIZES
from fastifo.algos.rewards.tge import tge_reward
from fastifo.data.dataset import Dataset
from helpers import make_learner, random_dataset, small
from oracles import tge as oracle_rewards

KINDS = {
    "mean_of_kernel": "R1",
    "kernel_of_mean": "R2",
    "log_mean": "R3",
    "gaussian": "gaussian",
}


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_equal_the_oracle_and_examples_worked_by_hand(kind: str) -> None:
    distance = torch.rand(50, 4, dtype=torch.float64).sort(1).values
    for sigma in (0.1, 1.0, 5.0):
        torch.testing.assert_close(
            tge_reward(distance, sigma, kind),
            oracle_rewards.rewards(distance, sigma, KINDS[kind]),
        )
    if kind != "gaussian":
        rows = torch.tensor([[0.0, 2.0], [0.5, 1.5], [1.0, 1.0]], dtype=torch.float64)
        expected = {
            "mean_of_kernel": [-0.5493, -0.6609, -0.6931],
            "kernel_of_mean": [-0.6931, -0.6931, -0.6931],
            "log_mean": [-0.4055, -0.6286, -0.6931],
        }[kind]
        reward = tge_reward(rows, 1.0, kind)
        torch.testing.assert_close(reward, torch.tensor(expected).double(), atol=5e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_falls_with_each_distance(kind: str) -> None:
    distance = torch.rand(30, 3, dtype=torch.float64).requires_grad_()
    tge_reward(distance, 0.7, kind).sum().backward()
    assert distance.grad is not None
    assert bool((distance.grad < 0).all())


def test_only_a_copy_of_an_expert_window_has_reward_0() -> None:
    """With one neighbour, a background copy of an expert episode has distance 0."""
    dataset = random_dataset()
    assert dataset.expert is not None
    expert = dataclasses.replace(dataset.expert, action=torch.rand(14, 2))
    copied = dataclasses.replace(dataset, background=expert)
    learner = make_learner("tge", neighbours=1, scales_to_unit=False, reward_scaling="none")
    relabelled, *_ = prepared(learner, copied)
    assert relabelled.background.reward is not None
    assert float(relabelled.background.reward.abs().max()) < 1e-5
    relabelled, *_ = prepared(learner, dataset)
    assert relabelled.background.reward is not None
    assert float(relabelled.background.reward.max()) < -1e-3


@pytest.mark.parametrize(("backbone", "spread"), [("iql", 1000.0), ("rebrac", None)])
def test_rewards_are_scaled_for_the_backbone(backbone: str, spread: float | None) -> None:
    learner = make_learner("tge" if backbone == "iql" else "tge-rebrac")
    relabelled, *_ = prepared(learner)
    reward = relabelled.background.reward
    assert reward is not None
    returns = dataclasses.replace(relabelled.background, reward=reward[0]).returns()
    assert returns is not None
    if spread is None:
        assert (float(reward.min()), float(reward.max())) == (0.0, 1.0)
    else:
        assert float(returns.max() - returns.min()) == pytest.approx(spread)


@pytest.mark.parametrize("horizon", [1, 8])
@pytest.mark.slow
def test_a_trained_model_separates_expert_from_random_windows(horizon: int) -> None:
    """Rewards detect hidden expert episodes, measured by the area under the ROC curve."""
    g = torch.Generator().manual_seed(0)

    def episode(is_expert: bool) -> dict[str, Any]:
        phase, steps = 6.3 * torch.rand(1, generator=g), torch.arange(41.0)
        wave = torch.stack([(steps + phase).sin(), (steps + phase).cos()], 1)
        noise = torch.randn(41, 2, generator=g) / 2**0.5  # the same variance without the order
        return {"obs": wave if is_expert else noise, "action": torch.zeros(40, 1)}

    dataset = Dataset.from_episodes([episode(i < 6) for i in range(30)], [episode(True)])
    relabelled = fastifo.relabel(
        "tge", dataset, horizon=horizon, unet_width=16, unet_multipliers=(1, 2), progress=False,
        diffusion_updates=150, diffusion_batch_size=64, diffusion_learning_rate=2e-3, ema_start=50,
    )  # fmt: skip
    reward = relabelled.background.reward
    assert reward is not None
    hidden, random = reward[:240], reward[240:]
    area = float((hidden[:, None] > random[None]).double().mean())
    assert area > (0.9 if horizon == 8 else 0.6)
    assert horizon == 8 or area < 0.98  # single rows of noise are close to the wave too


def test_rewards_do_not_depend_on_actions() -> None:
    learner = make_learner("tge", reward_scaling="none")
    dataset = random_dataset()
    assert dataset.background.action is not None
    negated = dataclasses.replace(
        dataset,
        background=dataclasses.replace(dataset.background, action=-dataset.background.action),
    )
    one, other = prepared(learner, dataset)[0], prepared(learner, negated)[0]
    assert one.background.reward is not None
    assert other.background.reward is not None
    assert torch.equal(one.background.reward, other.background.reward)


def test_embeddings_have_length_1_and_rewards_are_in_minus_log_3_to_0(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "progress": False, "scales_to_unit": False,
    }  # fmt: skip
    rewards = {}
    for dtype in ("float32", "float16"):
        out = tmp_path / dtype
        relabelled = fastifo.relabel(
            "tge", random_dataset(), embedding_dtype=dtype, out=out, **fields
        )
        rewards[dtype] = relabelled.background.reward
        for path in out.glob("embeddings-*.npy"):
            embeddings = np.load(path)
            assert embeddings.dtype == dtype
            lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
            np.testing.assert_allclose(lengths, 1.0, atol=1e-6 if dtype == "float32" else 1e-3)
    assert rewards["float32"] is not None
    assert rewards["float16"] is not None
    assert -np.log(3.0) <= float(rewards["float32"].min()) < float(rewards["float32"].max()) <= 0.0
    torch.testing.assert_close(rewards["float16"], rewards["float32"], rtol=0, atol=2e-3)
    assert not torch.equal(rewards["float16"], rewards["float32"])


@pytest.mark.parametrize(("placement", "each"), [("starts", 7), ("ends", 4), ("fits", 4)])
def test_each_expert_window_is_embedded_once(placement: str, each: int, tmp_path: Path) -> None:
    dataset = random_dataset()  # two expert episodes of seven transitions, four windows each
    fields: dict[str, Any] = {**SIZES, "horizon": 4, "diffusion_updates": 5, "progress": False}
    fields |= {"placement": placement, "out": tmp_path / "run"}
    fastifo.relabel("tge", dataset, **fields)
    (path,) = (tmp_path / "run").glob("embeddings-expert-*.npy")
    embeddings = np.load(path)
    assert len(embeddings) == len(np.unique(embeddings, axis=0)) == 2 * each
    with pytest.raises(
        ValueError,
        match=f"neighbours: expected at most {2 * each}, the number of the expert's windows",
    ):
        fastifo.train("tge", dataset, **fields | {"neighbours": 2 * each + 1})


def test_a_background_of_one_episode_is_relabelled() -> None:
    dataset = random_dataset()
    one = dataclasses.replace(dataset, background=dataset.background.take([3]))
    for name in ("tge", "otr", "seabo"):
        fields = {k: v for k, v in small(name).items() if k != "num_bins"}
        if name == "tge":
            fields["diffusion_updates"] = 5
        reward = fastifo.relabel(name, one, progress=False, **fields).background.reward
        assert reward is not None
        assert reward.shape == (one.background.num_transitions,)


def test_only_the_member_with_constant_rewards_fails() -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 5, "num_updates": 3, "progress": False,
        "tge_reward": "gaussian",
    }  # fmt: skip
    far = 1e12  # where exp(-d^2 / (2 sigma^2)) is 1 to the last bit
    run = fastifo.train("tge", random_dataset(), sigma=[1.0, far], **fields)
    assert set(run.failed) == {1}
    with pytest.raises(ValueError, match=r"reward_scaling: .* every episode has 0"):
        fastifo.train("tge", random_dataset(), sigma=far, **fields)


def test_only_the_members_of_a_diverged_model_fail() -> None:
    with pytest.warns(UserWarning, match="diffusion_learning_rate=1e\\+38"):
        run = fastifo.train(
            "tge", random_dataset(), diffusion_learning_rate=[1e-3, 1e38], num_updates=12,
            diffusion_updates=30, log_every=10, progress=False, **SIZES,
        )  # fmt: skip
    assert list(run.failed) == [1]
    assert run.policy(0).act(torch.zeros(3)).isfinite().all()
