"""Policies other than the binned one, with the same methods: a point and two Gaussians.

Source: what the authors' code of DILO, SMODICE and IQL trains, and cloning as D4RL reports it.
"""

import math

import torch
from torch import Tensor, nn

from fastifo.nn.mlp import MLP

MEAN_LIMIT = 7.24  # of a Gaussian's mean before the tanh
LOG_STD_LIMITS = (-5.0, 2.0)
NORMAL_LOG_STD_LIMITS = (-20.0, 2.0)
EDGE = 1e-6  # keeps actions of the data off -1 and 1, where the inverse of tanh ends


class DeterministicPolicy(nn.Module):
    """One action for an observation, by squared error."""

    def __init__(self, body: MLP) -> None:
        super().__init__()
        self.body = body

    def outputs(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """What the last layer says, [P, B, A].  x: [P, B, in].  kept: see `MLP.forward`."""
        raw: Tensor = self.body(x, kept)
        return raw

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over rows of the squared error, itself the mean over action dimensions,
        [P], and its gradient in `outputs`.

        outputs: of `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        chosen = outputs.detach().tanh()
        scale = torch.ones_like(action[..., 0]) if weight is None else weight
        error = chosen - action
        loss = (scale * error.square().mean(-1)).mean(1)
        gradient = (2.0 * error * (1.0 - chosen.square())) * scale.unsqueeze(-1)
        return loss, gradient / (action.shape[1] * action.shape[2])

    def mode(self, x: Tensor) -> Tensor:
        """[P, B, A]"""
        return self.outputs(x).tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """The same: there is nothing to draw."""
        return self.mode(x)


class GaussianPolicy(nn.Module):
    """tanh of a Gaussian whose mean and deviation depend on the observation."""

    def __init__(self, body: MLP) -> None:
        super().__init__()
        self.body = body

    def outputs(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Means, then logarithms of deviations, before their limits, [P, B, 2A].

        x: [P, B, in].  kept: see `MLP.forward`.
        """
        raw: Tensor = self.body(x, kept)
        return raw

    def log_prob(self, outputs: Tensor, before: Tensor) -> Tensor:
        """Log-density of tanh(before), [P, B].  outputs: of `outputs`.  before: [P, B, A]."""
        mean, log_std = _limited(outputs)
        density = -0.5 * ((before - mean) / log_std.exp()).square() - log_std
        density = density - 0.5 * math.log(2.0 * math.pi)
        return (density - (1.0 - before.tanh().square() + EDGE).log()).sum(-1)

    def draw(self, outputs: Tensor, uniform: Tensor, other: Tensor) -> Tensor:
        """A draw before the tanh, [P, B, A], differentiable in `outputs`.

        uniform, other: [P, B, A], in [0, 1).
        """
        mean, log_std = _limited(outputs)
        return mean + log_std.exp() * normal(uniform, other)

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over rows of the negative log-density, [P], and its gradient in `outputs`.

        outputs: of `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        before = action.clamp(EDGE - 1.0, 1.0 - EDGE).atanh()
        with torch.enable_grad():
            raw = outputs.detach().requires_grad_()
            nll = -self.log_prob(raw, before)
            loss = (nll if weight is None else weight * nll).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), raw)
        return loss.detach(), gradient

    def mode(self, x: Tensor) -> Tensor:
        """tanh of the mean, [P, B, A]."""
        return _limited(self.outputs(x))[0].tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """[P, B, A].  uniform, jitter: the two numbers that make a normal one, [P, B, A] each."""
        assert jitter is not None
        return self.draw(self.outputs(x), uniform, jitter).tanh()


class NormalPolicy(nn.Module):
    """A Gaussian around tanh of what the net says, with one deviation for all observations.

    Source: the authors' code of IQL (Kostrikov et al. 2021, arXiv:2110.06169).
    """

    def __init__(self, body: MLP) -> None:
        super().__init__()
        self.body = body
        last = body.layers[-1].bias
        assert isinstance(last, Tensor)
        self.log_std = nn.Parameter(torch.zeros_like(last))  # [P, 1, A]

    def outputs(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Means before the tanh, then logarithms of deviations, [P, B, 2A].

        x: [P, B, in].  kept: see `MLP.forward`.
        """
        raw: Tensor = self.body(x, kept)
        return torch.cat([raw, self.log_std.expand_as(raw)], -1)

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over rows of the negative log-density, [P], and its gradient in `outputs`.

        outputs: of `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        raw, free = outputs.detach().chunk(2, -1)
        mean, log_std = raw.tanh(), free.clamp(*NORMAL_LOG_STD_LIMITS)
        scale = torch.ones_like(action[..., 0]) if weight is None else weight
        z = (action - mean) * (-log_std).exp()
        nll = (0.5 * z.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)
        slope = -z * (-log_std).exp() * (1.0 - mean.square())
        spread = (1.0 - z.square()) * (log_std == free).to(z.dtype)
        gradient = torch.cat([slope, spread], -1) * (scale / action.shape[1]).unsqueeze(-1)
        return (scale * nll).mean(1), gradient

    def mode(self, x: Tensor) -> Tensor:
        """The mean, [P, B, A]."""
        raw: Tensor = self.body(x)
        return raw.tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Cut at the actions' limits, [P, B, A].

        uniform, jitter: the two numbers that make a normal one, [P, B, A] each.
        """
        assert jitter is not None
        deviation = self.log_std.clamp(*NORMAL_LOG_STD_LIMITS).exp()
        return (self.mode(x) + deviation * normal(uniform, jitter)).clamp(-1.0, 1.0)


def normal(uniform: Tensor, other: Tensor) -> Tensor:
    """Standard normal numbers by Box and Muller, same shape.  uniform, other: in [0, 1)."""
    # 1 - u is in (0, 1], so the logarithm is finite.
    return (-2.0 * (1.0 - uniform).log()).sqrt() * (2.0 * math.pi * other).cos()


def _limited(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_std = outputs.chunk(2, -1)
    return mean.clamp(-MEAN_LIMIT, MEAN_LIMIT), log_std.clamp(*LOG_STD_LIMITS)
