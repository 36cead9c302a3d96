"""Rewards of TGE, runs that stop, what it writes."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import fastifo
from algos.parity import prepared
from fastifo.algos.rewards.diffusion import Diffusion
from fastifo.algos.rewards.tge import TGEIQL, tge_reward
from fastifo.data.dataset import Dataset
from fastifo.report.reward_figures import read_summary
from helpers import make_learner, random_dataset, small
from oracles import tge as oracle_rewards

SIZES = {k: v for k, v in small("tge").items() if k != "num_bins"}

KINDS = {
    "mean_of_kernel": "R1",
    "kernel_of_mean": "R2",
    "log_mean": "R3",
    "gaussian": "gaussian",
}


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_equal_the_oracle_and_the_worked_examples(kind: str) -> None:
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
        found = tge_reward(rows, 1.0, kind)
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=5e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_falls_with_each_distance(kind: str) -> None:
    distance = torch.rand(30, 3, dtype=torch.float64).requires_grad_()
    tge_reward(distance, 0.7, kind).sum().backward()
    assert distance.grad is not None
    assert bool((distance.grad < 0).all())


def test_an_expert_window_is_worth_nought_to_itself() -> None:
    """With one neighbour, the background's copy of an expert episode has distance 0."""
    dataset = random_dataset()
    assert dataset.expert is not None
    expert = dataclasses.replace(dataset.expert, action=torch.rand(14, 2))
    own = dataclasses.replace(dataset, background=expert)
    learner = make_learner("tge", neighbours=1, scales_to_unit=False, reward_scaling="none")
    found, *_ = prepared(learner, own)
    assert found.background.reward is not None
    assert float(found.background.reward.abs().max()) < 1e-5
    found, *_ = prepared(learner, dataset)  # and no other window is
    assert found.background.reward is not None
    assert float(found.background.reward.max()) < -1e-3


@pytest.mark.parametrize(("backbone", "spread"), [("iql", 1000.0), ("rebrac", None)])
def test_rewards_are_scaled_as_the_backbone_wants_them(backbone: str, spread: float | None) -> None:
    learner = make_learner("tge" if backbone == "iql" else "tge-rebrac")
    found, *_ = prepared(learner)
    reward = found.background.reward
    assert reward is not None
    returns = dataclasses.replace(found.background, reward=reward[0]).returns()
    assert returns is not None
    if spread is None:
        assert (float(reward.min()), float(reward.max())) == (0.0, 1.0)
    else:
        assert float(returns.max() - returns.min()) == pytest.approx(spread)


@pytest.mark.parametrize("horizon", [1, 8])
def test_a_trained_model_tells_expert_windows_from_random_ones(horizon: int) -> None:
    """Hidden expert episodes: area under the curve of rewards as a test for them."""
    g = torch.Generator().manual_seed(0)

    def episode(is_expert: bool) -> dict[str, Any]:
        phase, steps = 6.3 * torch.rand(1, generator=g), torch.arange(41.0)
        wave = torch.stack([(steps + phase).sin(), (steps + phase).cos()], 1)
        noise = torch.randn(41, 2, generator=g) / 2**0.5  # of the same size, without its order
        return {"obs": wave if is_expert else noise, "action": torch.zeros(40, 1)}

    dataset = Dataset.from_episodes([episode(i < 6) for i in range(30)], [episode(True)])
    found = fastifo.relabel(
        "tge", dataset, horizon=horizon, unet_width=16, unet_multipliers=(1, 2), progress=False,
        diffusion_updates=150, diffusion_batch_size=64, diffusion_learning_rate=2e-3, ema_start=50,
    )  # fmt: skip
    reward = found.background.reward
    assert reward is not None
    hidden, rest = reward[:240], reward[240:]
    area = float((hidden[:, None] > rest[None]).double().mean())
    assert area > (0.9 if horizon == 8 else 0.6)
    assert horizon == 8 or area < 0.98  # single rows of noise lie near the wave too


def test_rewards_do_not_depend_on_actions() -> None:
    learner = make_learner("tge", reward_scaling="none")
    dataset = random_dataset()
    assert dataset.background.action is not None
    turned = dataclasses.replace(
        dataset,
        background=dataclasses.replace(dataset.background, action=-dataset.background.action),
    )
    one, other = prepared(learner, dataset)[0], prepared(learner, turned)[0]
    assert one.background.reward is not None
    assert other.background.reward is not None
    assert torch.equal(one.background.reward, other.background.reward)


