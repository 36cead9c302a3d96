"""The diffusion oracle equals values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from . import diffusion
from .problems import column


def make_unet(horizon: int = 8, channels: int = 6, seed: int = 0) -> diffusion.UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return diffusion.UNet(channels, 16, (1, 2, 4), horizon)


def random_draw(size: int = 4, horizon: int = 8, seed: int = 3) -> dict[str, Tensor]:
    """3 obs and 2 action channels; every second window is masked."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "windows": torch.randn(size, horizon, 5, dtype=torch.float64, generator=generator),
        "eps": torch.randn(size, horizon, 5, dtype=torch.float64, generator=generator),
        "k": torch.randint(0, 20, (size,), generator=generator),
        "mask": (torch.arange(size) % 2).to(torch.float64),
    }


class Silent(nn.Module):
    """Predicts zero noise and stores its input."""

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        self.input = x
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("horizon", "lengths"),
    [
        (32, [32, 16, 8, 4]),
        (16, [16, 8, 4, 2]),
        (4, [4, 2, 1, 1]),
        (1, [1, 1, 1, 1]),
        (6, [6, 3, 3, 3]),
    ],
)
def test_lengths_halve_while_even(horizon: int, lengths: list[int]) -> None:
    assert diffusion.level_lengths(horizon, 4) == lengths
    unet = diffusion.UNet(5, 16, (1, 2, 4, 8), horizon)
    halvings = len(set(lengths)) - 1
    shrinks = sum(isinstance(layer, nn.Conv1d) for layer in unet.shrink)
    grows = sum(isinstance(layer, nn.ConvTranspose1d) for layer in unet.grow)
    assert (shrinks, grows) == (halvings, halvings)
    x = torch.zeros(2, 5, horizon, dtype=torch.float64)
    assert unet(x, torch.tensor([0, 7])).shape == x.shape


def test_bottleneck_is_256_channels_by_4_steps() -> None:
    unet = diffusion.UNet(5, 32, (1, 2, 4, 8), 32)
    x = torch.zeros(1, 5, 32, dtype=torch.float64)
    bottleneck, skips = unet.encoded(x, unet.time(torch.tensor([0])))
    assert bottleneck.shape == (1, 256, 4)
    assert [tuple(skip.shape[1:]) for skip in skips] == [(32, 32), (64, 16), (128, 8), (256, 4)]
    assert unet.embed(x).shape == (1, 256)


def test_sinusoidal_frequencies_run_from_1_to_1e_minus_4() -> None:
    embedding = diffusion.sinusoidal(torch.tensor([0, 3]), 4)
    assert embedding[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]
    assert embedding[1].tolist() == pytest.approx(expected, rel=1e-12)


def test_residual_block_by_hand() -> None:
    """Channels of constant rows, two per group: GroupNorm makes them -+1 up to its eps."""
    block = diffusion.ResidualBlock(16, 16, 1).double()
    with torch.no_grad():
        for part in (block.first, block.second):
            part.conv.weight.zero_()
            part.conv.weight[:, :, 2] = torch.eye(16)
            part.conv.get_parameter("bias").zero_()
        block.time.weight.zero_()
        block.time.bias.copy_(torch.tensor([10.0, 0.0] * 8))
    x = torch.tensor([0.0, 100.0] * 8).double()[None, :, None].expand(1, 16, 3)
    out = block(x, torch.zeros(1, 1, dtype=torch.float64))

    def mish(z: float) -> float:
        return z * math.tanh(math.log1p(math.exp(z)))

    # First: mish(-1), mish(1); plus 10 and 0; so second: mish(1), mish(-1); plus x.
    expected = torch.tensor([mish(1.0), 100 + mish(-1.0)] * 8).double()
    assert torch.allclose(out, expected[None, :, None].expand(1, 16, 3), rtol=0, atol=1e-5)


