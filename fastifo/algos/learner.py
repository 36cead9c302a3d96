"""The contract of an algorithm: what its file writes, and what the engine calls.

An algorithm is a `Config` and a `Learner` with `build` and `update`; a method with a pre-training
stage also writes `prepare`. A learner trains P members together. Tensors in `update` are [P, ...]
and a loss is [P], one entry per member, so the gradient of its sum is every member's own gradient.
The helpers that `build` and `update` call are in `fastifo/algos/construction.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from fastifo.algos.config import Config
from fastifo.algos.construction import Construction, InputSpec, Policy
from fastifo.algos.images import check_images
from fastifo.algos.native import NativeLoss
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch
from fastifo.utils.devices import tf32

__all__ = ["InputSpec", "Learner", "Metrics", "StageMonitor", "StageTrainer", "tensors"]

Metrics = dict[str, Tensor]  # name -> [P]


class StageTrainer(Protocol):
    """What the engine offers to `Learner.prepare`: training of helper stages, and the run's data.

    Members are counted within the population, from 0 to P - 1.
    """

    @property
    def folder(self) -> Path | None:
        """Where a stage may keep files; None if the run writes none."""

    @property
    def seeds(self) -> Sequence[int]:
        """The members' seeds."""

    @property
    def device(self) -> torch.device:
        """The device that the run trains on."""

    @property
    def precision(self) -> str:
        """The run's precision, a key of `fastifo.utils.devices.PRECISIONS`."""

    @property
    def progress(self) -> bool:
        """Whether to show progress bars."""

    def has_diverged(self, member: int) -> bool:
        """Whether a loss of this member was not finite, or it was marked as diverged."""

    def mark_diverged(self, member: int) -> None:
        """Stops training a member, for example because it needs another one that diverged."""

    def note(self, name: str, value: Any) -> None:
        """Records a JSON value under the notes of the run's config.json."""

    def train(
        self,
        helper: type["Learner"],
        configs: Sequence[Any],
        num_updates: int,
        dataset: Dataset,
        spec: InputSpec | None = None,
        monitor: "StageMonitor | None" = None,
        members: Sequence[int] | None = None,
    ) -> "Learner":
        """Trains a helper with the run's engine, seeds and precision, and returns it.

        configs: one per trained member.  spec: the helper's input sizes; None for the run's own.
        monitor: measures the helper during training.  members: the members that it is trained for;
        None for all of them.
        """


@dataclass(frozen=True)
class StageMonitor:
    """Measures a helper during its training; the metrics are logged."""

    every: int  # updates between measurements; there is one after the last update too
    measure: Callable[["Learner"], Metrics]  # called with the helper


