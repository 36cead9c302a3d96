"""DILO: a value of successive observations matches the expert's visits and weights the cloning of
the background's actions.

Source: Sikchi et al. 2024, arXiv:2406.08805, and the authors' code. The defaults are those of the
VfO study (arXiv 2507.06701), which follows the true gradient of the loss; the preset `orig` has the
authors' orthogonal gradient and, as they do, takes the policy's weight from V after its step.
Without `orthogonal` it is from V before the step, like the weights of the study's other methods.

Notation of the comments: E_E, E_B are means over expert and background triples (s, s', s'').
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
    """Fields of `dilo`."""

    gamma: float = 0.99  # discount
    beta: float = 0.5  # share of the expert in the mixture over which the residual is taken
    residual_share: float = -1.0  # weight l of the residual in the value loss; -1: the paper's
    # The paper's is 1 / (1 + beta (1 - gamma)). The authors' code has 0.8, with a semi-gradient;
    # with the true gradient that loss has its minimum at values near -1 / (2 (1 - gamma)^2).
    inverse_temperature: float = 0.1  # tau: multiplies the value in the policy weight; authors 0.06
    max_weight: float = 100.0  # cap on the policy weight; inf is no cap
    orthogonal: bool = False  # the authors' orthogonal gradient, with twin values and targets
    backward_share: float = 0.5  # eta: weight of the backward residual, with orthogonal
    polyak: float = 0.005  # rate at which the target values track the values, with orthogonal
    policy_learning_rate: float = 3e-4  # learning rate of Adam, policy
    policy_decay_updates: int = 0  # cosine decay of the policy's rate to 0 over these; 0: constant

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
    """Distribution matching by a value of successive observations, without a discriminator."""

    Config = DILOConfig
    name: ClassVar[str] = "dilo"
    native_loss = NativeLoss(
        "dilo", next_from=0, pairs=("scalar",), unsupported=("orthogonal", "policy_decay_updates")
    )
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Expert rows; every row has three successive observations."""
        return cls.needs | {"triples"}

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """Expert and background each require an episode of two transitions."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        for name in ("expert", "background"):
            episodes = getattr(dataset, name)
            if int(episodes.lengths.max()) < 2:
                raise ValueError(
                    f"dilo learns from three successive observations; the {name} has no episode "
                    "of two transitions"
                )

    def build(self) -> None:
        """Builds the policy and V(s, s'); with `orthogonal`, twin values with target copies."""
        self.policy = self.make_policy(sums_error=True)  # as in the authors' code
        decay = self.cfg.policy_decay_updates
        self.param_group(self.policy, "policy_learning_rate", cosine_updates=decay)
        self.value = self.scalar_net("value", inputs=2)  # V(s, s')
        self.heads = [self.value]
        if self.cfg.orthogonal:
            self.twin = self.scalar_net("twin", inputs=2)
            self.heads.append(self.twin)
            self.value_target = self.target_copy(self.value, every=1)
            self.twin_target = self.target_copy(self.twin, every=1)

    def update(self, batch: Batch) -> Metrics:
        """Steps values and policy; returns losses, mean values, residual and policy weights."""
        expert, background = batch.expert, batch.background
        assert expert is not None
        assert expert.after_obs is not None
        assert background.after_obs is not None
        assert background.action is not None
        B = background.terminal.shape[1]
        obs = torch.cat([expert.obs, background.obs], 1)
        next_obs = torch.cat([expert.next_obs, background.next_obs], 1)
        after_obs = torch.cat([expert.after_obs, background.after_obs], 1)
        pair = torch.cat([obs, next_obs], -1)  # (s, s'), [P, 2B, 2 width], the expert's rows first
        next_pair = torch.cat([next_obs, after_obs], -1)  # (s', s'')

        # Value: L = (1 - l) E_B[V(s, s')] + l {beta E_E[f*(y)] + (1 - beta) E_B[f*(y) - y]}, with
        # y = gamma V(s', s'') - V(s, s'), f*(y) = y w - (w - 1)^2, w = max(y / 2 + 1, 0) (chi^2)
        # and l = `residual_share`.
        gradient_of = self.orthogonal_gradient if self.cfg.orthogonal else self.true_gradient
        value_loss, value_gradients, value, statistics = gradient_of(pair, next_pair, B)
        utility = value[:, B:]  # V(s, s') of the background
        if self.cfg.orthogonal:
            self.optimizer_step(self.value_parameters(), value_gradients)
            with torch.no_grad():  # V after its step, as in the authors' code
                utility = torch.minimum(*(head(pair[:, B:]) for head in self.heads))

        # Policy: L_pi = -E_B[w log pi(a | s)], w = min(exp(tau V(s, s')), max_weight), constant.
        exponent = self.hp.inverse_temperature * utility
        weight = torch.minimum(exponent, self.hp.max_weight.log()).exp()
        outputs = self.policy.outputs(background.obs)
        policy_loss, policy_gradient = self.policy.loss(outputs, background.action, weight)
        policy_parameters = list(self.policy.parameters())
        policy_gradients = torch.autograd.grad([outputs], policy_parameters, [policy_gradient])

        if self.cfg.orthogonal:
            self.optimizer_step(policy_parameters, policy_gradients)
        else:
            self.optimizer_step(
                [*self.value_parameters(), *policy_parameters],
                [*value_gradients, *policy_gradients],
            )
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_expert": value[:, :B].mean(1),
            "value_mean_background": value[:, B:].mean(1),
            "residual_mean": statistics[:, 0],
            "residual_std": statistics[:, 1],
            "weight_mean": weight.mean(1),
            "clip_fraction": (exponent >= self.hp.max_weight.log()).to(weight.dtype).mean(1),
        }

    def value_parameters(self) -> list[Tensor]:
        """Parameters of the value heads."""
        return [parameter for head in self.heads for parameter in head.parameters()]

    def residual_share(self) -> Tensor:
        """l in the value loss, [P, 1]."""
        hp = self.hp
        balanced = 1.0 / (1.0 + hp.beta * (1.0 - hp.gamma))
        return torch.where(hp.residual_share < 0.0, balanced, hp.residual_share)

    def value_loss(self, v: Tensor, next_v: Tensor, B: int) -> tuple[Tensor, ...]:
        """L [P] and its gradients in v = V(s, s') and next_v = V(s', s''), [P, 2B] each; policy
        weights [P, B]; statistics of the background's y, [P, 4].
        """
        hp = self.hp
        return self.ops.dilo(  # type: ignore[no-any-return]
            v=v, next_v=next_v, gamma=hp.gamma, beta=hp.beta, residual_share=self.residual_share(),
            inverse_temperature=hp.inverse_temperature, max_weight=hp.max_weight, expert_rows=B,
            terminal=torch.zeros_like(v),  # the first transition of a triple never ends an episode
        )  # fmt: skip

    def true_gradient(
        self, pair: Tensor, next_pair: Tensor, B: int
    ) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor]:
        """The gradient of L through both V(s, s') and V(s', s'').

        Returns L [P], its gradients in `value_parameters`, V(s, s') [P, 2B], statistics [P, 4].
        """
        v = self.value(torch.cat([pair, next_pair], 1))  # [P, 4B]
        now, after = (part.contiguous() for part in v.detach().split(2 * B, 1))
        loss, *gradients, _, statistics = self.value_loss(now, after, B)
        parameters = self.value_parameters()
        return (
            loss, torch.autograd.grad([v], parameters, [torch.cat(gradients, 1)]), now, statistics
        )  # fmt: skip

    def orthogonal_gradient(
        self, pair: Tensor, next_pair: Tensor, B: int
    ) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor]:
        """The authors' gradient: (1 - kappa) g_f + g_b + g_l, kappa = <g_f, g_b> / <g_f, g_f>.

        g_f: of the residual's terms in V(s, s'), with the target's V(s', s''). g_b: in V(s', s''),
        with the target's V(s, s'), times eta (`backward_share`). g_l: of the linear term
        (1 - l) E_B[V(s, s')]. The target is the smaller of two; each head counts half. Returns as
        `true_gradient`, with the smaller V(s, s').
        """
        hp, parameters = self.hp, self.value_parameters()
        with torch.no_grad():
            pairs = torch.cat([pair, next_pair], 1)
            target = torch.minimum(self.value_target(pairs), self.twin_target(pairs))
            target_now, target_after = (part.contiguous() for part in target.split(2 * B, 1))
        online = [head(pairs) for head in self.heads]  # [P, 4B] each
        losses, forward, backward, linear = [], [], [], []
        for v in online:
            now, after = (part.contiguous() for part in v.detach().split(2 * B, 1))
            loss, now_gradient, *_, statistics = self.value_loss(now, target_after, B)
            losses.append(loss)
            _, _, after_gradient, *_ = self.value_loss(target_now, after, B)
            zeros = torch.zeros_like(now)
            linear_share = (1.0 - self.residual_share()).expand(-1, B) / B
            now_linear = torch.cat([zeros[:, :B], linear_share], 1)
            forward.append(0.5 * torch.cat([now_gradient - now_linear, zeros], 1))
            backward.append(0.5 * torch.cat([zeros, hp.backward_share * after_gradient], 1))
            linear.append(0.5 * torch.cat([now_linear, zeros], 1))
        g_f, g_b, g_l = (
            torch.autograd.grad(online, parameters, part, retain_graph=part is not linear)
            for part in (forward, backward, linear)
        )
        kappa = inner_product(g_f, g_b) / inner_product(g_f, g_f).clamp(min=1e-10)  # [P]
        gradients = [
            (1.0 - kappa.view(-1, *[1] * (f.ndim - 1))) * f + b + lin
            for f, b, lin in zip(g_f, g_b, g_l, strict=True)
        ]
        value = torch.minimum(*(v.detach()[:, : 2 * B] for v in online))
        return torch.stack(losses).mean(0), gradients, value, statistics


def inner_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Each member's inner product of two gradients over all parameters, [P].

    first, second: one tensor [P, ...] per parameter.
    """
    terms = [(a * b).flatten(1).sum(1) for a, b in zip(first, second, strict=True)]
    return sum(terms[1:], terms[0])
