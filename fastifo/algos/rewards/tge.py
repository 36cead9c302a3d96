"""TGE: rewards from how near a window is to the expert's, in the eyes of a diffusion model.

Source: arXiv 2601.00452. Then IQL or ReBRAC learns from them (`backbone`). The model embeds windows
of background and expert alike without their actions, which the expert's do not have.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.iql import IQL, IQLConfig
from fastifo.algos.learner import InputSpec, StageTrainer
from fastifo.algos.rebrac import ReBRAC, ReBRACConfig
from fastifo.algos.relabel import relabel_each_member, unit_range
from fastifo.algos.rewards.base import Rewards, RewardsConfig
from fastifo.algos.rewards.diffusion import Diffusion, DiffusionConfig
from fastifo.algos.rewards.knn import BACKENDS, Neighbours, check_backend, check_neighbours
from fastifo.algos.rewards.store import (
    ResumableArray,
    embedding_summary,
    forget_others,
    keep_columns,
    kept_columns,
)
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.windows import Scale, first_rows, window_rows
from fastifo.utils.locks import file_locks
from fastifo.utils.progress import ProgressBar

REWARDS = ("kernel_of_mean", "mean_of_kernel", "log_mean", "gaussian")
BATCH = 1024  # windows embedded at once


@dataclass(frozen=True)
class TGEConfig(DiffusionConfig, RewardsConfig):
    """How embeddings become rewards."""

    tge_reward: str = "kernel_of_mean"  # kernel_of_mean | mean_of_kernel | log_mean | gaussian
    sigma: float = 1.0  # distances are divided by it
    neighbours: int = 5  # m: expert windows that a reward looks at
    placement: str = "starts"  # starts | ends | fits: where a transition's window lies
    sphere: bool = True  # embeddings are scaled to length 1
    scales_to_unit: bool = True  # rewards of the background are mapped onto [0, 1]
    neighbour_backend: str = "auto"  # auto | faiss-gpu | faiss | torch: all of them exact
    embedding_dtype: str = "float32"  # float32 | float16: of the file they are kept in
    embeddings: str = ""  # folder of them, for runs one after another to share; empty: the run's

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "tge_reward", REWARDS)
        require(self, "sigma", self.sigma > 0, "above 0")
        require(self, "neighbours", self.neighbours >= 1, "at least 1")
        require_choice(self, "placement", ("starts", "ends", "fits"))
        require_choice(self, "neighbour_backend", ("auto", *BACKENDS))
        require_choice(self, "embedding_dtype", ("float32", "float16"))


class TGE(Rewards):
    """What both backbones share: the rewards."""

    name: ClassVar[str] = "tge"
    one_dataset: ClassVar[bool] = True

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with TGE's rewards, [P, N].

        Members whose seed and model's fields are the same share one model and its embeddings.
        """
        folder, shared = trainer.folder, ""
        if configs[0].embeddings:
            folder = Path(configs[0].embeddings)
            shared = f"{trainer.precision} {dataset.fingerprint()}"
        names = [
            f"seed{s}-{_digest(c, shared)}" for s, c in zip(trainer.seeds, configs, strict=True)
        ]
        locks = [folder / f"{name}.lock" for name in set(names)] if shared and folder else []
        with file_locks(locks):
            return cls._relabelled(dataset, configs, trainer, folder, names)

    @classmethod
    def _relabelled(
        cls,
        dataset: Dataset,
        configs: Sequence[Any],
        trainer: StageTrainer,
        folder: Path | None,
        names: Sequence[str],
    ) -> Dataset:
        """The same.  folder: of what is kept.  names: of each member's embeddings in it."""
        first = configs[0]
        scale = Scale.of(dataset.background, actions=not first.states_only)
        rows = window_rows(dataset.background, first.horizon, scale)
        makers = [names.index(name) for name in dict.fromkeys(names)]  # one member of each name
        models: dict[int, tuple[Diffusion, int]] = {}
        # All or none: what a stopped run has of the models is a checkpoint of all of them.
        if not all(_kept(folder, names[m], configs[m]) for m in makers):
            model = trainer.train(
                Diffusion,
                [_stage(configs[m]) for m in makers],
                first.diffusion_updates,
                dataclasses.replace(dataset, background=rows, expert=None),
                InputSpec(len(scale.mean), 0 if first.states_only else dataset.action_dim),
                members=makers,
            )
            assert isinstance(model, Diffusion)
            models = {m: (model, place) for place, m in enumerate(makers)}
            for place, m in enumerate(makers):
                if folder is not None and not _kept(folder, names[m], configs[m]):
                    note, files = folder / f"model-{names[m]}.json", _files(folder, names[m])
                    forget_others(note, model.fingerprint(place), files)

        near: dict[str, Tensor] = {}  # distances, for all members who have them in common

        def distances_of(member: int, own: Dataset, key: str) -> Tensor:
            file = _file(folder, f"distances-{key}")
            found = ResumableArray.finished(file)
            if found is not None:
                return found
            config, name = configs[member], names[member]
            model, place = models.get(names.index(name), (None, 0))
            assert own.expert is not None
            embed = partial(
                _embedded, model, place, config=config, scale=scale, folder=folder,
                progress=trainer.progress,
            )  # fmt: skip
            begin = placed(own.expert, config.horizon, config.placement).unique_consecutive()
            expert = embed(own.expert, begin, None, name=f"expert-{name}")
            begin = placed(own.background, config.horizon, config.placement)
            background = embed(own.background, begin, rows, name=f"background-{name}")
            windows = expert.rows(0, len(expert)).to(trainer.device)
            search = Neighbours(windows, config.neighbour_backend)
            found = _distances(search, background, config.neighbours)
            trainer.note("neighbour_backend", search.backend)
            if folder is not None and file is not None:
                drawn = embedding_summary(expert, background, found, own)
                backend = np.array(search.backend)
                keep_columns(folder / f"picture-{key}.npz", drawn | {"backend": backend})
                ResumableArray.keep(file, found)
            return found

        def judged(member: int, own: Dataset) -> Tensor:
            config, name = configs[member], names[member]
            maker = names.index(name)
            if trainer.has_diverged(maker):  # its losses were not finite, nor would its rewards be
                trainer.mark_diverged(member)
                return torch.zeros(own.background.num_transitions)
            key = f"{name}-{config.neighbours}"
            if key not in near:
                near[key] = distances_of(member, own, key)
            if folder is not None:
                _show(folder / f"picture-{key}.npz", key, config, trainer)
            reward = tge_reward(near[key].double(), config.sigma, config.tge_reward)
            return unit_range(reward) if config.scales_to_unit else reward

        return relabel_each_member(dataset, len(configs), judged)

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        super().check_config(config, device)
        check_backend(config, device)
        if config.embeddings and Path(config.embeddings).is_file():
            raise ValueError(
                f"embeddings: expected a folder, found the file {config.embeddings}; name another"
            )

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        assert dataset.expert is not None
        if dataset.expert.obs_dim != dataset.obs_dim:
            raise ValueError(
                f"tge: expected expert observations {dataset.obs_dim} wide, found "
                f"{dataset.expert.obs_dim}"
            )
        longest = int(dataset.background.lengths.max())
        if config.horizon > longest:
            raise ValueError(
                f"horizon: expected at most {longest}, the background's longest episode, found "
                f"{config.horizon}; choose a smaller one"
            )
        windows = placed(dataset.expert, config.horizon, config.placement).unique_consecutive()
        check_neighbours(config.neighbours, len(windows), "windows")