def test_schedule_falls_from_1_to_0() -> None:
    level = diffusion.alpha_bar(20)
    assert level.shape == (20,)
    assert bool((level[1:] < level[:-1]).all())
    assert level[0].item() > 0.98
    assert 0 < level[-1].item() < 1e-4

    def curve(k: int) -> float:
        return math.cos((k / 20 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [curve(k + 1) / curve(0) for k in range(19)]
    assert level[:19].tolist() == pytest.approx(expected)
    assert level[19].item() == pytest.approx(level[18].item() * 0.001)


def test_masked_windows_hide_their_actions() -> None:
    draw, silent = random_draw(), Silent()
    loss = diffusion.loss(silent, **draw, obs_dim=3, diffusion_steps=20)
    is_masked = draw["mask"] == 1
    assert silent.input.shape == (4, 6, 8)
    assert torch.equal(silent.input[:, 5], draw["mask"][:, None].expand(4, 8))
    assert not bool(silent.input[is_masked, 3:5].any())
    assert bool(silent.input[~is_masked, 3:5].all())
    level = diffusion.alpha_bar(20)[draw["k"]][:, None, None]
    noisy = level.sqrt() * draw["windows"] + (1 - level).sqrt() * draw["eps"]
    assert torch.allclose(silent.input[:, :3], noisy[:, :, :3].transpose(1, 2))

    square = draw["eps"].square()
    total = square[:, :, :3].sum() + square[~is_masked, :, 3:].sum()
    assert loss.item() == pytest.approx(total.item() / (4 * 8 * 3 + 2 * 8 * 2))


def test_a_masked_loss_does_not_depend_on_actions() -> None:
    draw, unet = random_draw() | {"mask": torch.ones(4)}, make_unet()
    other = dict(draw)
    for name in ("windows", "eps"):
        other[name] = draw[name].clone()
        other[name][:, :, 3:] = 7.0
    first, second = (
        diffusion.loss(unet, **d, obs_dim=3, diffusion_steps=20).item() for d in (draw, other)
    )
    assert first == second


def test_embeddings_lie_on_the_unit_sphere() -> None:
    unet, draw = make_unet(), random_draw()
    x = diffusion.network_input(draw["windows"], torch.ones(4), 3)
    embedding, plain = unet.embed(x), unet.embed(x, normalizes=False)
    assert embedding.shape == (4, 64)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(4).double())
    assert torch.allclose(embedding * plain.norm(dim=1, keepdim=True), plain)
    assert torch.equal(embedding, unet.embed(x))
    bottleneck = unet.encoded(x, unet.time(torch.zeros(4)))[0]
    assert torch.allclose(plain, bottleneck.sum(dim=2) / 2)


def test_windows_repeat_the_last_observation_without_action() -> None:
    obs = column([1.0, 2.0, 3.0])[:, None]
    action = column([0.1, 0.2, 0.3])[:, None]
    inside = diffusion.pad_window(obs, action, 0, 3)
    assert inside.tolist() == [[1, 0.1], [2, 0.2], [3, 0.3]]
    beyond = diffusion.pad_window(obs, action, 2, 4)
    assert beyond.tolist() == [[3, 0.3], [3, 0], [3, 0], [3, 0]]


def test_ema_copies_first_and_averages_every_tenth_update() -> None:
    config = {"ema_every": 10, "ema_decay": 0.995, "ema_start": 2000}
    ema, net = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
    with torch.no_grad():
        net.weight.fill_(1.0)
        ema.weight.fill_(0.0)
    averages = []
    for number in (9, 1990, 1999, 2000, 2001, 2010):
        if number > 1990:
            with torch.no_grad():
                net.weight.fill_(3.0)
        diffusion.track_ema(ema, net, number, config)
        averages.append(ema.weight.item())
    once = 0.995 + 0.005 * 3
    assert averages == pytest.approx([0, 1, 1, once, once, 0.995 * once + 0.005 * 3])


def test_diffusion_training_lowers_the_loss_and_keeps_its_input() -> None:
    config = {"obs_dim": 3, "diffusion_steps": 20, "learning_rate": 2e-3}
    config |= {"ema_decay": 0.5, "ema_every": 2, "ema_start": 4}
    unet, draw = make_unet(), random_draw()
    before = [parameter.detach().clone() for parameter in unet.parameters()]
    trained, ema, losses = diffusion.run(unet, [draw] * 12, config)
    assert losses[-1] < 0.7 * losses[0]
    pairs = zip(before, unet.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
    at_10 = diffusion.run(unet, [draw] * 10, config)
    expected = zip(at_10[1].parameters(), trained.parameters(), ema.parameters(), strict=True)
    assert all(torch.allclose(0.5 * old + 0.5 * new, now) for old, new, now in expected)
