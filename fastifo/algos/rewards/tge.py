"""TGE, trajectory-level generative embeddings: a background transition's reward falls with the
distance between its window and the expert's windows in a diffusion model's embedding space.

Source: arXiv 2601.00452. IQL or ReBRAC learns from the rewards (field `backbone`).

1. Model: a diffusion model eps_theta of windows tau, H rows (observation, action) each, is trained
   on the background (`diffusion.py`).
2. Embedding: z = phi_theta(tau, 0), the model's bottleneck for the clean window, scaled to |z| = 1.
   Actions are masked on both sides, because the expert shows none.
3. Distances: d_1 .. d_m to the m nearest expert windows, |z - z_expert| (`knn.py`).
4. Reward: r = -log(1 + (1/m) sum_j d_j / sigma), mapped onto [0, 1] over the background.

The reward's exact formula, the placement of windows and the masking are our reading of the paper;
the alternatives are options (`tge_reward`, `sphere`, `placement`, `states_only`).

A run folder keeps the embeddings (`embeddings-*.npy`), the distances (`distances-*.npy`) and data
for the report's figures; a stopped run continues with them. With `embeddings=FOLDER` the first two
are kept there, where later runs on the same data share the model and its embeddings, as the runs of
`fastifo study` do. `store.py` lists the files.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastifo.algos.config import require, require_choice
from fastifo.algos.iql import IQL, IQLConfig
from fastifo.algos.learner import InputSpec, StageTrainer
from fastifo.algos.rebrac import ReBRAC, ReBRACConfig
from fastifo.algos.relabel import relabel_each_member, unit_range
from fastifo.algos.rewards.base import Rewards, RewardsConfig
from fastifo.algos.rewards.diffusion import Diffusion, DiffusionConfig, model_config
from fastifo.algos.rewards.knn import BACKENDS, Neighbours, check_backend, check_neighbours
from fastifo.algos.rewards.resumable import ResumableArray
from fastifo.algos.rewards.store import EmbeddingStore, embedding_summary
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.windows import Scale, first_rows, window_rows, window_starts

REWARDS = ("kernel_of_mean", "mean_of_kernel", "log_mean", "gaussian")  # see `tge_reward`
BATCH = 1024  # windows embedded together
QUERIES = 1 << 16  # background embeddings read from a file and searched for together


@dataclass(frozen=True)
class TGEConfig(DiffusionConfig, RewardsConfig):
    """Fields of `tge` besides its backbone's: how windows become rewards."""

    tge_reward: str = "kernel_of_mean"  # kernel_of_mean | mean_of_kernel | log_mean | gaussian
    sigma: float = 1.0  # temperature: divides the distances; the paper finds 0.1 to 5 similar
    neighbours: int = 5  # m: nearest expert windows whose distances make a reward
    placement: str = "starts"  # starts | ends | fits: where a transition's window lies around it
    sphere: bool = True  # scale embeddings to length 1
    scales_to_unit: bool = True  # map the background's rewards onto [0, 1]
    neighbour_backend: str = "auto"  # auto | faiss-gpu | faiss | torch: all of them are exact
    embedding_dtype: str = "float32"  # float32 | float16: number format of the embeddings' files
    embeddings: str = ""  # folder of embeddings that runs on the same data share; empty: the run's

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "tge_reward", REWARDS)
        require(self, "sigma", self.sigma > 0, "above 0")
        require(self, "neighbours", self.neighbours >= 1, "at least 1")
        require_choice(self, "placement", ("starts", "ends", "fits"))
        require_choice(self, "neighbour_backend", ("auto", *BACKENDS))
        require_choice(self, "embedding_dtype", ("float32", "float16"))


