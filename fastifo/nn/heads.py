"""Continuous policy heads, with the methods of `BinnedPolicy`: deterministic and Gaussian.

Source: the policies that the authors' code of DILO (deterministic) and SMODICE (squashed Gaussian)
and CORL's IQL (Gaussian with one deviation, or deterministic) train.
"""

import math

import torch
from torch import Tensor, nn

from fastifo.nn.mlp import MLP

MEAN_LIMIT = 7.24  # bounds the squashed Gaussian's mean before tanh; SMODICE's code
LOG_STD_LIMITS = (-5.0, 2.0)  # of the squashed Gaussian; SMODICE's code
NORMAL_LOG_STD_LIMITS = (-20.0, 2.0)  # of the Gaussian with one deviation; CORL's
EDGE = 1e-6  # keeps actions of the data off -1 and 1, where atanh is infinite


class DeterministicPolicy(nn.Module):
    """a = tanh(f(x)), trained with the squared error."""

    def __init__(self, body: MLP, *, sums_error: bool = False) -> None:
        """body: maps [P, B, in] to [P, B, A].  sums_error: the error of an action is the sum over
        its dimensions, not their mean.
        """
        super().__init__()
        self.body = body
        self.sums_error = sums_error

    def outputs(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions before tanh, [P, B, A].  x: [P, B, in].  mask: see `MLP.forward`."""
        raw: Tensor = self.body(x, mask)
        return raw

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """L = E[w mean_j (tanh(f_j) - a_j)^2], [P], and its gradient in `outputs`, [P, B, A].

        With `sums_error` the mean over j is a sum.
        outputs: f, from `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        predicted = outputs.detach().tanh()
        row_weight = torch.ones_like(action[..., 0]) if weight is None else weight
        error = predicted - action
        divisor = 1 if self.sums_error else action.shape[2]
        loss = (row_weight * error.square().sum(-1)).mean(1) / divisor
        gradient = (2.0 * error * (1.0 - predicted.square())) * row_weight.unsqueeze(-1)
        return loss, gradient / (action.shape[1] * divisor)

    def mode(self, x: Tensor) -> Tensor:
        """The action, [P, B, A].  x: [P, B, in]."""
        return self.outputs(x).tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """`mode`: the policy is not stochastic.  Arguments as in `BinnedPolicy.sample`."""
        return self.mode(x)


class GaussianPolicy(nn.Module):
    """a = tanh(u), u ~ N(m(x), s(x)^2): a squashed Gaussian."""

    def __init__(self, body: MLP) -> None:
        """body: maps [P, B, in] to [P, B, 2A]."""
        super().__init__()
        self.body = body

    def outputs(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """m and log s, concatenated and not yet limited, [P, B, 2A].

        x: [P, B, in].  mask: see `MLP.forward`.
        """
        raw: Tensor = self.body(x, mask)
        return raw

    def log_prob(self, outputs: Tensor, pre_tanh: Tensor) -> Tensor:
        """Log-density of the action tanh(u), [P, B].

            log pi(a | x) = sum_j [log N(u_j; m_j, s_j^2) - log(1 - tanh(u_j)^2 + 1e-6)]

        outputs: from `outputs`.  pre_tanh: u, [P, B, A].
        """
        mean, log_std = _limited(outputs)
        density = -0.5 * ((pre_tanh - mean) / log_std.exp()).square() - log_std
        density = density - 0.5 * math.log(2.0 * math.pi)
        return (density - (1.0 - pre_tanh.tanh().square() + EDGE).log()).sum(-1)

    def draw(self, outputs: Tensor, uniform: Tensor, uniform2: Tensor) -> Tensor:
        """A reparameterised sample of u = m + s n, n standard normal, [P, B, A].

        outputs: from `outputs`; gradients flow into it.  uniform, uniform2: see `box_muller`,
        [P, B, A].
        """
        mean, log_std = _limited(outputs)
        return mean + log_std.exp() * box_muller(uniform, uniform2)

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """L = -E[w log pi(a | x)], [P], and its gradient in `outputs`, [P, B, 2A].

        outputs: from `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        pre_tanh = action.clamp(EDGE - 1.0, 1.0 - EDGE).atanh()
        with torch.enable_grad():
            raw = outputs.detach().requires_grad_()
            nll = -self.log_prob(raw, pre_tanh)
            loss = (nll if weight is None else weight * nll).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), raw)
        return loss.detach(), gradient

    def mode(self, x: Tensor) -> Tensor:
        """tanh(m(x)), [P, B, A].  x: [P, B, in]."""
        return _limited(self.outputs(x))[0].tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Sampled actions, [P, B, A].

        x: [P, B, in].  uniform, jitter: two random numbers in [0, 1) for each action dimension,
        which make one normal number, [P, B, A]; both are required.
        """
        assert jitter is not None
        return self.draw(self.outputs(x), uniform, jitter).tanh()


class NormalPolicy(nn.Module):
    """a ~ N(tanh(f(x)), s^2), clipped to [-1, 1]: the deviation s does not depend on x.

    Source: CORL's IQL, which limits log s to -20 to 2; the authors' code (Kostrikov et al. 2021,
    arXiv:2110.06169) to -5 to 2.
    """

    def __init__(
        self, body: MLP, log_std_limits: tuple[float, float] = NORMAL_LOG_STD_LIMITS
    ) -> None:
        """body: maps [P, B, in] to [P, B, A].  log_std_limits: lower and upper limit of log s."""
        super().__init__()
        self.body = body
        self.log_std_limits = log_std_limits
        last_bias = body.layers[-1].bias
        assert isinstance(last_bias, Tensor)
        self.log_std = nn.Parameter(torch.zeros_like(last_bias))  # [P, 1, A]

    def outputs(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """f and log s, concatenated and not yet limited, [P, B, 2A].

        x: [P, B, in].  mask: see `MLP.forward`.
        """
        raw: Tensor = self.body(x, mask)
        return torch.cat([raw, self.log_std.expand_as(raw)], -1)

    def loss(
        self, outputs: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """L = -E[w log N(a; tanh(f), s^2)], [P], and its gradient in `outputs`, [P, B, 2A].

        outputs: from `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        raw, raw_log_std = outputs.detach().chunk(2, -1)
        mean, log_std = raw.tanh(), raw_log_std.clamp(*self.log_std_limits)
        row_weight = torch.ones_like(action[..., 0]) if weight is None else weight
        z = (action - mean) * (-log_std).exp()
        nll = (0.5 * z.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)
        mean_gradient = -z * (-log_std).exp() * (1.0 - mean.square())  # through tanh
        within_limits = (log_std == raw_log_std).to(z.dtype)
        std_gradient = (1.0 - z.square()) * within_limits
        gradient = torch.cat([mean_gradient, std_gradient], -1)
        gradient = gradient * (row_weight / action.shape[1]).unsqueeze(-1)
        return (row_weight * nll).mean(1), gradient

    def mode(self, x: Tensor) -> Tensor:
        """The mean tanh(f(x)), [P, B, A].  x: [P, B, in]."""
        raw: Tensor = self.body(x)
        return raw.tanh()

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Sampled actions, clipped to [-1, 1], [P, B, A].

        x: [P, B, in].  uniform, jitter: two random numbers in [0, 1) for each action dimension,
        which make one normal number, [P, B, A]; both are required.
        """
        assert jitter is not None
        deviation = self.log_std.clamp(*self.log_std_limits).exp()
        return (self.mode(x) + deviation * box_muller(uniform, jitter)).clamp(-1.0, 1.0)


def box_muller(uniform: Tensor, uniform2: Tensor) -> Tensor:
    """Standard normal numbers from two independent uniform ones in [0, 1), of the same shape.

        n = sqrt(-2 log(1 - u)) cos(2 pi u2)

    Source: Box & Muller 1958.
    """
    # 1 - u is in (0, 1], so the logarithm is finite.
    return (-2.0 * (1.0 - uniform).log()).sqrt() * (2.0 * math.pi * uniform2).cos()


def _limited(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-deviation of the squashed Gaussian within their limits, [P, B, A] each."""
    mean, log_std = outputs.chunk(2, -1)
    return mean.clamp(-MEAN_LIMIT, MEAN_LIMIT), log_std.clamp(*LOG_STD_LIMITS)
