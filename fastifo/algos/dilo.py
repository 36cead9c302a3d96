"""DILO: a value of successive observations, whose size weights the background's actions.

Source: Sikchi et al. 2024, arXiv:2406.08805, and its authors' code. The defaults are those of the
VfO study (arXiv 2507.06701), which differentiates the loss as it stands; the preset `orig` makes
the orthogonal gradient of the authors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import Config, require
from fastifo.algos.learner import Learner, Metrics
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch


@dataclass(frozen=True)
class DILOConfig(Config):
    gamma: float = 0.99  # discount
    beta: float = 0.5  # share of the expert in the mixture that the residual is taken over
    residual_share: float = -1.0  # weight of the residual against the value of the background: 0.8
    # in the authors' code, where it holds a semi-gradient. Differentiated, it has its minimum at
    # values near -1 / (2 * (1 - gamma)^2); -1 takes the paper's, 1 / (1 + beta * (1 - gamma)).
    inverse_temperature: float = 0.1  # tau: multiplies the value in the weight; authors 3 / 50
    max_weight: float = 100.0  # cap on the policy weight; inf has none
    orthogonal: bool = False  # twin values, targets and the authors' projected gradient
    backward_share: float = 0.5  # eta: weight of the backward residual in the orthogonal gradient
    polyak: float = 0.005  # share of the online value that its target takes, where orthogonal
    policy_learning_rate: float = 3e-4  # Adam, policy
    policy_decay_updates: int = 0  # the policy's rate falls to 0 over so many; 0 keeps it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        for name in ("beta", "polyak"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        require(
            self, "residual_share",
            self.residual_share == -1.0 or 0.0 <= self.residual_share <= 1.0, "in [0, 1], or -1",
        )  # fmt: skip
        require(self, "inverse_temperature", self.inverse_temperature >= 0, "at least 0")
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "backward_share", self.backward_share >= 0, "at least 0")
        require(self, "policy_learning_rate", self.policy_learning_rate > 0, "above 0")
        require(self, "policy_decay_updates", self.policy_decay_updates >= 0, "at least 0")


class DILO(Learner):
    Config = DILOConfig
    name: ClassVar[str] = "dilo"
    native_loss = NativeLoss(
        "dilo", next_from=0, pairs=("scalar",), unsupported=("orthogonal", "policy_decay_updates")
    )
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        return cls.needs | {"triples"}

    @classmethod
    def check(cls, dataset: Dataset) -> None:
        super().check(dataset)
        for name in ("expert", "background"):
            episodes = getattr(dataset, name)
            if int(episodes.lengths.max()) < 2:
                raise ValueError(
                    f"dilo learns from three successive observations; the {name} has no episode "
                    "of two transitions"
                )

    def build(self) -> None:
        self.policy = self.make_policy()
        decay = self.cfg.policy_decay_updates
        self.param_group(self.policy, "policy_learning_rate", cosine_updates=decay)
        self.value = self.scalar_net("value", inputs=2)
        self.heads = [self.value]
        if self.cfg.orthogonal:
            self.twin = self.scalar_net("twin", inputs=2)
            self.heads.append(self.twin)
            self.value_target = self.target_of(self.value, every=1)
            self.twin_target = self.target_of(self.twin, every=1)

    def update(self, batch: Batch) -> Metrics:
        e, b = batch.expert, batch.background
        assert e is not None
        assert e.after_obs is not None
        assert b.after_obs is not None
        assert b.action is not None
        size = b.terminal.shape[1]
        obs, next_obs = torch.cat([e.obs, b.obs], 1), torch.cat([e.next_obs, b.next_obs], 1)
        first = torch.cat([obs, next_obs], -1)  # [P, 2B, 2W]
        second = torch.cat([next_obs, torch.cat([e.after_obs, b.after_obs], 1)], -1)

        # Value: the dual of matching the expert's visits, by the chi2 divergence.
        step = self._orthogonal if self.cfg.orthogonal else self._true
        value_loss, gradients, value, statistics = step(first, second, size)

        # Policy: log-likelihood of the background's actions, weighted by exp(tau * value).
        exponent = self.hp.inverse_temperature * value[:, size:]
        weight = torch.minimum(exponent, self.hp.max_weight.log()).exp()
        outputs = self.policy.outputs(b.obs)
        policy_loss, gradient = self.policy.loss(outputs, b.action, weight)
        policy_parameters = list(self.policy.parameters())
        policy_gradients = torch.autograd.grad([outputs], policy_parameters, [gradient])

        self._step([*self._value_parameters(), *policy_parameters], [*gradients, *policy_gradients])
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": value[:, :size].mean(1),
            "value_mean_background": value[:, size:].mean(1),
            "residual_mean": statistics[:, 0],
            "residual_std": statistics[:, 1],
            "weight_mean": weight.mean(1),
            "clip_fraction": (exponent >= self.hp.max_weight.log()).to(weight.dtype).mean(1),
        }

    def _value_parameters(self) -> list[Tensor]:
        return [parameter for net in self.heads for parameter in net.parameters()]

    def _share(self) -> Tensor:
        """Of the residual, [P, 1]."""
        hp = self.hp
        balanced = 1.0 / (1.0 + hp.beta * (1.0 - hp.gamma))
        return torch.where(hp.residual_share < 0.0, balanced, hp.residual_share)

    def _judge(self, v: Tensor, next_v: Tensor, size: int) -> tuple[Tensor, ...]:
        """Loss [P], gradients in v and next_v [P, 2B], weights, statistics of the residual."""
        hp = self.hp
        return self.ops.dilo(  # type: ignore[no-any-return]
            v, next_v, torch.zeros_like(v), hp.gamma, hp.beta, self._share(),
            hp.inverse_temperature, hp.max_weight, size,
        )  # fmt: skip

    def _true(
        self, first: Tensor, second: Tensor, size: int
    ) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor]:
        """The loss's own gradient, through both values."""
        v = self.value(torch.cat([first, second], 1))
        now, after = (part.contiguous() for part in v.detach().split(2 * size, 1))
        loss, *gradients, _, statistics = self._judge(now, after, size)
        found = torch.autograd.grad([v], self._value_parameters(), [torch.cat(gradients, 1)])
        return loss, found, now, statistics

    def _orthogonal(
        self, first: Tensor, second: Tensor, size: int
    ) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor]:
        """Forward gradient, and of the backward one what is orthogonal to it."""
        hp, parameters = self.hp, self._value_parameters()
        with torch.no_grad():
            both = torch.cat([first, second], 1)
            target = torch.minimum(self.value_target(both), self.twin_target(both))
            target_now, target_after = (p.contiguous() for p in target.split(2 * size, 1))
        online = [net(both) for net in self.heads]  # twice [P, 4B]
        losses, forward, backward, linear = [], [], [], []
        for v in online:
            now, after = (part.contiguous() for part in v.detach().split(2 * size, 1))
            none = torch.zeros_like(now)
            loss, in_now, *_, statistics = self._judge(now, target_after, size)
            losses.append(loss)
            # The value's own term is part of the loss; the projection leaves it alone.
            own = torch.cat([none[:, :size], (1.0 - self._share()).expand(-1, size) / size], 1)
            _, _, in_after, *_ = self._judge(target_now, after, size)
            # Both heads count half.
            forward.append(0.5 * torch.cat([in_now - own, none], 1))
            backward.append(0.5 * torch.cat([none, hp.backward_share * in_after], 1))
            linear.append(0.5 * torch.cat([own, none], 1))
        g_f, g_b, g_l = (
            torch.autograd.grad(online, parameters, parts, retain_graph=parts is not linear)
            for parts in (forward, backward, linear)
        )
        shared = sum(((f * b).flatten(1).sum(1) for f, b in zip(g_f, g_b, strict=True)))
        length = sum(f.square().flatten(1).sum(1) for f in g_f)
        assert isinstance(shared, Tensor)
        assert isinstance(length, Tensor)
        kappa = shared / length.clamp(min=1e-10)
        found = [
            (1.0 - kappa.view(-1, *[1] * (f.ndim - 1))) * f + b + own
            for f, b, own in zip(g_f, g_b, g_l, strict=True)
        ]
        value = torch.minimum(*(v.detach()[:, : 2 * size] for v in online))
        return torch.stack(losses).mean(0), found, value, statistics
