"""The policy head of the study: a categorical over the bins of each action dimension."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from fastifo import losses, ops
from fastifo.nn.mlp import MLP


class BinnedPolicy(nn.Module):
    """Independent categoricals over the bins of each action dimension.

    The Gaussian kernel smooths the logits (`logits`: a smooth function over bins), the target
    (`targets`) or the probabilities (`probs`); the paper does not say which.
    """

    kernel: Tensor
    taps: Tensor
    norm: Tensor
    width: Tensor

    def __init__(
        self,
        body: MLP,
        action_dim: int,
        num_bins: int,
        widths: Sequence[float],
        reading: str,
        compiled: SimpleNamespace | None = None,
    ) -> None:
        """compiled: what `ops.choose` gives; None is the compiled ops."""
        super().__init__()
        self.body = body
        self.action_dim = action_dim
        self.num_bins = num_bins
        self.reading = reading
        self.ops = ops.choose(True) if compiled is None else compiled
        dtype = next(body.parameters()).dtype
        kernels = [losses.gaussian_kernel(width, num_bins).to(dtype) for width in widths]
        taps, norm = losses.gaussian_taps(widths, num_bins)
        if reading != "logits":
            taps, norm = torch.ones(len(widths), 1), torch.ones_like(norm)
        self.register_buffer("kernel", torch.stack(kernels), persistent=False)  # [P, K, K]
        self.register_buffer("taps", taps.to(dtype), persistent=False)  # [P, radius + 1]
        self.register_buffer("norm", norm.to(dtype), persistent=False)  # [P, K]
        self.register_buffer("width", torch.tensor(widths, dtype=dtype), persistent=False)  # [P]

    def outputs(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """What the last layer says before the kernel, [P, B, A, K].  x: [P, B, in].

        kept: of the hidden layers, see `MLP.forward`.
        """
        members, rows, _ = x.shape
        raw: Tensor = self.body(x, kept)
        return raw.view(members, rows, self.action_dim, self.num_bins)

    def log_probs(self, x: Tensor) -> Tensor:
        """Log-probability of every bin, [P, B, A, K].  x: [P, B, in]."""
        return self._log_probs(self.outputs(x))

    def _log_probs(self, raw: Tensor) -> Tensor:
        if self.reading == "logits":
            raw = self._smooth(raw, self.kernel.transpose(1, 2))
        if self.reading == "probs":
            smooth = self._smooth(raw.softmax(-1), self.kernel)
            return smooth.clamp(min=torch.finfo(raw.dtype).tiny).log()
        return raw.log_softmax(-1)

    def _smooth(self, values: Tensor, kernel: Tensor) -> Tensor:
        """values: [P, B, A, K] times one [K, K] matrix per member."""
        return torch.bmm(values.flatten(1, 2), kernel).view_as(values)

    def nll(self, x: Tensor, action: Tensor) -> Tensor:
        """Negative log-likelihood summed over action dimensions, [P, B].

        x: [P, B, in].  action: [P, B, A], in [-1, 1].
        """
        return self._nll(self.outputs(x), action)

    def _nll(self, raw: Tensor, action: Tensor) -> Tensor:
        log_probs = self._log_probs(raw)
        if self.reading == "targets":
            centre = torch.linspace(-1.0, 1.0, self.num_bins, dtype=raw.dtype, device=raw.device)
            offset = action.unsqueeze(-1) - centre
            soft = torch.softmax(-0.5 * (offset / self.width.view(-1, 1, 1, 1)) ** 2, -1)
            return -(soft * log_probs).sum((-1, -2))
        index = losses.encode_action(action, self.num_bins)
        return -log_probs.gather(-1, index.unsqueeze(-1)).sum((-1, -2))

    def loss(
        self, logits: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over rows of the negative log-likelihood, [P], and its gradient in logits.

        logits: of `outputs`.  action: [P, B, A].  weight: [P, B], None for ones.
        """
        raw = logits.detach()
        if self.reading in ("logits", "none"):
            found: tuple[Tensor, Tensor] = self.ops.binned_nll(
                raw, action, weight, self.taps, self.norm
            )
            return found
        with torch.enable_grad():
            nll = self._nll(raw.requires_grad_(), action)
            loss = (nll if weight is None else weight * nll).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), raw)
        return loss.detach(), gradient

    def mode(self, x: Tensor) -> Tensor:
        """Centre of each dimension's likeliest bin, [P, B, A]; the lowest bin on ties."""
        raw = self._for_choice(x)
        return losses.decode_action(
            self.ops.binned_mode(raw, self.taps, self.norm), self.num_bins, x.dtype
        )

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Bin centres drawn by inverse transform, [P, B, A].

        uniform: [P, B, A], in [0, 1).  jitter: the same, spreads the action over its bin.
        """
        raw = self._for_choice(x)
        index = self.ops.binned_sample(raw, uniform.contiguous(), self.taps, self.norm)
        action = losses.decode_action(index, self.num_bins, x.dtype)
        if jitter is None:
            return action
        return (action + (jitter - 0.5) * (2.0 / (self.num_bins - 1))).clamp(-1.0, 1.0)

    def _for_choice(self, x: Tensor) -> Tensor:
        """Logits that the ops turn into this reading's probabilities."""
        raw = self.outputs(x)
        return (self._log_probs(raw) if self.reading == "probs" else raw).detach()