class TGE(Rewards):
    """The rewards; a subclass adds the backbone."""

    name: ClassVar[str] = "tge"
    one_dataset: ClassVar[bool] = True

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with TGE's rewards, [P, N]."""
        store = EmbeddingStore(dataset, configs, trainer)
        with store.lock():
            scale = Scale.of(dataset.background, actions=not configs[0].states_only)
            rows = window_rows(dataset.background, configs[0].horizon, scale)
            model = train_model(dataset, rows, configs, trainer, store)

            def compute_rewards(member: int, data: Dataset) -> Tensor:
                config, model_member = configs[member], store.model_member(member)
                if trainer.has_diverged(model_member):  # its embeddings would not be finite
                    trainer.mark_diverged(member)
                    return torch.zeros(data.background.num_transitions)
                distance = store.distances(member)
                if distance is None:
                    expert, background = embed_both(model, member, data, rows, scale, store)
                    points = expert.rows(0, len(expert)).to(trainer.device)
                    search = Neighbours(points, config.neighbour_backend)
                    distance = expert_distances(search, background, config.neighbours)
                    trainer.note("neighbour_backend", search.backend)
                    summary = embedding_summary(expert, background, distance, data, search.backend)
                    store.save_distances(member, distance, summary)
                store.save_report_data(member)
                reward = tge_reward(distance.double(), config.sigma, config.tge_reward)
                return unit_range(reward) if config.scales_to_unit else reward

            return relabel_each_member(dataset, len(configs), compute_rewards)

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        """Requires an available neighbour backend, and a folder for `embeddings`."""
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
        """Requires a background episode as long as a window, and enough expert windows."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        assert dataset.expert is not None
        longest = int(dataset.background.lengths.max())
        if config.horizon > longest:
            raise ValueError(
                f"horizon: expected at most {longest}, the background's longest episode, found "
                f"{config.horizon}; choose a smaller one"
            )
        windows = window_starts(dataset.expert, config.horizon, config.placement)
        check_neighbours(config.neighbours, len(windows.unique_consecutive()), "windows")


# 1. Model


def train_model(
    dataset: Dataset,
    rows: Episodes,
    configs: Sequence[Any],
    trainer: StageTrainer,
    store: EmbeddingStore,
) -> Diffusion | None:
    """The diffusion models of `store.model_members`, or None if nothing is left to embed.

        L = E[|eps - eps_theta(sqrt(abar_k) tau + sqrt(1 - abar_k) eps, k)|^2], see `Diffusion.loss`

    rows: the background's, from `window_rows`.  configs: one per member.
    """
    members = store.model_members
    # The checkpoint of a stopped run holds the models of all members, so all or none are trained.
    if all(map(store.is_complete, members)):
        return None
    config = configs[0]
    action_dim = 0 if config.states_only else dataset.action_dim
    model = trainer.train(
        Diffusion,
        [model_config(configs[m]) for m in members],
        config.diffusion_updates,
        dataclasses.replace(dataset, background=rows, expert=None),
        InputSpec(dataset.obs_dim + action_dim, action_dim),
        members=members,
    )
    assert isinstance(model, Diffusion)
    for index, member in enumerate(members):
        if not store.is_complete(member):
            store.delete_other_models(member, model.fingerprint(index))
    return model


# 2. Embedding


def embed_both(
    model: Diffusion | None,
    member: int,
    data: Dataset,
    rows: Episodes,
    scale: Scale,
    store: EmbeddingStore,
) -> tuple[ResumableArray, ResumableArray]:
    """Embeddings of the expert's distinct windows, [M, width], and the background's, [N, width].

    model: from `train_model`.  rows: the background's, from `window_rows` with `scale`.
    """
    config, index = store.configs[member], store.model_index(member)
    horizon, placement = config.horizon, config.placement
    assert data.expert is not None

    def embed(source: str, rows: Episodes, first: Tensor) -> ResumableArray:
        def compute(done: int) -> Iterator[Tensor]:
            assert model is not None
            return embed_windows(model, index, rows.obs, first[done:], sphere=config.sphere)

        return store.embeddings(source, member, len(first), compute)

    starts = window_starts(data.expert, horizon, placement).unique_consecutive()
    observations = dataclasses.replace(data.expert, action=None)
    expert_rows = window_rows(observations, horizon, scale)
    expert = embed("expert", expert_rows, first_rows(data.expert, horizon)[starts])
    starts = window_starts(data.background, horizon, placement)
    return expert, embed("background", rows, first_rows(data.background, horizon)[starts])


def embed_windows(
    model: Diffusion, index: int, rows: Tensor, first: Tensor, *, sphere: bool
) -> Iterator[Tensor]:
    """Yields z = phi_theta(tau, 0), or z / |z| with `sphere`, of up to `BATCH` windows at a time.

    index: of the member within the model's population.  rows: [R, C].  first: the first row of each
    window, [n].  Yields [up to BATCH, width].
    """
    for z in model.embed(index, rows, first, BATCH):
        yield F.normalize(z, dim=1) if sphere else z


# 3. Distances


def expert_distances(search: Neighbours, background: ResumableArray, count: int) -> Tensor:
    """Euclidean distances to the nearest expert embeddings, ascending, [N, count] float32.

    search: among the expert's embeddings.  background: [N, width].
    """
    distances = torch.empty(len(background), count)
    for first in range(0, len(background), QUERIES):
        queries = background.rows(first, first + QUERIES).to(search.points.device)
        distances[first : first + len(queries)] = search.distances(queries, count).cpu()
    return distances


# 4. Reward


def tge_reward(distance: Tensor, sigma: float, kind: str) -> Tensor:
    """Each row's reward, [N].

        kernel_of_mean   -log(1 + (1/m) sum_j d_j / sigma)
        mean_of_kernel   -(1/m) sum_j log(1 + d_j / sigma)
        log_mean         log((1/m) sum_j 1 / (1 + d_j / sigma))
        gaussian         (1/m) sum_j exp(-d_j^2 / (2 sigma^2))

    distance: to the m nearest expert windows, [N, m].  sigma: above 0.
    Source: arXiv 2601.00452. mean_of_kernel is Eq. 2 of version 1 with the log kernel, log_mean its
    appendix up to log m, kernel_of_mean our reading of version 2, gaussian its ablation.
    """
    d = distance / sigma
    if kind == "kernel_of_mean":
        return -torch.log1p(d.mean(1))
    if kind == "mean_of_kernel":
        return -torch.log1p(d).mean(1)
    if kind == "log_mean":
        return (1.0 / (1.0 + d)).mean(1).log()
    return torch.exp(-0.5 * d.square()).mean(1)


# Backbones


@dataclass(frozen=True)
class TGEIQLConfig(IQLConfig, TGEConfig):
    """Fields of `tge`."""

    reward_scaling: str = "return_range"  # none | return_range: best and worst return 1000 apart


class TGEIQL(TGE, IQL):
    """IQL with TGE's rewards."""

    Config = TGEIQLConfig


@dataclass(frozen=True)
class TGEReBRACConfig(ReBRACConfig, TGEConfig):
    """Fields of `tge-rebrac`."""

    backbone: str = "rebrac"  # iql | rebrac: method that learns from the rewards


class TGEReBRAC(TGE, ReBRAC):
    """ReBRAC with TGE's rewards."""

    Config = TGEReBRACConfig
