"""Demonstrations: episodes of an expert, or of a dataset, with what is known about them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats.detect import kind_of
from fastifo.data.formats.options import FILE_OPTIONS, split_spec
from fastifo.data.load import BUILDERS, load
from fastifo.envs.act import Actor
from fastifo.envs.evaluate import evaluate_policies
from fastifo.envs.experts import Expert, load_expert
from fastifo.envs.experts.misjudging import MisjudgingExpert, Script
from fastifo.envs.registry import find_backend
from fastifo.envs.rollout import collect
from fastifo.envs.spec import EnvSpec

NOISELESS_EPISODES = 50  # of the expert's mean action; reports show their returns
SEED_BLOCK = 700  # environment seeds; evaluation and the other parts of a benchmark use others


class Demonstrator(Protocol):
    """Where the episodes of an expert come from."""

    def identity(self) -> bytes:
        """What its episodes depend on; part of the names of cached datasets."""

    def demonstrate(self, count: int, seed: int, noise: float) -> Dataset:
        """Demonstrations, and what is known about them.

        noise: standard deviation of the actions, relative to the expert's own exploration noise.
        Returns a dataset whose background is the episodes, with their actions, in an order by the
        seed; `info` has where they come from and statistics of their returns.
        """

    def more_episodes(self, count: int, seed: int, noise: float) -> Episodes:
        """Further episodes, with actions and rewards, that are no demonstrations."""


@dataclass(frozen=True)
class PlayedExpert:
    """Plays an expert."""

    expert: Expert
    env: EnvSpec  # in which it plays
    progress: bool = True  # show progress bars

    def identity(self) -> bytes:
        """That of the expert, with the environment's settings if there are any."""
        settings = f"{sorted(self.env.kwargs.items())}".encode() if self.env.kwargs else b""
        return self.expert.identity() + settings

    def demonstrate(self, count: int, seed: int, noise: float) -> Dataset:
        """Plays `count` episodes.

        An expert without exploration noise plays its mean action. `info` also has the noise, and
        returns of the expert without noise.
        """
        noise = 0.0 if self.expert.deviation is None else noise
        episodes = self._play(count, SEED_BLOCK + seed, noise, "demonstrations")
        # Simulators that are stepped one by one are slow.
        many = find_backend(self.env).has_async_steps
        noiseless = evaluate_policies(
            [self.expert],
            self.env,
            NOISELESS_EPISODES if many else min(NOISELESS_EPISODES, count),
            True,
            progress=self.progress,
        )
        info = {
            "demonstration_noise": noise,
            "expert": self.expert.provenance(),
            "expert_returns": [round(value, 3) for value in noiseless.returns[0].tolist()],
        }
        if noiseless.success is not None:
            info["expert_success"] = noiseless.success
        return Dataset(
            episodes,
            env_id=self.env.id,
            env_kwargs=dict(self.env.kwargs),
            info=info | return_statistics(episodes),
        )

    def more_episodes(self, count: int, seed: int, noise: float) -> Episodes:
        """Plays `count` episodes from other start states."""
        return self._play(count, SEED_BLOCK + seed, noise, "expert")

    def misjudged_episodes(self, count: int, seed: int, noise: float, error: float) -> Episodes:
        """Plays `count` episodes in which the script misjudges where the object is.

        error: standard deviation of its offset along each axis, in metres; see `MisjudgingExpert`.
        Raises ValueError for an expert that is not a script.
        """
        if not isinstance(self.expert, Script):
            raise ValueError(
                f"object_error: expected an expert that is a script, as those of robosuite/... and "
                f"metaworld/...; found a policy for {self.env.id}"
            )
        actor = MisjudgingExpert(self.expert, error, seed)
        return self._play(count, seed, noise, "misjudging expert", actor)

    def _play(
        self, count: int, seed: int, noise: float, title: str, actor: Actor | None = None
    ) -> Episodes:
        self.expert.noise_scale = 0.0 if self.expert.deviation is None else noise
        try:
            return collect(
                actor or self.expert,
                self.env,
                count,
                actor is None and self.expert.noise_scale == 0.0,
                seed=seed,
                title=title,
                progress=self.progress,
                record_images=self.env.render is not None,
            )
        finally:
            self.expert.noise_scale = 0.0


@dataclass(frozen=True)
class RecordedExpert:
    """Draws episodes of a dataset, in random order: demonstrations first, others from the end."""

    source: str  # file or spec of the dataset
    dataset: Dataset
    env: EnvSpec  # in which the clone plays

    def identity(self) -> bytes:
        """Fingerprint of the episodes, with the environment's settings."""
        settings = sorted({**self.dataset.env_kwargs, **self.env.kwargs}.items())
        return f"{self.dataset.fingerprint()} {settings}".encode()

    def demonstrate(self, count: int, seed: int, noise: float) -> Dataset:
        """The first `count` episodes, or all if there are fewer.  noise: not used."""
        background = self.dataset.background
        order = self._order(seed)[: min(count, background.num_episodes)]
        episodes = background.take(order)
        info: dict[str, Any] = {"expert": {"file": self.source, "source": "demonstrations"}}
        notes = {"notes": self.dataset.info["notes"]} if "notes" in self.dataset.info else {}
        return dataclasses.replace(
            self.dataset,
            background=episodes,
            expert=None,
            env_id=self.env.id,
            env_kwargs={**self.dataset.env_kwargs, **self.env.kwargs},
            info=info | notes | return_statistics(episodes),
            unverified=(),
        )

    def more_episodes(self, count: int, seed: int, noise: float) -> Episodes:
        """The last `count` episodes.  Raises ValueError if there are fewer.  noise: not used."""
        total = self.dataset.background.num_episodes
        if count > total:
            raise ValueError(
                f"{self.source}: expected at least {count} episodes, found {total}; ask for fewer"
            )
        return self.dataset.background.take(self._order(seed)[total - count :])

    def _order(self, seed: int) -> list[int]:
        # Seeds of the parts of a set lie in blocks of 100.
        generator = torch.Generator("cpu").manual_seed(seed % 100)
        total = self.dataset.background.num_episodes
        return torch.randperm(total, generator=generator, device="cpu").tolist()


def find_demonstrator(env: EnvSpec, source: str, *, progress: bool = True) -> Demonstrator:
    """Whose episodes are the demonstrations in an environment.

    source: empty for the expert that ships; a policy file; or file or spec of a dataset whose
    background is the demonstrations.
    Raises ValueError for an environment without an expert, or a dataset without actions;
    FileNotFoundError for a missing file.
    """
    if source and is_dataset(source):
        dataset = load(source, progress=progress)
        if dataset.background.action is None:
            raise ValueError(f"demonstrations {source}: expected actions to clone, found none")
        return RecordedExpert(source, dataset, env)
    return PlayedExpert(load_expert(env.id, source or None, env.kwargs), env, progress)


def is_dataset(source: str) -> bool:
    """Whether a text is the spec or the file of a dataset, and not a policy file."""
    if source.partition(":")[0] in (*FILE_OPTIONS, *BUILDERS):
        return True
    path = Path(split_spec(source)[0]).expanduser()
    return path.suffix == ".fastifo" or kind_of(path) not in ("", "npz")


def return_statistics(episodes: Episodes) -> dict[str, float]:
    """Mean and standard deviation of the undiscounted returns; empty without rewards."""
    returns = episodes.returns()
    if returns is None:
        return {}
    return {
        "demonstration_return_mean": float(returns.mean()),
        "demonstration_return_std": float(returns.std(correction=0)),
    }
