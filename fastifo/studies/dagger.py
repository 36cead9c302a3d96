"""DAgger: play a mixture of expert and learner, label what was seen, add it to the data, retrain.

Source: Ross, Gordon and Bagnell 2011, arXiv:1011.0686, Algorithm 3.1. The first data are the
expert's (beta_1 = 1). Each iteration clones all data so far with `bc`, plays the mixture by the
next beta, and labels every observation with the expert's action. It is privileged: it asks for
actions of the expert, in the observations of the learner. Differs: the learner plays samples of
its policy, and no policy is chosen at the end; returns are reported for all.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from fastifo.algos import DAGGER
from fastifo.algos.expert_actions import check_expert_actions
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import as_bounds, to_unit
from fastifo.envs.act import Actor
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts.asked import AskedExpert, Mixture
from fastifo.envs.policy import Policy
from fastifo.envs.registry import describe
from fastifo.envs.rollout import collect
from fastifo.envs.spec import EnvSpec
from fastifo.studies.expert_sources import ExpertSource, open_expert
from fastifo.studies.iterations import SEED_BLOCK, START, Experiment
from fastifo.utils.arguments import plain

FIRST_SEED = SEED_BLOCK - 1  # environment seeds of the expert's own episodes
CHECKED_ROWS = 256  # observations of given demonstrations that the expert is asked about at first

Bounds = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Schedule:
    """The expert's share of the steps, beta, in the first data, the next data, and so on."""

    beta_decay: float = 0.0  # beta is beta_decay ** number
    betas: tuple[float, ...] = ()  # if there are any: beta by number; the last one stays

    def beta(self, number: int) -> float:
        """Beta of the data with this number; the first is 0."""
        if self.betas:
            return self.betas[min(number, len(self.betas) - 1)]
        return float(self.beta_decay**number)

    @staticmethod
    def of(beta_decay: Any, betas: Sequence[Any] | None) -> "Schedule":
        """Raises ValueError for numbers outside [0, 1], and for a first beta that is not 1;
        TypeError for betas that are no list.
        """
        if not _is_share(decay := plain(beta_decay)):
            raise ValueError(f"beta_decay: expected a number in [0, 1], found {beta_decay!r}")
        if betas is None:
            return Schedule(float(decay))
        if decay != 0.0:
            raise ValueError("betas: expected betas or beta_decay, found both")
        if not isinstance(betas, Iterable):
            raise TypeError(f"betas: expected a list of numbers, found {betas!r}")
        given = [plain(beta) for beta in betas]
        if not all(map(_is_share, given)):
            raise ValueError(f"betas: expected numbers in [0, 1], found {betas!r}")
        if given[:1] != [1]:
            raise ValueError(
                f"betas: expected 1 first, because the first data are the expert's, found {betas!r}"
            )
        return Schedule(betas=tuple(map(float, given)))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0.0 <= value <= 1.0


