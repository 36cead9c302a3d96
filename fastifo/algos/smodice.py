"""SMODICE: state-occupancy matching; the occupancy ratio weights the cloning of the background.

Source: Ma et al. 2022, arXiv:2202.02433. The defaults are those of the VfO study (arXiv
2507.06701); the preset `orig` is the authors' code: Xavier initialisation, a discriminator whose
first layer stays random (they optimise its other layers only), and absorbing states that only the
discriminator sees. `orig` differs in its data: the last transition before a time limit is kept, the
discriminator draws with replacement instead of in epochs, and a feature that never varies is not
divided by its deviation (there by 1e-10).

Notation of the comments: D_O is the background, rho_0 the first observations of its episodes, c(s)
the discriminator's logit.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import INITS, require, require_choice
from fastifo.algos.discriminator import DiscriminatorConfig, relabel_with_discriminator
from fastifo.algos.learner import Learner, Metrics, StageTrainer
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.nn.heads import GaussianPolicy
from fastifo.utils.parallel import one_thread


@dataclass(frozen=True)
class SMODICEConfig(DiscriminatorConfig):
    """Fields of `smodice`."""

    gamma: float = 0.99  # discount
    divergence: str = "kl"  # kl | chi2: f-divergence between occupancies; authors: chi2 on Kitchen
    absorbing: bool = False  # residual at a terminal: reward / (1 - gamma); False: the reward
    absorbing_indicator: bool = False  # terminals lead to an absorbing state, as the authors do
    normalizes: bool = True  # divide policy weights by their batch mean
    max_weight: float = 100.0  # cap on the policy weight; inf is no cap, as in the authors' code
    logit_clamp: float = 10.0  # limit of |reward|; inf is no limit, as in the authors' code
    value_weight_decay: float = 0.0  # weight decay of the value net, added to weight_decay
    entropy_constraint: bool = False  # hold a Gaussian policy's entropy at -action_dim, as authors
    disc_hidden_sizes: tuple[int, ...] = ()  # discriminator's hidden widths; () uses hidden_sizes
    disc_activation: str = ""  # discriminator's activation; empty uses activation
    disc_init: str = ""  # discriminator's initialisation; empty uses init
    disc_frozen_layer: bool = False  # keep the discriminator's first layer random, as the authors
    gradient_penalty: int = 0  # coefficient of the discriminator's gradient penalty; authors 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "gamma", 0.0 <= self.gamma < 1.0, "in [0, 1)")
        require_choice(self, "divergence", ("kl", "chi2"))
        require(self, "max_weight", self.max_weight > 0, "above 0")
        require(self, "logit_clamp", self.logit_clamp > 0, "above 0")
        require(self, "value_weight_decay", self.value_weight_decay >= 0, "at least 0")
        if self.disc_init:
            require_choice(self, "disc_init", INITS)
        require(
            self, "disc_frozen_layer",
            not self.disc_frozen_layer or bool(self.disc_hidden_sizes or self.hidden_sizes),
            "False with a linear discriminator, which has one layer",
        )  # fmt: skip
        require(self, "gradient_penalty", self.gradient_penalty >= 0, "at least 0")
        require(
            self, "entropy_constraint",
            not self.entropy_constraint or self.policy_head == "gaussian",
            "policy_head='gaussian' with it",
        )  # fmt: skip


class SMODICE(Learner):
    """State-occupancy matching through a dual value, and weighted cloning."""

    Config = SMODICEConfig
    name: ClassVar[str] = "smodice"
    native_loss = NativeLoss("smodice", next_from=1, flags={"chi2": ("divergence", "chi2")})
    needs: ClassVar[frozenset[str]] = frozenset({"expert"})

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """Rewards and first observations of episodes; with `entropy_constraint` also noise."""
        noise = {"noise"} if config.entropy_constraint else set()
        return frozenset({"reward", "initial"}) | noise

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Pre-trains the discriminator; R(s) = c(s) becomes the background's reward."""
        seen = dataset
        if configs[0].absorbing_indicator:
            standardizes = configs[0].standardize_obs
            dataset, seen = with_absorbing_states(dataset, standardizes=standardizes)
        return relabel_with_discriminator(
            dataset, configs, trainer, lambda logit: logit, next_obs=False, background_only=True,
            train_on=seen,
        )  # fmt: skip

    def build(self) -> None:
        """Builds the policy and the value; with `entropy_constraint` the log coefficient."""
        self.policy = self.make_policy()
        self.value = self.scalar_net("value")
        self.param_group(self.value, decays=("weight_decay", "value_weight_decay"))
        if self.cfg.entropy_constraint:
            zero = torch.zeros(len(self.seeds), 1, dtype=self.dtype)
            # Logarithm of the entropy coefficient, [P, 1].
            self.log_price = torch.nn.ParameterList([torch.nn.Parameter(zero)])
            self.param_group(self.log_price, decays=())

    def update(self, batch: Batch) -> Metrics:
        """Steps value and policy; returns losses, mean value, residual and policy weights."""
        hp, cfg, b = self.hp, self.cfg, batch.background
        assert b.action is not None
        assert b.reward is not None
        assert batch.initial is not None

        # Value, with delta = R(s) + gamma V(s') - V(s), at a terminal R(s) - V(s), R = c clamped:
        #   kl:    L_V = (1 - gamma) E_{rho_0}[V(s_0)] + log E_{D_O}[exp(delta)]
        #   chi2:  L_V = (1 - gamma) E_{rho_0}[V(s_0)] + E_{D_O}[delta + delta^2 / 2]
        # The gradient flows through every V: there is no target net.
        # Policy weight, constant: xi = exp(delta) (kl) or max(0, delta + 1) (chi2), divided by its
        # batch mean if `normalizes`, up to max_weight.
        B = b.terminal.shape[1]
        v = self.value(torch.cat([b.obs, b.next_obs, batch.initial], 1))  # [P, 3B]
        now, after, initial = (part.contiguous() for part in v.detach().split(B, 1))
        value_loss, *value_gradients, weight, statistics = self.ops.smodice(
            v=now, next_v=after, initial_v=initial,
            reward=torch.maximum(torch.minimum(b.reward, hp.logit_clamp), -hp.logit_clamp),
            terminal=b.terminal, gamma=hp.gamma, temperature=torch.ones_like(hp.gamma),
            max_weight=hp.max_weight, divergence=cfg.divergence, absorbing=cfg.absorbing,
            normalizes=cfg.normalizes,
        )  # fmt: skip

        # Policy: L_pi = -E_{D_O}[xi log pi(a | s)], with the entropy's term if it is constrained.
        outputs = self.policy.outputs(b.obs)
        policy_loss, policy_gradient = self.policy.loss(outputs, b.action, weight)
        if cfg.entropy_constraint:
            policy_gradient = policy_gradient + self.entropy_gradient(outputs, batch)

        self.apply_gradients(
            [(v, torch.cat(value_gradients, 1)), (outputs, policy_gradient)],
            self.value,
            self.policy,
        )
        names = ("residual_mean", "residual_std", "weight_mean", "clip_fraction")
        return {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value_mean_background": now.mean(1),
            **dict(zip(names, statistics.unbind(1), strict=True)),
        }

    def entropy_gradient(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The gradient of coefficient * E[log pi(a | s)] in the policy's outputs, [P, B, 2A].

        It then steps the coefficient towards an entropy of -action_dim, by the loss
        -log_coefficient * E[log pi(a | s) - action_dim].
        Source: Haarnoja et al. 2018, arXiv:1812.05905, as in the SMODICE authors' code.
        """
        policy = self.policy
        assert isinstance(policy, GaussianPolicy)
        assert batch.noise is not None
        leaf = outputs.detach().requires_grad_()
        log_prob = policy.log_prob(leaf, policy.draw(leaf, *batch.noise.chunk(2, -1)))  # [P, B]
        (log_coefficient,) = self.log_price
        coefficient = log_coefficient.detach().exp()
        (gradient,) = torch.autograd.grad((coefficient * log_prob).mean(1).sum(), leaf)
        excess = log_prob.detach() - self.spec.action_dim
        self.minimise(-log_coefficient.squeeze(1) * excess.mean(1), self.log_price)
        return gradient


def with_absorbing_states(dataset: Dataset, *, standardizes: bool) -> tuple[Dataset, Dataset]:
    """The dataset with an absorbing state after every terminal, and the discriminator's data.

    Observations get one more entry, 1 in the absorbing state and 0 elsewhere. A terminal transition
    leads to the absorbing state, whose other entries are 0 after standardisation, and stays
    terminal: its residual is R(s) - V(s). The second dataset has one more transition after it, from
    the absorbing state to itself; the authors' batches for value and policy never draw it.
    standardizes: observations will be standardised by the background's mean.
    """
    with one_thread():
        mean = dataset.background.obs_statistics()[0]
    absorbing = torch.cat([mean if standardizes else torch.zeros_like(mean), mean.new_ones(1)])
    assert dataset.expert is not None
    pairs = [
        _with_absorbing_state(each, absorbing) for each in (dataset.background, dataset.expert)
    ]
    return tuple(  # type: ignore[return-value]
        dataclasses.replace(dataset, background=background, expert=expert)
        for background, expert in zip(*pairs, strict=True)
    )


def _with_absorbing_state(episodes: Episodes, absorbing: Tensor) -> tuple[Episodes, Episodes]:
    """absorbing: the state, [D + 1].  Returns both forms, see `with_absorbing_states`."""
    obs = torch.nn.functional.pad(episodes.obs, (0, 1))
    last = episodes.start[1:] - 1  # transition of each episode
    ends = episodes.terminal[last]
    obs[(episodes.rows()[last] + 1)[ends]] = absorbing
    marked = dataclasses.replace(episodes, obs=obs)
    parts = [marked.take([index]) for index in range(episodes.num_episodes)]
    extended = [_stays(part, absorbing) if bool(part.terminal[-1]) else part for part in parts]
    ranges = episodes.ranges
    if ranges is not None:  # every terminal adds a transition, which shifts the later ones
        added = torch.nn.functional.pad(episodes.terminal.cumsum(0), (1, 0))
        first, end = ranges[:, 0], ranges.sum(1)
        new_first = first + added[first]
        ranges = torch.stack([new_first, end + added[end] - new_first], 1)
    return marked, dataclasses.replace(Episodes.joined(extended), ranges=ranges)


def _stays(episode: Episodes, absorbing: Tensor) -> Episodes:
    """A terminal episode with one more transition, from the absorbing state to itself."""
    true = torch.tensor([True])

    def with_zeros(column: Tensor | None) -> Tensor | None:
        return None if column is None else torch.cat([column, column[-1:] * 0])

    return Episodes(
        obs=torch.cat([episode.obs, absorbing.unsqueeze(0)]),
        start=torch.tensor([0, episode.num_transitions + 1]),
        terminal=torch.cat([torch.zeros_like(episode.terminal), true]),
        timeout=torch.cat([episode.timeout, ~true]),
        action=with_zeros(episode.action),
        reward=with_zeros(episode.reward),
    )