def _show(source: Path, key: str, config: Any, trainer: StageTrainer) -> None:
    """What this run's report draws, of distances that another one may have found."""
    drawn = kept_columns(source)
    if drawn is None or trainer.folder is None:
        return
    trainer.note("neighbour_backend", str(drawn["backend"]))
    own = {"sigma": np.array(config.sigma), "kind": np.array(config.tge_reward)}
    name = f"tge-{key}-{config.tge_reward}-sigma{config.sigma:g}.npz"
    keep_columns(trainer.folder / name, drawn | own)


@dataclass(frozen=True)
class TGEIQLConfig(IQLConfig, TGEConfig):
    pass


class TGEIQL(TGE, IQL):
    Config = TGEIQLConfig


@dataclass(frozen=True)
class TGEReBRACConfig(ReBRACConfig, TGEConfig):
    backbone: str = "rebrac"  # iql | rebrac: what learns from the rewards


class TGEReBRAC(TGE, ReBRAC):
    Config = TGEReBRACConfig


def tge_reward(distance: Tensor, sigma: float, kind: str) -> Tensor:
    """Reward of each row from its distances to the nearest expert windows, [N].

    distance: [N, m].  kernel_of_mean: -log(1 + mean d / sigma).  mean_of_kernel: the mean of
    -log(1 + d / sigma).  log_mean: log of the mean of 1 / (1 + d / sigma).  gaussian: the mean of
    exp(-d^2 / (2 sigma^2)), the paper's ablation.
    """
    d = distance / sigma
    if kind == "kernel_of_mean":
        return -torch.log1p(d.mean(1))
    if kind == "mean_of_kernel":
        return -torch.log1p(d).mean(1)
    if kind == "log_mean":
        return (1.0 / (1.0 + d)).mean(1).log()
    return torch.exp(-0.5 * d.square()).mean(1)


