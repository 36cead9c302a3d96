"""The contract of an algorithm: a config, `build`, `update`, and for two-stage methods `prepare`.

A learner trains P members at once. Everything in `update` is [P, ...]; losses are one per member,
so the gradient of their sum is every member's own gradient.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fastifo import ops
from fastifo.algos.config import Config, float_fields
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch
from fastifo.nn.binned import BinnedPolicy
from fastifo.nn.encoder import Encoder
from fastifo.nn.heads import DeterministicPolicy, GaussianPolicy, NormalPolicy
from fastifo.nn.mlp import MLP, Init, ScalarNet
from fastifo.nn.optimizer import Adam, ParamGroup
from fastifo.utils.devices import PRECISIONS, tf32

Metrics = dict[str, Tensor]  # name -> [P]
Net = TypeVar("Net", bound=nn.Module)
Policy = BinnedPolicy | DeterministicPolicy | GaussianPolicy | NormalPolicy


@dataclass(frozen=True)
class InputSpec:
    """Sizes and statistics of the data a learner is built for."""

    obs_dim: int
    action_dim: int
    obs_mean: Tensor | None = None  # [D], needed where observations are standardised
    obs_std: Tensor | None = None  # [D]


class StageTrainer(Protocol):
    """What `prepare` can ask of the engine."""

    @property
    def folder(self) -> Path | None:
        """For files of a stage; None keeps nothing."""

    @property
    def seeds(self) -> Sequence[int]:
        """Of the population's members."""

    @property
    def device(self) -> torch.device:
        """Where the run trains."""

    @property
    def precision(self) -> str:
        """Of the run."""

    @property
    def progress(self) -> bool:
        """Whether long work shows how far it is."""

    def has_diverged(self, member: int) -> bool:
        """Whether a member's losses were not finite."""

    def mark_diverged(self, member: int) -> None:
        """Says so of a member whose part another one trained."""

    def note(self, name: str, value: Any) -> None:
        """Keeps something in the run's config.json."""

    def train(
        self,
        helper: type["Learner"],
        configs: Sequence[Any],
        num_updates: int,
        dataset: Dataset,
        spec: InputSpec | None = None,
        monitor: "StageMonitor | None" = None,
        places: Sequence[int] | None = None,
    ) -> "Learner":
        """Trains a helper with the same engine, seeds and precision.

        spec: its sizes, where they are not the run's own.  monitor: looks at it now and then.
        places: of the members that it is for, one config each; None is all.
        """


@dataclass(frozen=True)
class StageMonitor:
    """Called with the helper after every `every` updates and the last; what it says is logged."""

    every: int
    look: Callable[["Learner"], Metrics]


