"""Diffusion model, windows and embeddings of TGE against oracles written from the papers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from algos.parity import prepared
from fastifo.algos.learner import InputSpec
from fastifo.algos.rewards.diffusion import Diffusion, DiffusionConfig, cosine_schedule
from fastifo.algos.rewards.tge import embed_windows
from fastifo.data.dataset import Dataset
from fastifo.data.windows import Scale, first_rows, window_rows, window_starts
from fastifo.nn.heads import box_muller
from fastifo.nn.unet import Identity, UNet
from helpers import make_learner, make_sampler, random_dataset, run_updates
from oracles import diffusion as oracle


def oracle_of(net: UNet, channels: int, config: Any) -> oracle.UNet:
    """The oracle with the weights of member 0."""
    other = oracle.UNet(channels, config.unet_width, config.unet_multipliers, config.horizon)

    def block(name: str, module: Any) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for part in ("first", "second"):
            conv_block = getattr(module, part)
            weights |= {
                f"{name}.{part}.conv.weight": conv_block.conv.weight[0],
                f"{name}.{part}.conv.bias": conv_block.conv.bias[0],
                f"{name}.{part}.norm.weight": conv_block.scale[0],
                f"{name}.{part}.norm.bias": conv_block.shift[0],
            }
        weights |= linear(f"{name}.time", module.level)
        if not isinstance(module.shortcut, Identity):
            weights |= conv(f"{name}.skip", module.shortcut)
        return weights

    def linear(name: str, module: Any) -> dict[str, Tensor]:
        return {f"{name}.weight": module.weight[0].t(), f"{name}.bias": module.bias[0, 0]}

    def conv(name: str, module: Any) -> dict[str, Tensor]:
        return {f"{name}.weight": module.weight[0], f"{name}.bias": module.bias[0]}

    state = linear("time.expand", net.level[0]) | linear("time.reduce", net.level[1])
    for way, end, stages in (("down", "shrink", net.down), ("up", "grow", net.up)):
        for index, stage in enumerate(stages):
            state |= block(f"{way}.{index}.0", stage.first)
            state |= block(f"{way}.{index}.1", stage.second)
            if not isinstance(stage.end, Identity):
                state |= conv(f"{end}.{index}", stage.end)
    for index, middle in enumerate(net.middle):
        state |= block(f"middle.{index}", middle)
    last: Any
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
    middle = model.net.bottleneck(x)[0]
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
                "eps": box_muller(one, two).transpose(1, 2),
            }
        )
    config = {
        "obs_dim": 3, "diffusion_steps": model.cfg.diffusion_steps, "learning_rate": 1e-3,
        "ema_decay": 0.5, "ema_every": 10, "ema_start": 11,
    }  # fmt: skip
    metrics = run_updates(model, sampler, 20)
    trained, average, losses = oracle.run(other, draws, config)
    for actual, expected in zip(metrics, losses, strict=True):
        torch.testing.assert_close(float(actual["denoising_loss"]), expected, rtol=1e-8, atol=0)
    for net, expected_net in ((model.net, trained), (model.average, average)):
        state = oracle_of(net, 6, model.cfg).state_dict()
        for name, value in expected_net.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-9)


def test_the_schedule_falls_from_1_to_0_and_equals_the_oracle() -> None:
    abar = cosine_schedule(20)
    torch.testing.assert_close(abar, oracle.alpha_bar(20))
    assert bool((abar.diff() < 0).all())
    assert abar[0] > 0.98
    assert abar[-1] < 1e-4


def test_an_embedding_does_not_depend_on_call_or_batch() -> None:
    model, rows = make_model()
    first = torch.arange(6)
    once, again = (torch.cat(list(model.embed(0, rows.background.obs, first, 4))) for _ in "ab")
    assert torch.equal(once, again)
    one = torch.cat(list(model.embed(0, rows.background.obs, first[3:4], 4)))
    torch.testing.assert_close(one[0], once[3])


def test_horizons_that_the_net_cannot_halve_are_refused() -> None:
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


def test_a_window_can_start_at_every_transition() -> None:
    model, rows = make_model(diffusion_batch_size=400)
    batch = make_sampler(model, rows).draw(torch.tensor([0]))
    assert batch.windows is not None
    background = random_dataset().background
    begins = rows.background.obs[first_rows(background, 4)].double()
    drawn = batch.windows[0, 0]
    nearest = torch.cdist(drawn, begins).min(1)
    assert float(nearest.values.max()) < 1e-6
    assert len(nearest.indices.unique()) == background.num_transitions


def test_placement_decides_where_a_window_starts() -> None:
    background = random_dataset().background.take([0, 3])  # 5 and 8 transitions
    starts, ends, fits = (
        window_starts(background, 4, placement) for placement in ("starts", "ends", "fits")
    )
    assert starts.tolist() == list(range(13))
    assert ends.tolist() == [0, 0, 0, 0, 1, 5, 5, 5, 5, 6, 7, 8, 9]
    assert fits.tolist() == [0, 1, 1, 1, 1, 5, 6, 7, 8, 9, 9, 9, 9]


def test_states_only_has_no_action_channels() -> None:
    model, rows = make_model(states_only=True)
    assert rows.background.obs.shape[1] == 3
    stage: Any = model.net.down[0]
    assert stage.first.first.conv.weight.shape[2] == 3
    run_updates(model, make_sampler(model, rows), 2)
    clean, noise = torch.randn(2, 1, 8, 3, 4, dtype=torch.float64)
    step, masked = torch.arange(8.0).double()[None], (torch.arange(8) % 2).double()[None]
    share = oracle.alpha_bar(model.cfg.diffusion_steps)[:8, None, None]
    noisy = share.sqrt() * clean[0] + (1.0 - share).sqrt() * noise[0]
    predicted = oracle_of(model.net, 3, model.cfg)(noisy, step[0].long())
    expected = (predicted - noise[0]).square().mean()  # of all values: there is nothing to mask
    torch.testing.assert_close(model.loss(clean, noise, step, masked)[0], expected)


@pytest.mark.parametrize("placement", ["starts", "ends", "fits"])
def test_a_transition_is_embedded_with_the_window_of_its_placement(placement: str) -> None:
    background = random_dataset().background
    _, model, rows = prepared(make_learner("tge", placement=placement, sphere=False))
    assert isinstance(model, Diffusion)
    first = first_rows(background, 4)
    starts = window_starts(background, 4, placement)
    batches = embed_windows(model, 0, rows.background.obs, first[starts], sphere=False)
    embeddings = torch.cat(list(batches)).float()
    for episode in range(background.num_episodes):
        begin, end = (int(x) for x in background.start[episode : episode + 2])
        for step in range(begin, end):
            start = {
                "starts": step,
                "ends": max(begin, step - 3),
                "fits": min(step, max(begin, end - 4)),
            }[placement]
            window = rows.background.obs[int(first[start]) : int(first[start]) + 4]
            x = model._inputs(window.t().double()[None, None], torch.ones(1, 1).double())
            expected = model.net.bottleneck(x)[0, 0].mean(-1).detach()
            torch.testing.assert_close(embeddings[step], expected.float(), rtol=1e-4, atol=1e-6)


def test_a_model_of_few_updates_embeds_with_its_trained_weights() -> None:
    model, rows = make_model()
    first = torch.arange(6)
    before = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    run_updates(model, make_sampler(model, rows), 5)  # the average was not refreshed yet
    after = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    assert not torch.equal(before, after)


def test_embeddings_come_from_the_averaged_weights() -> None:
    model, rows = make_model(ema_start=0, ema_decay=0.5)
    run_updates(model, make_sampler(model, rows), 20)
    first = torch.arange(6)
    embeddings = torch.cat(list(model.embed(0, rows.background.obs, first, 8)))
    x = rows.background.obs[first[:, None] + torch.arange(4)].transpose(1, 2).unsqueeze(0)
    x = model._inputs(x.double(), torch.ones(1, 6).double())
    expected, online = model.average.bottleneck(x)[0].mean(-1), model.net.bottleneck(x)[0].mean(-1)
    torch.testing.assert_close(embeddings, expected)
    assert not torch.allclose(embeddings, online, atol=1e-4)


def test_an_embedding_can_be_all_time_steps_of_the_bottleneck() -> None:
    model, rows = make_model(pooling="flatten")
    flat = torch.cat(list(model.embed(0, rows.background.obs, torch.arange(6), 8)))
    assert flat.shape == (6, 16 * 2)  # 16 channels, 4 time steps halved once
    mean, _ = make_model()
    expected = torch.cat(list(mean.embed(0, rows.background.obs, torch.arange(6), 8)))
    torch.testing.assert_close(flat.view(6, 16, 2).mean(-1), expected)
    learner = make_learner("tge", pooling="flatten")
    assert prepared(learner)[0].background.reward is not None


def test_a_group_norm_of_single_values_is_refused() -> None:
    with pytest.raises(ValueError, match="unet_width: expected 16 or more with this horizon"):
        DiffusionConfig(horizon=1, unet_width=8)
    DiffusionConfig(horizon=1, unet_width=16)
    DiffusionConfig(horizon=2, unet_width=8, unet_multipliers=(1, 2))


def test_the_spec_counts_rows() -> None:
    model, _ = make_model()
    assert model.spec == InputSpec(5, 2)