class Learner(Construction):
    """Base class of every algorithm."""

    Config: ClassVar[type[Config]] = Config  # its fields; floats may differ between members
    name: ClassVar[str]  # on the command line and in run folders
    needs: ClassVar[frozenset[str]] = frozenset()  # data required: "expert", "reward"
    reads_images: ClassVar[bool] = True  # False: cannot learn from data with frames
    one_dataset: ClassVar[bool] = False  # True if one run cannot train on several datasets
    deviation_epsilon: ClassVar[float] = 0.0  # added to deviations that standardise observations
    native_loss: ClassVar[NativeLoss | None] = None  # its compiled `update`; None: torch only
    period: ClassVar[int] = 1  # `update` may depend on `phase`, the update number modulo this

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
        """configs, seeds: one per member.  precision: a key of `fastifo.utils.devices.PRECISIONS`.

        fused: run the compiled ops; False: their plain-torch references.
        """
        epsilon = self.deviation_epsilon
        super().__init__(configs, seeds, spec, precision, fused=fused, deviation_epsilon=epsilon)
        self.phase = 0  # number of this update, counted from 0, modulo `period`
        self.build()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        definer = {
            name: next(i for i, base in enumerate(cls.__mro__) if name in vars(base))
            for name in ("native_loss", "update")
        }
        if definer["update"] < definer["native_loss"]:  # the compiled loss is another update's
            cls.native_loss = None

    # What an algorithm writes

    def build(self) -> None:
        """Creates the nets as attributes; called once, by the constructor.

        A learner that acts assigns `self.policy`. Attribute names are the names of its tensors in
        checkpoints.
        """
        raise NotImplementedError

    def update(self, batch: Batch) -> Metrics:
        """Makes one update of every member; called once per training step.

        It is straight-line tensor code, because the engine captures it as a CUDA graph: no
        `.item()`, no branch on data. It may branch on `self.cfg` and `self.phase`. Hyperparameters
        are `self.hp.<field>`, [P, 1]. Returns metrics to log, [P] each.
        """
        raise NotImplementedError

    @classmethod
    def batch_needs(cls, config: Any) -> frozenset[str]:
        """The parts of `Batch` to draw besides background rows; called when a stage starts.

        Names: expert, expert_action, reward, next_action, policy (background rows for the policy
        only), uniform, initial, noise, triples (`after_obs`), windows.
        """
        return cls.needs

    @classmethod
    def batch_rows(cls, config: Any) -> int:
        """Rows drawn from each source per update, B; called when a stage starts."""
        return int(config.batch_size)

    @property
    def noise_width(self) -> int:
        """Width of `Batch.noise`, [P, B, noise_width], if `batch_needs` names it."""
        return 2 * self.spec.action_dim

    @property
    def window(self) -> int:
        """Length H of `Batch.windows`, [H, P, B, width], if `batch_needs` names it."""
        return 0

    @classmethod
    def prepare(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """Returns the dataset that `update` trains on; called once per population, before it.

        A method with a pre-training stage trains its helper with `trainer.train` and relabels the
        data. A new column that differs between members is [P, N, ...] over N transitions.
        """
        return dataset

    def adopt(self, helpers: Mapping[str, "Learner"]) -> None:
        """Copies what the learner keeps of its helpers, by name; called once, after `prepare`.

        A helper's net that `update` evaluates is a net of this learner too, without gradients.
        """

    @classmethod
    def standardizing_episodes(cls, dataset: Dataset, config: Any) -> Episodes:
        """The episodes whose mean and deviation standardise observations; called once per config.

        The default is the background.
        """
        return dataset.background

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        """Raises ValueError if the config cannot run on this machine.

        Called for every distinct config, before data are read or generated.
        """

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """Raises ValueError if the method cannot learn from the dataset with this config.

        Called for every dataset and distinct config, before a run folder is created.
        relabel_only: only rewards are made (`fastifo.relabel`): skip what the final stage requires.
        """
        expert, reward = dataset.expert, dataset.background.reward
        if dataset.images:
            needs_expert = "expert" in cls.needs
            check_images(
                cls.name, dataset, config, reads_images=cls.reads_images, needs_expert=needs_expert
            )
        if "expert" in cls.needs and expert is None:
            raise ValueError(
                f"{cls.name} needs expert observations; the dataset has none. "
                "Pass expert=[{'obs': ...}, ...] to Dataset.from_episodes"
            )
        if expert is not None and expert.obs_dim != dataset.obs_dim:
            raise ValueError(
                f"{cls.name}: expert observations have width {expert.obs_dim}, background "
                f"observations {dataset.obs_dim}; both must come from the same observation space"
            )
        if "reward" in cls.needs and reward is None:
            raise ValueError(
                f"{cls.name} needs the background's rewards; the dataset has none. "
                "Pass 'reward' in every background episode"
            )
        if "reward" in cls.needs and reward is not None and not bool(reward.isfinite().all()):
            raise ValueError(
                f"{cls.name} learns from the background's rewards; some are nan or infinite. "
                "Drop those episodes"
            )
        if dataset.background.action is None:
            raise ValueError(f"{cls.name} needs the background's actions; the dataset has none")

    # What the engine calls

    def to_device(self, device: torch.device) -> "Learner":
        """Moves the learner to `device` and returns it; call it before the first update."""
        self.to(device)
        self.counter = self.counter.to(device)
        self.hp = SimpleNamespace(**{k: v.to(device) for k, v in vars(self.hp).items()})
        return self

    def member(self, index: int, precision: str = "") -> "Learner":
        """A copy of one member as a population of one, on the same device, without optimizer.

        Its outputs do not depend on the other members, not even in rounding.
        precision: of the copy; empty: this learner's.
        """
        single = type(self)(
            [self.configs[index]], [self.seeds[index]], self.spec, precision or self.precision,
            fused=self.fused,
        )  # fmt: skip
        single.to_device(self.encoder.mean.device)
        with torch.no_grad():
            for target, source in zip(single.parameters(), self.parameters(), strict=True):
                target.copy_(source[index : index + 1])
            statistics = zip(single.encoder.buffers(), self.encoder.buffers(), strict=True)
            for buffer, shared in statistics:
                buffer.copy_(shared)
        return single

    @torch.no_grad()
    def act(
        self, obs: Tensor, uniform: Tensor | None, images: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Actions in [-1, 1], [P, B, A]: the policy's mode, or samples if `uniform` is given.

        obs: raw observations, [P, B, D].  uniform: random numbers in [0, 1), [P, B, 2A].
        images: uint8 [P, B, H, W, C] by camera; none for a policy that reads none.
        """
        x = self.inputs(nn.functional.pad(obs.to(self.dtype), (0, self.extra_inputs)), images or {})
        with tf32(self.precision == "tf32"):
            if uniform is None:
                return self.policy.mode(x)
            first, second = uniform.to(self.dtype).chunk(2, -1)
            uses_second = self.cfg.action_jitter or self.cfg.policy_head in ("gaussian", "normal")
            return self.policy.sample(x, first, second if uses_second else None)


def tensors(learner: Learner) -> Mapping[str, Tensor]:
    """Everything that a checkpoint holds: parameters, targets, statistics and Adam's moments."""
    state = dict(learner.state_dict())
    if learner.optimizer is not None:
        names = {id(p): name for name, p in learner.named_parameters()}
        for parameter, moments in learner.optimizer.moments():
            for kind, moment in zip(("first", "second"), moments, strict=True):
                state[f"adam.{kind}.{names[id(parameter)]}"] = moment
    return state