@dataclass(frozen=True)
class DAgger(Experiment):
    """Iterations of DAgger.  `start` is None: `begin` makes the first data in the folder."""

    expert: ExpertSource
    demos: Dataset | None  # the expert's episodes, as background; None: it plays them
    schedule: Schedule
    learner: ClassVar[str] = "bc"

    def __post_init__(self) -> None:
        if self.env.render is not None and self.schedule.beta(1) > 0.0:
            raise ValueError(
                "betas: a policy that sees images cannot take turns with the expert; expected 0 "
                f"after the first data, found {self.schedule.beta(1)}"
            )

    def plan(self) -> dict[str, Any]:
        """Identifies the expert, the demonstrations and the schedule."""
        return {
            "expert": self.asked_expert().identity,
            "betas": list(self.schedule.betas),
            "beta_decay": self.schedule.beta_decay,
            "background": None if self.demos is None else self.demos.fingerprint(),
        }

    def asked_expert(self) -> AskedExpert:
        """The expert, opened."""
        return open_expert(self.expert, self.env)

    def for_other_process(self) -> "DAgger":
        """The experiment without data, which it reads from its folder."""
        return dataclasses.replace(self, demos=None, progress=False)

    def begin(self, is_new: bool) -> None:
        """Makes the first data, unless the folder has them."""
        if not is_new and (self.folder / START).exists():
            return
        expert = self.asked_expert()
        if self.demos is None:
            low, high = action_bounds(self.env)
            episodes = self._labelled(expert, expert, FIRST_SEED, "expert", (low, high))
            first = Dataset(
                episodes, env_id=self.env.id, action_low=low, action_high=high,
                env_kwargs={**self.env.settings, **self.env.kwargs}, obs_keys=self.env.obs_keys,
            )  # fmt: skip
        else:
            first = self.demos
            expert.ask(first.background.obs[:CHECKED_ROWS])  # its errors come before any training
            if first.background.reward is None:
                info = {"measured": self._evaluate(expert, FIRST_SEED)}
                first = dataclasses.replace(first, info=info)
        first.save(self.folder / START)

    def data(self, seed: int, iteration: int) -> Dataset:
        """All data so far."""
        parts = [self.first.background]
        parts += [self.read(seed, earlier).background for earlier in range(iteration)]
        return self.dataset(Episodes.joined(parts), None)

    def play(self, policy: Policy, iteration: int) -> Dataset:
        """Episodes of the mixture, with the expert's actions for what was seen."""
        expert, beta = self.asked_expert(), self.schedule.beta(iteration + 1)
        seed, bounds = SEED_BLOCK + iteration, (self.first.action_low, self.first.action_high)
        actor = policy if beta == 0.0 else Mixture(expert, policy, beta)
        episodes = self._labelled(actor, expert, seed, f"iteration {iteration}", bounds)
        info = {} if beta == 0.0 else {"measured": self._evaluate(policy, seed)}
        return self.dataset(episodes, None, iteration=iteration, beta=beta, **info)

    def measure(self, played: Dataset) -> tuple[float, float]:
        """The learner's mean return and rate of success, or the expert's in the first data."""
        if "measured" not in played.info:
            return super().measure(played)
        mean, success = played.info["measured"]
        return mean, nan if success is None else success

    def _labelled(
        self, actor: Actor, expert: AskedExpert, seed: int, title: str, bounds: Bounds
    ) -> Episodes:
        """Episodes of the actor, whose actions are replaced by the expert's."""
        played = collect(
            actor, self.env, self.episodes, False, seed=seed, title=title, bounds=bounds,
            progress=self.progress, record_images=self.env.render is not None,
        )  # fmt: skip
        label = expert.ask(played.obs[played.rows()])
        low, high = bounds
        if low is not None and high is not None:
            label = to_unit(label, low, high)
        return dataclasses.replace(played, action=label.clamp(-1.0, 1.0))

    def _evaluate(self, actor: Actor, seed: int) -> tuple[float, float | None]:
        """Mean return and rate of success of an actor that plays alone."""
        returns = evaluate_policies(
            [actor], self.env, self.episodes, False, seed=seed, progress=self.progress
        )
        return returns.mean, returns.success


def demonstrations(dataset: Dataset) -> Dataset:
    """The expert's episodes of a dataset as background; its background, where it has no expert.

    Raises ValueError if they have no actions.
    """
    episodes = dataset.expert or dataset.background
    as_both = dataclasses.replace(
        dataset, background=episodes, expert=episodes, info={}, unverified=()
    )
    remedy = "leave the data out: the expert then plays the first ones"
    check_expert_actions(DAGGER, as_both, remedy)
    return dataclasses.replace(as_both, expert=None)


def action_bounds(env: EnvSpec) -> Bounds:
    """Low and high of an environment's actions, [A] each; None where they are -1 and 1.

    Raises ValueError if they are infinite.
    """
    info = describe(env)
    if not np.isfinite([info.action_low, info.action_high]).all():
        raise ValueError(
            f"{info.name}: expected actions with bounds; pass demonstrations that state action_low "
            "and action_high as seed_background (--background)"
        )
    bounds = as_bounds(Path(info.name), info.action_low, info.action_high, info.action_dim)
    return (None, None) if bounds is None else bounds