@pytest.mark.parametrize("backbone", ["iql", "rebrac"])
def test_a_killed_embedding_goes_on_and_ends_with_the_same_files(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "backbone": backbone, "diffusion_updates": 15, "num_updates": 4,
        "progress": False, "neighbours": 2,
    }  # fmt: skip
    dataset = random_dataset()
    monkeypatch.setattr("fastifo.algos.rewards.tge.BATCH", 7)
    whole = fastifo.train("tge", dataset, out=tmp_path / "whole", **fields)
    monkeypatch.setattr("fastifo.algos.rewards.store.SAVE_S", 0.0)
    original, calls = Diffusion.embed, []

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            calls.append(len(part))
            if len(calls) == 5:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)
    with pytest.raises(KeyboardInterrupt):
        fastifo.train("tge", dataset, out=tmp_path / "cut", **fields)
    before = sum(calls[:4])
    calls[:] = [0] * 100
    resumed = fastifo.train("tge", dataset, out=tmp_path / "cut", **fields)
    assert before + sum(calls) == 14 + dataset.background.num_transitions
    found = {path.name: path for path in (tmp_path / "cut").glob("embeddings-*")}
    assert len(found) == 2
    for name, path in found.items():
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "whole" / name))
    for a, b in zip(resumed.learners[0].parameters(), whole.learners[0].parameters(), strict=True):
        assert torch.equal(a, b)