class Learner(nn.Module):
    """Base of every algorithm."""

    Config: ClassVar[type[Config]] = Config
    needs: ClassVar[frozenset[str]] = frozenset()  # of: expert, reward
    name: ClassVar[str]
    one_dataset: ClassVar[bool] = False  # what it makes of several would mix them
    deviation_epsilon: ClassVar[float] = 0.0  # added to deviations where observations are divided
    native_loss: ClassVar[NativeLoss | None] = None  # its compiled `update`; None: torch only
    period: ClassVar[int] = 1  # updates after which the same code runs again; see `phase`

    policy: Policy

    def __init__(
        self,
        configs: Sequence[Any],
        seeds: Sequence[int],
        spec: InputSpec,
        precision: str = "fp32",
        *,
        fused: bool = True,
    ) -> None:
        """fused: run the compiled ops, else their references."""
        super().__init__()
        self.fused = fused
        self.ops = ops.choose(fused)
        self.cfg: Any = configs[0]  # for the fields that members share
        self.configs = tuple(configs)
        self.seeds = tuple(seeds)
        self.spec = spec
        self.precision = precision
        self.dtype, self.bf16 = PRECISIONS[precision]
        self.num_updates = 0
        self.phase = 0  # of this update: updates made before it, modulo `period`
        self.counter = torch.zeros(1, dtype=torch.int64)  # the same on the device, for the ops
        self.target_of_parameter: dict[Tensor, Tensor] = {}
        self.target_period = 1
        self.targets_copy_until = 0  # updates in which targets are copies, whatever `polyak` says
        self.param_groups: list[tuple[list[nn.Parameter], str, tuple[str, ...], int, int]] = []
        floats = float_fields(type(configs[0]))
        columns = {
            name: torch.tensor([[getattr(config, name)] for config in configs], dtype=self.dtype)
            for name in floats
        }
        self.hp = SimpleNamespace(**columns)  # float fields, [P, 1] each
        cfg = self.cfg
        # Observations may carry one number more that says whether an episode is over.
        self.extra_inputs = int(getattr(cfg, "absorbing_indicator", False))
        width = spec.obs_dim + self.extra_inputs
        self.encoder = Encoder(width, cfg.encoder_scales, cfg.standardize_obs, self.dtype)
        if spec.obs_mean is not None and spec.obs_std is not None:
            self.encoder.set_statistics(spec.obs_mean, spec.obs_std + self.deviation_epsilon)
        self.net_names: set[str] = set()
        self.build()
        self.optimizer: Adam | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        definer = {
            name: next(i for i, base in enumerate(cls.__mro__) if name in vars(base))
            for name in ("native_loss", "update")
        }
        if definer["update"] < definer["native_loss"]:  # the compiled loss is another update's
            cls.native_loss = None

    # What an algorithm writes.

    def build(self) -> None:
        """Makes the nets."""
        raise NotImplementedError

    def update(self, batch: Batch) -> Metrics:
        """One update of every member; straight-line tensor code."""
        raise NotImplementedError

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """What the sampler must draw beside background rows: see `Batch`."""
        return cls.needs

    @classmethod
    def batch_rows(cls, config: Any) -> int:
        """Rows of each source in one update."""
        return int(config.batch_size)

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The dataset that `update` trains on; two-stage methods relabel it here."""
        return dataset

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        """Raises ValueError where the fields ask for what this machine lacks, before data is read
        or made.
        """

    @classmethod
    def check_fields(cls, dataset: Dataset, config: Any, device: torch.device) -> None:
        """Raises ValueError where the fields ask for what this dataset lacks."""

    @classmethod
    def check_training(cls, dataset: Dataset, config: Any) -> None:
        """Raises ValueError where its last stage could not learn; rewards alone do not need it."""

    @classmethod
    def check(cls, dataset: Dataset) -> None:
        """Raises ValueError where the dataset lacks what the method needs."""
        if "expert" in cls.needs and dataset.expert is None:
            raise ValueError(
                f"{cls.name} needs expert observations; the dataset has none. "
                "Pass expert=[{'obs': ...}, ...] to Dataset.from_episodes"
            )
        if "reward" in cls.needs and dataset.background.reward is None:
            raise ValueError(
                f"{cls.name} needs the background's rewards; the dataset has none. "
                "Pass 'reward' in every background episode"
            )
        reward = dataset.background.reward
        if "reward" in cls.needs and reward is not None and not bool(reward.isfinite().all()):
            raise ValueError(
                f"{cls.name} learns from the background's rewards; some are nan or infinite. "
                "Drop those episodes"
            )
        if dataset.background.action is None:
            raise ValueError(f"{cls.name} needs the background's actions; the dataset has none")

    @property
    def noise_width(self) -> int:
        """Numbers in [0, 1) for each row, where the batch needs noise."""
        return 2 * self.spec.action_dim

    @property
    def window(self) -> int:
        """Successive observations of a row, where the batch needs windows."""
        return 0

    # What an algorithm calls.

    def make_policy(self, name: str = "policy", inputs: int = 1) -> Policy:
        """A policy with the config's head.  inputs: observations that it reads, side by side."""
        cfg = self.cfg
        numbers = {"binned": cfg.num_bins, "gaussian": 2}.get(cfg.policy_head, 1)
        shape = self._net(name, self.spec.action_dim * numbers, inputs)
        body = MLP(*shape, cfg.activation, self.bf16)
        if cfg.policy_head == "deterministic":
            return DeterministicPolicy(body)
        if cfg.policy_head == "gaussian":
            return GaussianPolicy(body)
        if cfg.policy_head == "normal":
            return NormalPolicy(body)
        widths = self.hp.kernel_width.squeeze(1).tolist()
        return BinnedPolicy(
            body, self.spec.action_dim, cfg.num_bins, widths, cfg.kernel_reading, self.ops
        )

    def scalar_net(self, name: str, inputs: int = 1) -> ScalarNet:
        """One number of `inputs` observations side by side."""
        return ScalarNet(*self._net(name, 1, inputs), self.cfg.activation, self.bf16)

    def critic_net(self, name: str, *, layer_norm: bool = False) -> ScalarNet:
        """One number of an observation and an action side by side."""
        init, widths = self._net(name, 1, 1)
        widths[0] += self.spec.action_dim
        cfg = self.cfg
        return ScalarNet(init, widths, cfg.activation, self.bf16, layer_norm=layer_norm)

    def _net(self, name: str, outputs: int, inputs: int) -> tuple[Init, list[int]]:
        assert all(other[:4] != name[:4] for other in self.net_names), name
        self.net_names.add(name)
        init = Init(self.seeds, name, self.cfg.init, self.dtype)
        return init, [inputs * self.encoder.width, *self.cfg.hidden_sizes, outputs]

    def target_of(self, net: Net, every: int) -> Net:
        """A copy of `net` that no gradient reaches, renewed after updates `every`, 2 * `every`, ...

        Where the config has a `polyak`, by that share.  The optimizer renews it in its own pass:
        after those updates `net` has to be trained.
        """
        target = copy.deepcopy(net)
        self.target_of_parameter |= dict(zip(net.parameters(), target.parameters(), strict=True))
        self.target_period = every
        return target.requires_grad_(False)

    def param_group(
        self,
        net: nn.Module,
        rate: str = "learning_rate",
        decays: tuple[str, ...] = ("weight_decay",),
        cosine_updates: int = 0,
        period: int = 1,
    ) -> None:
        """Names the fields that the net's rate, and what adds up to its decay, come from.

        cosine_updates: the rate falls to 0 over so many updates, along a cosine; 0 keeps it.
        period: the net trains in updates `period`, 2 * `period`, ... only.
        """
        self.param_groups.append((list(net.parameters()), rate, decays, cosine_updates, period))

    def minimise(self, loss: Tensor, *trained: nn.Module) -> None:
        """One Adam step of the nets on their members' own losses.  loss: [P]."""
        parameters = [p for net in trained for p in net.parameters()]
        self._step(parameters, torch.autograd.grad(loss.sum(), parameters))

    def apply_gradients(self, pairs: Sequence[tuple[Tensor, Tensor]], *trained: nn.Module) -> None:
        """The same from gradients that an op has made: (a net's output, the gradient in it)."""
        parameters = [p for net in trained for p in net.parameters()]
        outputs, gradients = zip(*pairs, strict=True)
        self._step(parameters, torch.autograd.grad(outputs, parameters, gradients))

    def _step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        if self.optimizer is None:
            self.start_optimizer()
        assert self.optimizer is not None
        # A second derivative may come turned.
        self.optimizer.step(parameters, [g.contiguous() for g in gradients], self.counter)

    # What the engine calls.

    def start_optimizer(self) -> None:
        """Zeroed moments for every parameter that trains."""
        zero = torch.zeros_like(self._column("learning_rate"))
        self.optimizer = Adam(
            [p for p in self.parameters() if p.requires_grad],
            self._column("learning_rate"),
            self._column("weight_decay"),
            decoupled=self.cfg.decoupled_weight_decay,
            fused=self.fused,
            target_of=self.target_of_parameter,
            every=self.target_period,
            polyak=self._column("polyak"),
            copies_until=self.targets_copy_until,
            param_groups=[
                ParamGroup(own, self._column(name), sum(map(self._column, decays), zero), *rest)
                for own, name, decays, *rest in self.param_groups
            ],
        )

    def param_group_of(self, net: nn.Module) -> tuple[Tensor, Tensor]:
        """Learning rate and weight decay of a net, float64 [P] each."""
        if self.optimizer is None:
            self.start_optimizer()
        assert self.optimizer is not None
        group = self.optimizer.param_group_of[next(net.parameters())]
        return group.rate, group.decay

    def _column(self, name: str) -> Tensor:
        """A field of every member, float64 [P]; 1 where there is none."""
        values = [getattr(config, name, 1.0) for config in self.configs]
        return torch.tensor(values, dtype=torch.float64, device=self.counter.device)

    def to_device(self, device: torch.device) -> "Learner":
        """Moves everything; call it before the first update."""
        self.to(device)
        self.counter = self.counter.to(device)
        self.hp = SimpleNamespace(**{k: v.to(device) for k, v in vars(self.hp).items()})
        return self

    def member(self, place: int) -> "Learner":
        """One member as a population of its own, on the same device."""
        alone = type(self)(
            [self.configs[place]], [self.seeds[place]], self.spec, self.precision, fused=self.fused
        )
        alone.to_device(self.encoder.mean.device)
        with torch.no_grad():
            for mine, all_members in zip(alone.parameters(), self.parameters(), strict=True):
                mine.copy_(all_members[place : place + 1])
            for own, shared in zip(alone.encoder.buffers(), self.encoder.buffers(), strict=True):
                own.copy_(shared)
        return alone

    @torch.no_grad()
    def act(self, obs: Tensor, uniform: Tensor | None) -> Tensor:
        """Actions in [-1, 1], [P, B, A]: the mode, or with `uniform` [P, B, 2A] a sample.

        obs: [P, B, D].
        """
        x = self.encoder(nn.functional.pad(obs.to(self.dtype), (0, self.extra_inputs)))
        with tf32(self.precision == "tf32"):
            if uniform is None:
                return self.policy.mode(x)
            choice, other = uniform.to(self.dtype).chunk(2, -1)
            jitters = self.cfg.action_jitter or self.cfg.policy_head in ("gaussian", "normal")
            return self.policy.sample(x, choice, other if jitters else None)


def tensors(learner: Learner) -> Mapping[str, Tensor]:
    """Everything a checkpoint must hold: parameters, targets, statistics, Adam's moments."""
    state = dict(learner.state_dict())
    if learner.optimizer is not None:
        names = {id(p): name for name, p in learner.named_parameters()}
        for parameter, moment in learner.optimizer.moments():
            for kind, value in zip(("first", "second"), moment, strict=True):
                state[f"adam.{kind}.{names[id(parameter)]}"] = value
    return state
