"""Diffusion model, embeddings and rewards of TGE against oracles written from the specification."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import fastifo
from algos.parity import prepared
from fastifo.algos.diffusion import Diffusion, DiffusionConfig, cosine_schedule
from fastifo.algos.tge import TGE, _embedded, placed, tge_reward
from fastifo.data.dataset import Dataset
from fastifo.data.windows import Scale, first_rows, window_rows
from fastifo.heads import normal
from fastifo.learner import Spec
from fastifo.unet import Same, UNet
from helpers import make_learner, make_sampler, random_dataset, run_updates, small
from oracles import diffusion as oracle
from oracles import tge as oracle_rewards

SIZES = {k: v for k, v in small("tge").items() if k != "num_bins"}
KINDS = {
    "mean_of_kernel": "R1",
    "kernel_of_mean": "R2",
    "log_mean": "R3",
    "gaussian": "gaussian",
}


def oracle_of(net: UNet, channels: int, config: Any) -> oracle.UNet:
    """The oracle with the weights of member 0."""
    other = oracle.UNet(channels, config.unet_width, config.unet_multipliers, config.horizon)

    def block(name: str, mine: Any) -> dict[str, Tensor]:
        found = {}
        for part in ("first", "second"):
            own = getattr(mine, part)
            found |= {
                f"{name}.{part}.conv.weight": own.conv.weight[0],
                f"{name}.{part}.conv.bias": own.conv.bias[0],
                f"{name}.{part}.norm.weight": own.scale[0],
                f"{name}.{part}.norm.bias": own.shift[0],
            }
        found |= linear(f"{name}.time", mine.level)
        if not isinstance(mine.shortcut, Same):
            found |= conv(f"{name}.skip", mine.shortcut)
        return found

    def linear(name: str, mine: Any) -> dict[str, Tensor]:
        return {f"{name}.weight": mine.weight[0].t(), f"{name}.bias": mine.bias[0, 0]}

    def conv(name: str, mine: Any) -> dict[str, Tensor]:
        return {f"{name}.weight": mine.weight[0], f"{name}.bias": mine.bias[0]}

    state = linear("time.expand", net.level[0]) | linear("time.reduce", net.level[1])
    for way, end, stages in (("down", "shrink", net.down), ("up", "grow", net.up)):
        for place, stage in enumerate(stages):
            state |= block(f"{way}.{place}.0", stage.first)
            state |= block(f"{way}.{place}.1", stage.second)
            if not isinstance(stage.end, Same):
                state |= conv(f"{end}.{place}", stage.end)
    for place, middle in enumerate(net.middle):
        state |= block(f"middle.{place}", middle)
    last, output = net.last
    state |= {
        "last.conv.weight": last.conv.weight[0],
        "last.conv.bias": last.conv.bias[0],
        "last.norm.weight": last.scale[0],
        "last.norm.bias": last.shift[0],
    } | conv("output", output)
    other.load_state_dict({name: value.detach().clone() for name, value in state.items()})
    return other


def make_model(**overrides: Any) -> tuple[Diffusion, Dataset]:
    """A model and the rows that it learns from, as TGE builds them."""
    _, model, rows = prepared(make_learner("tge", **overrides))
    assert isinstance(model, Diffusion)
    return model, rows


@pytest.mark.parametrize(("horizon", "factors"), [(1, (1, 2)), (4, (1, 2, 3)), (16, (1, 1, 2, 2))])
def test_net_and_embedding_equal_the_oracle(horizon: int, factors: tuple[int, ...]) -> None:
    model, _ = make_model(horizon=horizon, unet_multipliers=factors, unet_width=16)
    other = oracle_of(model.net, 6, model.cfg)
    x = torch.randn(1, 5, 6, horizon, dtype=torch.float64)
    step = torch.tensor([[0.0, 1.0, 2.0, 10.0, 19.0]], dtype=torch.float64)
    torch.testing.assert_close(model.net(x, step)[0], other(x[0], step[0].long()))
    middle = model.net.middle_of(x)[0]
    torch.testing.assert_close(middle.mean(-1), other.embed(x[0], normalizes=False))


def test_20_updates_and_the_average_equal_the_oracle() -> None:
    model, rows = make_model(
        ema_start=11, ema_decay=0.5, diffusion_learning_rate=1e-3, unet_width=16
    )
    sampler = make_sampler(model, rows)
    other = oracle_of(model.net, 6, model.cfg)
    draws = []
    for update in range(20):
        batch = sampler.draw(torch.tensor([update]))
        assert batch.windows is not None
        assert batch.noise is not None
        noise = batch.noise[0].clone()
        windows = batch.windows[:, 0].transpose(0, 1).clone()  # [B, T, C]
        one, two = noise[:, 2:].unflatten(1, (2, 5, -1)).unbind(1)
        draws.append(
            {
                "windows": windows,
                "mask": (noise[:, 1] < 0.5).double(),
                "k": (noise[:, 0] * model.cfg.diffusion_steps).long(),
                "eps": normal(one, two).transpose(1, 2),
            }
        )
    config = {
        "obs_dim": 3, "diffusion_steps": model.cfg.diffusion_steps, "learning_rate": 1e-3,
        "ema_decay": 0.5, "ema_every": 10, "ema_start": 11,
    }  # fmt: skip
    metrics = run_updates(model, sampler, 20)
    trained, average, losses = oracle.run(other, draws, config)
    for found, expected in zip(metrics, losses, strict=True):
        torch.testing.assert_close(float(found["denoising_loss"]), expected, rtol=1e-8, atol=0)
    for net, expected_net in ((model.net, trained), (model.average, average)):
        found_state = oracle_of(net, 6, model.cfg).state_dict()
        for name, value in expected_net.state_dict().items():
            torch.testing.assert_close(found_state[name], value, rtol=0, atol=1e-9)


def test_the_schedule_falls_from_one_to_nought_and_equals_the_oracle() -> None:
    kept = cosine_schedule(20)
    torch.testing.assert_close(kept, oracle.alpha_bar(20))
    assert bool((kept.diff() < 0).all())
    assert kept[0] > 0.98
    assert kept[-1] < 1e-4


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


def test_an_embedding_is_the_same_each_time_and_alone() -> None:
    model, rows = make_model()
    first = torch.arange(6)
    once, again = (torch.cat(list(model.embed(0, rows.background.obs, first, 4))) for _ in "ab")
    assert torch.equal(once, again)
    one = torch.cat(list(model.embed(0, rows.background.obs, first[3:4], 4)))
    torch.testing.assert_close(one[0], once[3])


def test_horizons_that_three_halvings_do_not_divide_are_refused() -> None:
    for horizon in (0, 3, 12, 20):
        with pytest.raises(ValueError, match="horizon: expected 1, 2, 4 or a multiple of 8"):
            DiffusionConfig(horizon=horizon)
    for horizon in (1, 2, 4, 8, 24, 32):
        DiffusionConfig(horizon=horizon)


@pytest.mark.parametrize("horizon", [1, 2, 4, 16])
def test_windows_are_those_of_the_oracle(horizon: int) -> None:
    background = random_dataset().background
    assert background.action is not None
    scale = Scale(torch.zeros(5), torch.ones(5))
    rows, first = window_rows(background, horizon, scale).obs, first_rows(background, horizon)
    for episode in range(background.num_episodes):
        begin, end = (int(x) for x in background.start[episode : episode + 2])
        obs = background.obs[begin + episode : end + episode]
        for step in range(end - begin):
            expected = oracle.pad_window(obs, background.action[begin:end], step, horizon)
            row = int(first[begin + step])
            assert torch.equal(rows[row : row + horizon].double(), expected.double())


def test_every_transition_is_drawn_as_a_windows_start() -> None:
    model, rows = make_model(diffusion_batch_size=400)
    batch = make_sampler(model, rows).draw(torch.tensor([0]))
    assert batch.windows is not None
    background = random_dataset().background
    begins = rows.background.obs[first_rows(background, 4)].double()
    drawn = batch.windows[0, 0]
    nearest = torch.cdist(drawn, begins).min(1)
    assert float(nearest.values.max()) < 1e-6
    assert len(nearest.indices.unique()) == background.num_transitions


def test_where_a_window_lies() -> None:
    background = random_dataset().background.take([0, 3])  # 5 and 8 transitions
    starts, ends, fits = (placed(background, 4, kind) for kind in ("starts", "ends", "fits"))
    assert starts.tolist() == list(range(13))
    assert ends.tolist() == [0, 0, 0, 0, 1, 5, 5, 5, 5, 6, 7, 8, 9]
    assert fits.tolist() == [0, 1, 1, 1, 1, 5, 6, 7, 8, 9, 9, 9, 9]


def test_states_only_has_no_action_channels() -> None:
    model, rows = make_model(states_only=True)
    assert rows.background.obs.shape[1] == 3
    assert model.net.down[0].first.first.conv.weight.shape[2] == 3
    run_updates(model, make_sampler(model, rows), 2)
    clean, noise = torch.randn(2, 1, 8, 3, 4, dtype=torch.float64)
    step, masked = torch.arange(8.0).double()[None], (torch.arange(8) % 2).double()[None]
    share = oracle.alpha_bar(model.cfg.diffusion_steps)[:8, None, None]
    noisy = share.sqrt() * clean[0] + (1.0 - share).sqrt() * noise[0]
    found = oracle_of(model.net, 3, model.cfg)(noisy, step[0].long())
    expected = (found - noise[0]).square().mean()  # of all numbers, whatever the mask says
    torch.testing.assert_close(model.loss(clean, noise, step, masked)[0], expected)


@pytest.mark.parametrize("placement", ["starts", "ends", "fits"])
def test_a_transition_is_embedded_by_the_window_that_its_placement_names(placement: str) -> None:
    dataset = random_dataset()
    _, model, rows = prepared(make_learner("tge", placement=placement, sphere=False))
    config = make_learner("tge", placement=placement, sphere=False).cfg
    scale = Scale.of(dataset.background, actions=True)
    fit: Any = SimpleNamespace(folder=None, progress=False)
    found = _embedded(
        model, 0, dataset.background, rows.background, scale=scale, config=config, fit=fit,
        name="background-x",
    )  # fmt: skip
    background = dataset.background
    first = first_rows(background, 4)
    for episode in range(background.num_episodes):
        begin, end = (int(x) for x in background.start[episode : episode + 2])
        for step in range(begin, end):
            start = {
                "starts": step,
                "ends": max(begin, step - 3),
                "fits": min(step, max(begin, end - 4)),
            }[placement]
            window = rows.background.obs[int(first[start]) : int(first[start]) + 4]
            x = model._input(window.t().double()[None, None], torch.ones(1, 1).double())
            expected = model.net.middle_of(x)[0, 0].mean(-1).detach()
            torch.testing.assert_close(
                found.rows(step, step + 1)[0], expected.float(), rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize("backbone", ["iql", "rebrac"])
def test_a_killed_embedding_goes_on_and_ends_with_the_same_files(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {
        **SIZES, "backbone": backbone, "diffusion_updates": 15, "num_updates": 4,
        "progress": False, "neighbours": 2,
    }  # fmt: skip
    dataset = random_dataset()
    monkeypatch.setattr("fastifo.algos.tge.BATCH", 7)
    whole = fastifo.train("tge", dataset, out=tmp_path / "whole", **fields)
    monkeypatch.setattr("fastifo.embeddings.SAVE_S", 0.0)
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


def test_members_that_differ_in_the_reward_alone_share_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[int] = []
    original = Diffusion.embed

    def counted(self: Diffusion, *arguments: Any) -> Any:
        for part in original(self, *arguments):
            windows.append(len(part))
            yield part

    monkeypatch.setattr(Diffusion, "embed", counted)
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
        ({"neighbours": 15}, "neighbours: expected at most 14, the expert's transitions"),
        ({"horizon": 64}, "horizon: expected at most 10, the background's longest episode"),
        ({"neighbour_backend": "faiss-gpu"}, "neighbours: faiss-gpu is not usable here"),
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
    with pytest.raises(ValueError, match="tge: several datasets in one run have each their own"):
        fastifo.train("tge-rebrac", both, **SIZES)


def test_short_models_embed_with_their_trained_weights() -> None:
    model, rows = make_model()
    first = torch.arange(6)
    before = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    run_updates(model, make_sampler(model, rows), 5)  # the average has not moved yet
    after = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    assert not torch.equal(before, after)


def test_embeddings_come_from_the_averaged_weights() -> None:
    model, rows = make_model(ema_start=0, ema_decay=0.5)
    run_updates(model, make_sampler(model, rows), 20)
    first = torch.arange(6)
    found = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    x = rows.background.obs[first[:, None] + torch.arange(4)].transpose(1, 2).unsqueeze(0)
    x = model._input(x.double(), torch.ones(1, 6).double())
    expected, online = model.average.middle_of(x)[0].mean(-1), model.net.middle_of(x)[0].mean(-1)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, online, atol=1e-4)


def test_an_embedding_can_be_all_steps_of_the_middle() -> None:
    model, rows = make_model(pooling="flatten")
    found = torch.cat(list(model.embed(0, rows.background.obs, torch.arange(6), 8)))
    assert found.shape == (6, 16 * 2)  # 16 channels, 4 steps halved once
    mean, _ = make_model()
    expected = torch.cat(list(mean.embed(0, rows.background.obs, torch.arange(6), 8)))
    torch.testing.assert_close(found.view(6, 16, 2).mean(-1), expected)
    learner = make_learner("tge", pooling="flatten")
    assert prepared(learner)[0].background.reward is not None


def test_a_group_norm_of_single_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="unet_width: expected 16 or more with this horizon"):
        DiffusionConfig(horizon=1, unet_width=8)
    DiffusionConfig(horizon=1, unet_width=16)
    DiffusionConfig(horizon=2, unet_width=8, unet_multipliers=(1, 2))


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
    bounds = {"action_low": torch.full((2,), -0.4), "action_high": torch.full((2,), 0.4)}
    dataset = dataclasses.replace(random_dataset(), **bounds)
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
        TGE.check(random_dataset(expert=False))


def test_the_spec_counts_rows() -> None:
    model, _ = make_model()
    assert model.spec == Spec(5, 2)