def embedded_windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that models embed from now on."""
    windows: list[int] = []
    original = Diffusion.embed

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            windows.append(len(part))
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)
    return windows


def test_runs_of_both_backbones_share_the_embeddings_in_a_folder_other_data_and_precision_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = embedded_windows(monkeypatch)
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "embeddings": str(tmp_path / "shared"),
    }  # fmt: skip
    dataset, other = random_dataset(), random_dataset(seed=1)
    runs = []
    for place, (given, backbone, precision, embeds) in enumerate(
        [
            (dataset, "iql", "fp32", True),
            (dataset, "rebrac", "fp32", False),
            (other, "iql", "fp32", True),
            (dataset, "iql", "bf16", True),
        ]
    ):
        before, out = len(windows), tmp_path / str(place)
        own: dict[str, Any] = {"backbone": backbone, "precision": precision, "out": out}
        runs.append(fastifo.train("tge", given, **fields, **own))
        assert (len(windows) > before) is embeds
        assert len(list(out.glob("tge-*.npz"))) == 1  # what its report shows
    alone = fastifo.train("tge", dataset, backbone="rebrac", **fields | {"embeddings": ""})
    pairs = zip(*(run.learners[0].parameters() for run in (alone, runs[1])), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_run_goes_on_when_the_folder_of_embeddings_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "progress": False, "out": tmp_path / "run"
    }  # fmt: skip
    before, after = tmp_path / "before", tmp_path / "after"
    fastifo.train("tge", random_dataset(), num_updates=2, embeddings=str(before), **fields)
    before.rename(after)
    windows = embedded_windows(monkeypatch)
    run = fastifo.train("tge", random_dataset(), num_updates=3, embeddings=str(after), **fields)
    assert run.updates_done == 3
    assert not windows


def test_what_a_killed_run_left_of_another_model_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
    }  # fmt: skip
    build, embed = Diffusion.build, Diffusion.embed

    def killed(self: Diffusion, member: int, rows: Any, first: Any, size: int) -> Any:
        if len(first) > 20:  # the expert's are done
            raise KeyboardInterrupt
        yield from embed(self, member, rows, first, size)

    monkeypatch.setattr(Diffusion, "embed", killed)
    shared = tmp_path / "shared"
    with pytest.raises(KeyboardInterrupt):
        fastifo.train("tge", random_dataset(), embeddings=str(shared), **fields)
    assert len(list(shared.glob("embeddings-expert-*.npy"))) == 1

    def moved(self: Diffusion) -> None:
        build(self)
        with torch.no_grad():
            for weight in self.net.parameters():
                weight.mul_(1.5)

    monkeypatch.setattr(Diffusion, "embed", embed)
    monkeypatch.setattr(Diffusion, "build", moved)
    fastifo.train("tge", random_dataset(), embeddings=str(shared), **fields)
    fastifo.train("tge", random_dataset(), embeddings=str(tmp_path / "own"), **fields)
    files = sorted(path.name for path in shared.glob("*.npy"))
    assert len(files) == 3
    for name in files:
        np.testing.assert_array_equal(np.load(shared / name), np.load(tmp_path / "own" / name))


def test_embeddings_lie_on_the_sphere_and_rewards_between_minus_log_3_and_0(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "progress": False, "scales_to_unit": False,
    }  # fmt: skip
    found = {}
    for dtype in ("float32", "float16"):
        out = tmp_path / dtype
        relabelled = fastifo.relabel(
            "tge", random_dataset(), embedding_dtype=dtype, out=out, **fields
        )
        found[dtype] = relabelled.background.reward
        for path in out.glob("embeddings-*.npy"):
            kept = np.load(path)
            assert kept.dtype == dtype
            lengths = np.linalg.norm(kept.astype(np.float64), axis=1)
            np.testing.assert_allclose(lengths, 1.0, atol=1e-6 if dtype == "float32" else 1e-3)
    assert found["float32"] is not None
    assert found["float16"] is not None
    assert -np.log(3.0) <= float(found["float32"].min()) < float(found["float32"].max()) <= 0.0
    torch.testing.assert_close(found["float16"], found["float32"], rtol=0, atol=2e-3)
    assert not torch.equal(found["float16"], found["float32"])


def test_members_that_differ_in_the_reward_alone_share_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = embedded_windows(monkeypatch)
    dataset = random_dataset()
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "reward_scaling": "none",
    }  # fmt: skip
    run = fastifo.train(
        "tge", dataset, out=tmp_path / "run", sigma=[0.1, 5.0], neighbours=[1, 3], seeds=[0, 1],
        **fields,
    )  # fmt: skip
    each = 14 + dataset.background.num_transitions
    assert sum(windows) == 2 * each  # one model for each seed, eight members
    assert run.notes["neighbour_backend"] in ("faiss", "torch")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["notes"] == run.notes
    alone = fastifo.train("tge", dataset, sigma=5.0, neighbours=3, seeds=[1], **fields)
    place = next(
        i
        for i, m in enumerate(run.members)
        if (m.seed, vars(m.config)["sigma"], vars(m.config)["neighbours"]) == (1, 5.0, 3)
    )
    obs = dataset.background.obs
    torch.testing.assert_close(
        run.policy(place).act(obs), alone.policy(0).act(obs), rtol=0, atol=1e-4
    )


def test_a_report_shows_each_runs_own_reward_where_embeddings_are_shared(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 15, "num_updates": 2, "progress": False,
        "embeddings": str(tmp_path / "shared"),
    }  # fmt: skip
    shown = []
    for place, (sigma, kind) in enumerate([(1.0, "kernel_of_mean"), ([5.0, 0.1], "gaussian")]):
        out = tmp_path / str(place)
        run = fastifo.train(
            "tge", random_dataset(), sigma=sigma, tge_reward=kind, out=out, **fields
        )
        assert run.notes["neighbour_backend"] in ("faiss", "torch")
        found = map(read_summary, sorted(out.glob("tge-*.npz")))
        shown.append([(float(each["sigma"]), str(each["kind"])) for each in found])
    assert shown == [[(1.0, "kernel_of_mean")], [(0.1, "gaussian"), (5.0, "gaussian")]]


def test_members_in_memory_that_differ_in_the_reward_alone_are_embedded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows = embedded_windows(monkeypatch)
    dataset = random_dataset()
    fastifo.relabel("tge", dataset, diffusion_updates=5, progress=False, **SIZES)
    once = sum(windows)
    fastifo.train(
        "tge", dataset, sigma=[0.1, 1.0, 5.0], diffusion_updates=5, num_updates=2, progress=False,
        **SIZES,
    )  # fmt: skip
    assert sum(windows) == 2 * once


@pytest.mark.parametrize(("placement", "each"), [("starts", 7), ("ends", 4), ("fits", 4)])
def test_each_window_of_the_expert_stands_once_among_the_neighbours(
    placement: str, each: int, tmp_path: Path
) -> None:
    dataset = random_dataset()  # two expert episodes of seven transitions, four windows each
    fields: dict[str, Any] = {**SIZES, "horizon": 4, "diffusion_updates": 5, "progress": False}
    fields |= {"placement": placement, "out": tmp_path / "run"}
    fastifo.relabel("tge", dataset, **fields)
    (path,) = (tmp_path / "run").glob("embeddings-expert-*.npy")
    found = np.load(path)
    assert len(found) == len(np.unique(found, axis=0)) == 2 * each
    with pytest.raises(
        ValueError, match=f"neighbours: expected at most {2 * each}, the expert's windows"
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


def test_a_model_that_diverges_takes_its_members_alone_with_it() -> None:
    with pytest.warns(UserWarning, match="diffusion_learning_rate=1e\\+38"):
        run = fastifo.train(
            "tge", random_dataset(), diffusion_learning_rate=[1e-3, 1e38], num_updates=12,
            diffusion_updates=30, log_every=10, progress=False, **SIZES,
        )  # fmt: skip
    assert list(run.failed) == [1]
    assert run.policy(0).act(torch.zeros(3)).isfinite().all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"neighbours": 15}, "neighbours: expected at most 14, the expert's windows"),
        ({"horizon": 64}, "horizon: expected at most 10, the background's longest episode"),
        ({"neighbour_backend": "faiss-gpu"}, "neighbour_backend: faiss-gpu expects FAISS for"),
        ({"embeddings": __file__}, "embeddings: expected a folder, found the file"),
        ({"sigma": math.inf}, "sigma: expected a finite number, found inf"),
        ({"backbone": ["iql", "rebrac"]}, "backbone: expected one of iql, rebrac, found"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fastifo.train("tge", random_dataset(), out=tmp_path / "run", **SIZES | fields)
    assert not (tmp_path / "run").exists()


def test_several_datasets_in_one_run_are_refused() -> None:
    both = [random_dataset(0), random_dataset(1)]
    with pytest.raises(ValueError, match="tge: expected one dataset per run, found 2; train"):
        fastifo.train("tge-rebrac", both, **SIZES)


class StopError(Exception):
    """As a killed process: nothing is written after it."""


def stops_embedding(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """After so many parts, once."""
    original, made = Diffusion.embed, []

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            made.append(len(part))
            if len(made) == calls:
                raise StopError
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)


def test_a_run_killed_between_its_members_embeddings_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "seeds": [0, 1], "diffusion_updates": 15, "num_updates": 4, "progress": False,
    }  # fmt: skip
    whole = fastifo.train("tge", random_dataset(), **fields)
    with monkeypatch.context() as patch:
        stops_embedding(patch, 3)  # member 0 has two parts: all expert and background windows
        with pytest.raises(StopError):
            fastifo.train("tge", random_dataset(), out=tmp_path / "run", **fields)
    assert len(list((tmp_path / "run").glob("embeddings-background-*.npy"))) == 1
    resumed = fastifo.train("tge", random_dataset(), out=tmp_path / "run", **fields)
    for a, b in zip(resumed.learners[0].parameters(), whole.learners[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_member_whose_rewards_are_all_alike_fails_alone() -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_updates": 5, "num_updates": 3, "progress": False,
        "tge_reward": "gaussian",
    }  # fmt: skip
    far = 1e12  # where exp(-d^2 / (2 sigma^2)) is 1 to the last bit
    run = fastifo.train("tge", random_dataset(), sigma=[1.0, far], **fields)
    assert set(run.failed) == {1}
    with pytest.raises(ValueError, match=r"reward_scaling: .* every episode has 0"):
        fastifo.train("tge", random_dataset(), sigma=far, **fields)


def test_a_member_whose_model_broke_stays_broken_in_a_killed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "diffusion_learning_rate": [1e-3, 1e38], "diffusion_updates": 30,
        "num_updates": 4, "log_every": 10, "progress": False, "out": tmp_path / "run",
    }  # fmt: skip
    with monkeypatch.context() as patch:
        stops_embedding(patch, 1)
        with pytest.raises(StopError), pytest.warns(UserWarning, match="learning_rate=1e\\+38"):
            fastifo.train("tge", random_dataset(), **fields)
    resumed = fastifo.train("tge", random_dataset(), **fields)
    assert list(resumed.failed) == [1]
    assert resumed.policy(0).act(torch.zeros(3)).isfinite().all()


def test_cut_files_of_a_run_are_made_again(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SIZES, "diffusion_updates": 15, "progress": False}
    expected = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    notes = json.loads((tmp_path / "run/config.json").read_text())["notes"]
    assert notes["neighbour_backend"] in ("faiss", "torch")
    for name in ("embeddings-background", "distances"):
        (path,) = (tmp_path / "run").glob(f"{name}-*.npy")
        path.write_bytes(path.read_bytes()[:-100])
    found = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    assert expected.background.reward is not None
    assert found.background.reward is not None
    assert torch.equal(found.background.reward, expected.background.reward)
    (path,) = (tmp_path / "run").glob("embeddings-background-*.npy")
    assert np.load(path).shape[0] == random_dataset().background.num_transitions


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="backbone: expected one of iql, rebrac, found 'td3'"):
        fastifo.train("tge", random_dataset(), backbone="td3")


def test_relabel_gives_a_dataset_with_rewards_that_other_programs_read(tmp_path: Path) -> None:
    dataset = random_dataset(reward=False, env_id="Hopper-v4")
    found = fastifo.relabel("tge", dataset, diffusion_updates=15, progress=False, **SIZES)
    reward = found.background.reward
    assert reward is not None
    assert float(reward.min()) == 0.0
    assert float(reward.max()) == 1.0
    assert found.info["rewards"]["algorithm"] == "tge"
    found.save(tmp_path / "rewarded.fastifo")
    found.save_d4rl(tmp_path / "rewarded.hdf5")
    with h5py.File(tmp_path / "rewarded.hdf5") as file:
        columns = {name: torch.from_numpy(file[name][:]) for name in file}
    assert columns.keys() == {
        "observations", "next_observations", "actions", "rewards", "terminals", "timeouts",
    }  # fmt: skip
    row = dataset.background.rows()
    assert torch.equal(columns["observations"], dataset.background.obs[row])
    assert torch.equal(columns["next_observations"], dataset.background.obs[row + 1])
    assert torch.equal(columns["rewards"], reward)
    ends = dataset.background.start[1:] - 1
    assert bool((columns["terminals"] ^ columns["timeouts"])[ends].all())
    again = fastifo.load(tmp_path / "rewarded.fastifo").background
    flat = fastifo.load(f"d4rl:{tmp_path / 'rewarded.hdf5'}").background
    for other in (again, flat):
        assert other.reward is not None
        assert torch.equal(other.reward.float(), reward.float())
        assert torch.equal(other.obs, dataset.background.obs)
        assert torch.equal(other.start, dataset.background.start)
        assert torch.equal(other.terminal, dataset.background.terminal)


def test_the_rewards_of_a_trained_run_are_taken_from_its_folder(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SIZES, "diffusion_updates": 15, "progress": False}
    fastifo.train("tge", random_dataset(), num_updates=4, out=tmp_path / "run", **fields)
    before = (tmp_path / "run/config.json").read_bytes()
    found = fastifo.relabel("tge", random_dataset(), out=tmp_path / "run", **fields)
    alone = fastifo.relabel("tge", random_dataset(), **fields)
    assert (tmp_path / "run/config.json").read_bytes() == before
    assert found.background.reward is not None
    assert alone.background.reward is not None
    torch.testing.assert_close(found.background.reward, alone.background.reward)


def test_written_actions_are_in_the_tasks_bounds(tmp_path: Path) -> None:
    low, high = torch.full((2,), -0.4), torch.full((2,), 0.4)
    dataset = dataclasses.replace(random_dataset(), action_low=low, action_high=high)
    dataset.save_d4rl(tmp_path / "set.hdf5")
    with h5py.File(tmp_path / "set.hdf5") as file:
        written = torch.from_numpy(file["actions"][:])
    assert dataset.background.action is not None
    torch.testing.assert_close(written, 0.4 * dataset.background.action)


def test_relabel_refuses_methods_that_make_no_rewards() -> None:
    with pytest.raises(ValueError, match="relabel: bc makes no rewards"):
        fastifo.relabel("bc", random_dataset())


def test_expert_observations_are_needed() -> None:
    with pytest.raises(ValueError, match="tge needs expert observations"):
        TGEIQL.check_data(random_dataset(expert=False), TGEIQL.Config(), torch.device("cpu"))
