"""PW-DICE: the Wasserstein distance between the occupancies of policy and expert in its primal
form; the dual variables weight the cloning of the background.

Source: Yan et al. 2024, arXiv:2311.01331, and the authors' code with the KL regulariser. Two stages
come first: a discriminator, whose logit is the log ratio R(s), and an encoder z(s) that contrasts
successive observations with others. By default nets, discount and learning rates are those of the
VfO study (arXiv 2507.06701), and the preset `orig` has the authors'.
`orig` differs in a few points. The authors draw the expert's observations with weights gamma^t,
with the rest of the weight on the last one, and anew for each of two terms; here they are drawn
uniformly and once. The authors compute the policy's weights once per pass over the data and divide
them by the largest; here they are computed in every update and divided by the batch mean. Their
encoder skips terminal transitions, their policy's batches have 512 transitions with weights of at
least 1e-6 of the largest, one in 100 of their discriminator's updates has the expert's
observations as negatives, and their policy's mean before tanh has no limit.

Notation of the comments: D_E, D_O are expert and background, rho_0 the first observations of the
background's episodes.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastifo.algos.config import require
from fastifo.algos.discriminator import DiscriminatorConfig, relabel_with_discriminator
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, Transitions
from fastifo.nn.mlp import MLP, Init


@dataclass(frozen=True)
class PWDICEConfig(DiscriminatorConfig):
    """Fields of `pw_dice`."""

    gamma: float = 0.99  # discount; authors 0.999
    coupling_temperature: float = 0.5  # epsilon_1: weight of the coupling's regulariser
    temperature: float = 0.5  # epsilon_2: weight of the divergence from the background
    distance_scale: float = 5.0  # multiplies the squared distance of embeddings
    ratio_scale: float = 1.0  # multiplies the log ratio, which is subtracted from the distance
    max_weight: float = 100.0  # cap on the policy weight; inf is no cap, as in the authors' code
    logit_clamp: float = 10.0  # limit of |log ratio|; inf is no limit, as in the authors' code
    policy_learning_rate: float = 3e-4  # learning rate of Adam, policy
    disc_hidden_sizes: tuple[int, ...] = ()  # discriminator's hidden widths; () uses hidden_sizes
    disc_activation: str = ""  # discriminator's activation; empty uses activation
    gradient_penalty: int = 0  # coefficient of the discriminator's gradient penalty; authors 10
    embedding_dim: int = 32  # width of z(s)
    embedding_hidden_sizes: tuple[int, ...] = (128, 128)  # hidden widths of the encoder
    embedding_updates: int = 10_000  # updates of the encoder; authors: 200 passes over the data
    embedding_batch_size: int = 256  # transitions that are contrasted in one update; authors 4096
    embedding_learning_rate: float = 1e-3  # learning rate of Adam, encoder
    embedding_gradient_clip: float = 1.0  # limit of the norm of the encoder's gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        positive = (
            "coupling_temperature", "temperature", "max_weight", "logit_clamp",
            "policy_learning_rate", "embedding_learning_rate", "embedding_gradient_clip",
        )  # fmt: skip
        for name in positive:
            require(self, name, getattr(self, name) > 0, "above 0")
        for name in (
            "distance_scale", "ratio_scale", "gradient_penalty", "embedding_updates",
        ):  # fmt: skip
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "embedding_dim", self.embedding_dim >= 2, "at least 2")
        require(self, "embedding_batch_size", self.embedding_batch_size >= 2, "at least 2")


class EmbeddingLearner(Learner):
    """What `ContrastiveEncoder` and `PWDICE` share: the encoder z(s)."""

    Config = PWDICEConfig
    deviation_epsilon: ClassVar[float] = 1e-4  # authors' code
    embedding: MLP

    def vector_net(
        self, name: str, outputs: int, hidden_sizes: Sequence[int], *, exact_output: bool = False
    ) -> MLP:
        """A net [P, B, width] -> [P, B, outputs].

        name: as in `make_policy`.  exact_output: as in `MLP`.
        """
        init, widths, front = self._net(name, outputs, 1)
        sizes = [widths[0], *hidden_sizes, outputs]
        activation = self.cfg.activation
        return MLP(init, sizes, activation, self.bf16, exact_output=exact_output, front=front)

    def embedding_net(self) -> MLP:
        """The encoder without its projection to the sphere."""
        cfg = self.cfg
        return self.vector_net("embedding", cfg.embedding_dim, cfg.embedding_hidden_sizes)

    def embed(self, x: Tensor) -> Tensor:
        """z(s), of length 1, [P, B, embedding_dim].  x: observations as nets read them."""
        return F.normalize(self.embedding(x), dim=-1)


class ContrastiveEncoder(EmbeddingLearner):
    """An encoder z(s) on the unit sphere in which successive observations are close."""

    name: ClassVar[str] = "embedding"

    def build(self) -> None:
        """Builds the encoder and the factor W of the similarity z^T A z', A = f(W) f(W)^T."""
        self.embedding = self.embedding_net()
        init = Init(self.seeds, "factor", self.cfg.init, self.dtype)
        size = self.cfg.embedding_dim
        factor = [torch.rand(size, size, generator=generator) for generator in init.generators]
        self.factor = nn.Parameter(torch.stack(factor).to(self.dtype))  # [P, E, E]

    def update(self, batch: Batch) -> Metrics:
        """Steps encoder and factor; returns the loss and the share of pairs that it ranks first.

            L = E_i[-l_ii + log sum_j exp(l_ij)],  l_ij = z(s_i)^T A z(s'_j)

        InfoNCE: the batch's other next observations are the negatives. A = f(W) f(W)^T, f softplus.
        Source: van den Oord et al. 2018, arXiv:1807.03748; A as in the authors' code.
        """
        rows = batch.background
        z, next_z = self.embed(rows.obs), self.embed(rows.next_obs)
        factor = F.softplus(self.factor)
        logits = (z @ factor) @ (next_z @ factor).mT  # [P, B, B]
        right = logits.diagonal(dim1=1, dim2=2)
        loss = (logits.logsumexp(2) - right).mean(1)

        parameters = [*self.embedding.parameters(), self.factor]
        gradients = torch.autograd.grad(loss.sum(), parameters)
        squares = [gradient.square().flatten(1).sum(1) for gradient in gradients]
        # Along rows: the order of a sum along columns would depend on the number of members.
        norm = torch.stack(squares, 1).sum(1).sqrt()  # [P]
        scale = (self.hp.embedding_gradient_clip.squeeze(1) / (norm + 1e-6)).clamp(max=1.0)
        clipped = [g * scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
        self.optimizer_step(parameters, clipped)
        ranked_first = (logits.amax(2) <= right).to(self.dtype).mean(1)
        return {"embedding_loss": loss.detach(), "embedding_accuracy": ranked_first}


class PWDICE(EmbeddingLearner):
    """Primal Wasserstein matching of occupancies in its dual form, and weighted cloning."""

    name: ClassVar[str] = "pw_dice"
    native_loss = NativeLoss("pw_dice", next_from=3, embeds=True)
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Expert rows, first observations, log ratios, and a second draw of the background."""
        return cls.needs | {"initial", "reward", "policy"}

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Pre-trains the discriminator, whose logit becomes the reward, and the encoder."""
        stage_configs = [
            dataclasses.replace(
                config,
                batch_size=config.embedding_batch_size,
                learning_rate=config.embedding_learning_rate,
            )
            for config in configs
        ]
        trainer.train(ContrastiveEncoder, stage_configs, configs[0].embedding_updates, dataset)
        return relabel_with_discriminator(
            dataset, configs, trainer, lambda logit: logit, next_obs=False, background_only=True
        )

    def build(self) -> None:
        """Builds the policy, the net of lambda, u_1 and u_2, and the encoder, which is constant."""
        self.policy = self.make_policy()
        self.param_group(self.policy, "policy_learning_rate")
        # lambda(s), u_1(s) and u_2(s); bfloat16 is too coarse for them, as for a value.
        self.duals = self.vector_net("duals", 3, self.cfg.hidden_sizes, exact_output=True)
        self.embedding = self.embedding_net().requires_grad_(False)

    def adopt(self, helpers: Mapping[str, Learner]) -> None:
        """Takes over the trained encoder."""
        trained = helpers[ContrastiveEncoder.name]
        assert isinstance(trained, ContrastiveEncoder)
        self.embedding.load_state_dict(trained.embedding.state_dict())

    def update(self, batch: Batch) -> Metrics:
        """Steps nets and policy; returns losses, mean distance, residual and policy weights."""
        hp, coupled, b, expert = self.hp, batch.background, batch.policy, batch.expert
        assert b is not None
        assert b.action is not None
        assert batch.initial is not None
        assert expert is not None
        B = b.terminal.shape[1]
        obs = torch.cat([coupled.obs, expert.obs, b.obs, b.next_obs, batch.initial], 1)
        duals = self.duals(obs)  # [P, 5B, 3]
        lam, u_1, u_2 = duals[:, 2 * B :, 0], duals[..., 1], duals[:, B : 2 * B, 2]

        # Coupling of s ~ D_O with s_E ~ D_E, rows in pairs, distance d = scale |z(s) - z(s_E)|^2
        # - ratio_scale R(s):
        #   L_1 = epsilon_1 log E[exp((u_1(s) + u_2(s_E) - d(s, s_E)) / epsilon_1)] - E_{D_E}[u_2]
        distance = self.distance(coupled, expert)  # [P, B]
        gain = (u_1[:, :B] + u_2 - distance) / hp.coupling_temperature
        log_mean = gain.logsumexp(1) - math.log(B)
        coupling_loss = hp.coupling_temperature.squeeze(1) * log_mean - u_2.mean(1)

        # Flow, with delta = lambda(s) - gamma lambda(s') - u_1(s), at a terminal lambda - u_1, on a
        # second draw of D_O, which the policy clones:
        #   L_2 = epsilon_2 log E_{D_O}[exp(delta / epsilon_2)] - (1 - gamma) E_{rho_0}[lambda(s_0)]
        # which is SMODICE's loss for V = -lambda, R = -u_1 and a temperature of epsilon_2.
        # Policy weight, constant: exp(delta / epsilon_2) over its batch mean, up to max_weight.
        value = -lam.detach()
        now, after, initial = (part.contiguous() for part in value.split(B, 1))
        cost = u_1[:, 2 * B : 3 * B]
        flow_loss, *gradients, weight, statistics = self.ops.smodice(
            v=now, next_v=after, initial_v=initial, reward=-cost.detach(), terminal=b.terminal,
            gamma=hp.gamma, temperature=hp.temperature, max_weight=hp.max_weight,
            divergence="kl", absorbing=False, normalizes=True,
        )  # fmt: skip

        # Policy: L_pi = -E_{D_O}[w log pi(a | s)].
        outputs = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)

        self.apply_gradients(
            [
                (coupling_loss, torch.ones_like(coupling_loss)),
                (lam, -torch.cat(gradients, 1)),
                (cost, gradients[0]),  # delta contains V(s) and u_1(s) alike
                (outputs, policy_gradient),
            ],
            self.duals,
            self.policy,
        )
        names = ("residual_mean", "residual_std", "weight_mean", "clip_fraction")
        return {
            "value_loss": coupling_loss.detach() + flow_loss,
            "policy_loss": policy_loss,
            "distance_mean": distance.mean(1),
            **dict(zip(names, statistics.unbind(1), strict=True)),
        }

    @torch.no_grad()
    def distance(self, rows: Transitions, expert: Transitions) -> Tensor:
        """d(s, s_E) of each pair of rows, [P, B]."""
        hp = self.hp
        assert rows.reward is not None
        ratio = torch.maximum(torch.minimum(rows.reward, hp.logit_clamp), -hp.logit_clamp)
        squared = (self.embed(rows.obs) - self.embed(expert.obs)).square().sum(-1)
        result: Tensor = hp.distance_scale * squared - hp.ratio_scale * ratio
        return result