def _stage(config: Any) -> Any:
    """The config of the diffusion model itself."""
    return dataclasses.replace(
        config,
        learning_rate=config.diffusion_learning_rate,
        batch_size=config.diffusion_batch_size,
        polyak=1.0 - config.ema_decay,
        weight_decay=0.0,
        encoder_scales=(),
        standardize_obs=False,
    )


def placed(episodes: Episodes, horizon: int, placement: str) -> Tensor:
    """The transition where the window of each one starts, [N].

    starts: at itself, padded behind the episode's end.  ends: so that it ends there, or at the
    episode's start.  fits: at itself, or at the last window that fits.
    """
    step = torch.arange(episodes.num_transitions)
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), episodes.lengths)
    begin = episodes.start[:-1][episode]
    if placement == "ends":
        return torch.maximum(step - horizon + 1, begin)
    if placement == "fits":
        return torch.minimum(step, torch.maximum(begin, episodes.start[1:][episode] - horizon))
    return step


def _digest(config: Any, shared: str) -> str:
    """Of the fields that embeddings depend on, and of what runs that share a folder may not."""
    names = [field.name for field in dataclasses.fields(DiffusionConfig)]
    common = {field.name for field in dataclasses.fields(Config)}
    own = [name for name in names if name not in common] + ["placement", "sphere", "init"]
    text = repr({name: getattr(config, name) for name in (*own, "embedding_dtype")})
    return hashlib.sha256((text + shared).encode()).hexdigest()[:8]


def _file(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / f"{name}.npy"


def _files(folder: Path, name: str) -> list[Path]:
    """Of a model's embeddings."""
    return [folder / f"embeddings-{what}-{name}.npy" for what in ("expert", "background")]


def _kept(folder: Path | None, name: str, config: Any) -> bool:
    """Whether nothing is left to embed."""
    distances = _file(folder, f"distances-{name}-{config.neighbours}")
    embeddings = [] if folder is None else _files(folder, name)
    return ResumableArray.is_whole(distances) or (
        bool(embeddings) and all(map(ResumableArray.is_whole, embeddings))
    )


def _embedded(
    model: Diffusion | None,
    place: int,
    episodes: Episodes,
    begin: Tensor,
    rows: Episodes | None,
    *,
    scale: Scale,
    config: Any,
    folder: Path | None,
    progress: bool,
    name: str,
) -> ResumableArray:
    """Embeddings of the windows that begin at some transitions, in a file where there is a folder.

    model: None where the file is whole.  begin: the transitions, [n].  rows: of the episodes,
    where they are there already.
    """
    first = first_rows(episodes, config.horizon)[begin]
    path = _file(folder, f"embeddings-{name}")
    file = ResumableArray(
        path, (len(first), config.embedding_width), np.dtype(config.embedding_dtype)
    )
    left = first[file.done :]
    if len(left) == 0:
        file.finish()
        return file
    if rows is None:
        rows = window_rows(dataclasses.replace(episodes, action=None), config.horizon, scale)
    assert model is not None
    what = name.partition("-")[0]
    with ProgressBar(f"embed {what}", len(first), "windows", enabled=progress) as bar:
        bar.start_at(file.done)
        for raw in model.embed(place, rows.obs, left, BATCH):
            found = torch.nn.functional.normalize(raw, dim=1) if config.sphere else raw
            file.append(found.float().cpu())
            bar.update(file.done, "")
    file.finish()
    return file


def _distances(search: Neighbours, background: ResumableArray, count: int) -> Tensor:
    """To the nearest expert windows, [N, m] float32."""
    found = torch.empty(len(background), count)
    for first in range(0, len(background), 1 << 16):
        block = background.rows(first, first + (1 << 16)).to(search.points.device)
        found[first : first + len(block)] = search.distances(block, count).cpu()
    return found
