"""The discretised policy head of the VfO study: a categorical over bins per action dimension."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from fastifo import losses, ops
from fastifo.nn.mlp import MLP


class BinnedPolicy(nn.Module):
    """Independent categoricals over K bins of each action dimension, smoothed by a Gaussian kernel.

    With u = f(x) the body's output for one dimension, G the kernel (`losses.gaussian_kernel`), a
    the action and k its bin, the readings of the kernel are

        logits :  -log p_k,            p = softmax(G u)      (logits are smooth over the bins)
        targets:  -sum_m q_m log p_m,  p = softmax(u),  q_m ~ exp(-(a - c_m)^2 / (2 width^2))
        probs  :  -log p_k,            p = G^T softmax(u)    (a mixture of discretised Gaussians)
        none   :  -log p_k,            p = softmax(u)

    Source: arXiv 2507.06701, which does not say what the kernel smooths.
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
        """body: maps [P, B, in] to [P, B, A * K].  widths: the kernel's standard deviation in
        action units, one per member.  reading: logits | targets | probs | none.  compiled: the ops
        by name, see `ops.choose`; None is the compiled ones.
        """
        super().__init__()
        self.body = body
        self.action_dim = action_dim
        self.num_bins = num_bins
        self.reading = reading
        self.ops = ops.choose(True) if compiled is None else compiled
        dtype = next(body.parameters()).dtype
        kernels = [losses.gaussian_kernel(width, num_bins).to(dtype) for width in widths]
        taps, norm = losses.gaussian_taps(widths, num_bins)
        if reading != "logits":  # then the ops do not smooth
            taps, norm = torch.ones(len(widths), 1), torch.ones_like(norm)
        self.register_buffer("kernel", torch.stack(kernels), persistent=False)  # [P, K, K]
        self.register_buffer("taps", taps.to(dtype), persistent=False)  # [P, radius + 1]
        self.register_buffer("norm", norm.to(dtype), persistent=False)  # [P, K]
        self.register_buffer("width", torch.tensor(widths, dtype=dtype), persistent=False)  # [P]

    def outputs(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """u, the body's output before the kernel, [P, B, A, K].

        x: [P, B, in].  mask: see `MLP.forward`.
        """
        members, rows, _ = x.shape
        raw: Tensor = self.body(x, mask)
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
        """Each row of `values`, [P, B, A, K], times its member's matrix, [P, K, K]."""
        return torch.bmm(values.flatten(1, 2), kernel).view_as(values)

    def nll(self, x: Tensor, action: Tensor) -> Tensor:
        """Negative log-likelihood, summed over action dimensions, [P, B].

        x: [P, B, in].  action: in [-1, 1], [P, B, A].
        """
        return self._nll(self.outputs(x), action)

    def _nll(self, raw: Tensor, action: Tensor) -> Tensor:
        log_probs = self._log_probs(raw)
        if self.reading == "targets":
            centre = torch.linspace(-1.0, 1.0, self.num_bins, dtype=raw.dtype, device=raw.device)
            offset = action.unsqueeze(-1) - centre
            target = torch.softmax(-0.5 * (offset / self.width.view(-1, 1, 1, 1)) ** 2, -1)
            return -(target * log_probs).sum((-1, -2))
        index = losses.encode_action(action, self.num_bins)
        return -log_probs.gather(-1, index.unsqueeze(-1)).sum((-1, -2))

    def loss(
        self, logits: Tensor, action: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """L = E[w nll], [P], and its gradient in `logits`, [P, B, A, K].

        logits: u, from `outputs`.  action: in [-1, 1], [P, B, A].  weight: [P, B], None for ones.
        """
        raw = logits.detach()
        if self.reading in ("logits", "none"):
            result: tuple[Tensor, Tensor] = self.ops.binned_nll(
                logits=raw, action=action, weight=weight, taps=self.taps, norm=self.norm
            )
            return result
        with torch.enable_grad():
            nll = self._nll(raw.requires_grad_(), action)
            loss = (nll if weight is None else weight * nll).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), raw)
        return loss.detach(), gradient

    def mode(self, x: Tensor) -> Tensor:
        """Centre of each dimension's most likely bin, the lowest on ties, [P, B, A].

        x: [P, B, in].
        """
        index = self.ops.binned_mode(
            logits=self._decision_logits(x), taps=self.taps, norm=self.norm
        )
        return losses.decode_action(index, self.num_bins, x.dtype)

    def sample(self, x: Tensor, uniform: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Centres of bins sampled by inverse transform, [P, B, A].

        x: [P, B, in].  uniform: random numbers in [0, 1), [P, B, A].  jitter: more of them, which
        spread the action evenly over its bin; None: the centre.
        """
        index = self.ops.binned_sample(
            logits=self._decision_logits(x), uniform=uniform.contiguous(), taps=self.taps,
            norm=self.norm,
        )  # fmt: skip
        action = losses.decode_action(index, self.num_bins, x.dtype)
        if jitter is None:
            return action
        return (action + (jitter - 0.5) * (2.0 / (self.num_bins - 1))).clamp(-1.0, 1.0)

    def _decision_logits(self, x: Tensor) -> Tensor:
        """Logits from which the ops compute this reading's probabilities, [P, B, A, K]."""
        raw = self.outputs(x)
        return (self._log_probs(raw) if self.reading == "probs" else raw).detach()
