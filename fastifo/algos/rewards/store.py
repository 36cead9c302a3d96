"""Files that TGE keeps between runs: embeddings, distances, and a summary of them for reports.

A run keeps these files in its folder, or in the folder that the field `embeddings` names. Later
runs on the same data that name the same folder, such as one with the other backbone or another
`sigma`, share the model and its embeddings instead of training again.

    embeddings-expert-NAME.npy       z of the expert's windows, [M, width]
    embeddings-background-NAME.npy   z of the background's windows, [N, width]
    distances-NAME-m.npy             distances to the m nearest expert windows, [N, m] float32
    picture-NAME-m.npz               a summary for reports, see `embedding_summary`
    model-NAME.json                  fingerprint of the model that made the embeddings
    NAME.lock                        held by the run that is working on NAME (shared folders only)

NAME is seedS-DIGEST. The digest covers the config fields that embeddings depend on; in a shared
folder also the precision and the dataset. The run's own folder gets one more file per reward,
tge-NAME-m-KIND-sigmaS.npz, from which `fastifo report` draws.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.algos.config import Config
from fastifo.algos.learner import StageTrainer
from fastifo.algos.rewards.diffusion import DiffusionConfig
from fastifo.algos.rewards.resumable import (
    ResumableArray,
    delete_array,
    file_locks,
    has_array,
    load_array,
    load_columns,
    save_array,
    save_columns,
)
from fastifo.data.dataset import Dataset
from fastifo.utils.files import UNREADABLE, read_json, write_json
from fastifo.utils.progress import ProgressBar

SAMPLE = 2000  # background embeddings in a summary; a quarter as many of the expert's


class EmbeddingStore:
    """Embeddings and distances of a population's members, in files or in memory.

    Members with the same seed and the same settings of model and windows share a model and its
    embeddings. The first of them is the one it is trained for: their `model_member`.
    """

    def __init__(self, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> None:
        """configs: one per member, of a `TGEConfig`."""
        self.configs, self.trainer = configs, trainer
        self.folder = trainer.folder  # None keeps everything in memory
        self.is_shared = bool(configs[0].embeddings)
        context = ""
        if self.is_shared:
            self.folder = Path(configs[0].embeddings)
            context = f"{trainer.precision} {dataset.fingerprint()}"
        self.names = [
            f"seed{seed}-{embedding_digest(config, context)}"
            for seed, config in zip(trainer.seeds, configs, strict=True)
        ]
        self.model_members = [self.names.index(name) for name in dict.fromkeys(self.names)]
        self._distances: dict[str, Tensor] = {}  # by key, for all members that share them

    def model_member(self, member: int) -> int:
        """The member whose model embeds for `member`."""
        return self.names.index(self.names[member])

    def model_index(self, member: int) -> int:
        """Where that model is among those of `model_members`."""
        return self.model_members.index(self.model_member(member))

    def key(self, member: int) -> str:
        """NAME-m, the name of a member's distances."""
        return f"{self.names[member]}-{self.configs[member].neighbours}"

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Exclusive use of the members' files, if other runs may use the folder too."""
        if self.folder is None or not self.is_shared:
            return contextlib.nullcontext()
        return file_locks([self.folder / f"{name}.lock" for name in set(self.names)])

    def is_complete(self, member: int) -> bool:
        """Whether the files hold the member's distances, or all of its embeddings."""
        if self.folder is None:
            return False
        return has_array(self._distances_file(self.folder, member)) or all(
            map(has_array, self._embeddings_files(self.folder, member))
        )

    def delete_other_models(self, member: int, fingerprint: str) -> None:
        """Deletes the member's embeddings unless the model with this fingerprint made them."""
        if self.folder is None:
            return
        record = self.folder / f"model-{self.names[member]}.json"
        with contextlib.suppress(*UNREADABLE):
            if read_json(record) == {"maker": fingerprint}:
                return
        for path in self._embeddings_files(self.folder, member):
            delete_array(path)
        write_json(record, {"maker": fingerprint})

    def embeddings(
        self, source: str, member: int, count: int, compute: Callable[[int], Iterator[Tensor]]
    ) -> ResumableArray:
        """The member's embeddings, [count, width]; computes those that the files lack.

        source: expert | background.  count: windows to embed.  compute: called with the number of
        embeddings that exist, unless all do; yields the others in order, [n, width] each.
        """
        config, path = self.configs[member], None
        if self.folder is not None:
            path = self.folder / f"embeddings-{source}-{self.names[member]}.npy"
        shape = (count, config.embedding_width)
        array = ResumableArray(path, shape, np.dtype(config.embedding_dtype))
        if array.done < count:
            progress = self.trainer.progress
            with ProgressBar(f"embed {source}", count, "windows", enabled=progress) as bar:
                bar.start_at(array.done)
                for rows in compute(array.done):
                    array.append(rows.float().cpu())
                    bar.update(array.done, "")
        array.finish()
        return array

    def distances(self, member: int) -> Tensor | None:
        """The member's distances, [N, m] float32, or None if they have to be computed."""
        key = self.key(member)
        if key not in self._distances and self.folder is not None:
            loaded = load_array(self._distances_file(self.folder, member))
            if loaded is not None:
                self._distances[key] = loaded
        return self._distances.get(key)

    def save_distances(
        self, member: int, distances: Tensor, summary: dict[str, NDArray[Any]]
    ) -> None:
        """Keeps the member's distances, [N, m] float32.  summary: see `embedding_summary`."""
        self._distances[self.key(member)] = distances
        if self.folder is not None:
            save_columns(self.folder / f"picture-{self.key(member)}.npz", summary)
            save_array(self._distances_file(self.folder, member), distances)

    def save_report_data(self, member: int) -> None:
        """Copies the summary into the run's own folder, with the member's reward settings.

        The distances may be those of another run that shares the folder.
        """
        if self.folder is None or self.trainer.folder is None:
            return
        summary = load_columns(self.folder / f"picture-{self.key(member)}.npz")
        if summary is None:
            return
        config = self.configs[member]
        self.trainer.note("neighbour_backend", str(summary["backend"]))
        settings = {"sigma": np.array(config.sigma), "kind": np.array(config.tge_reward)}
        name = f"tge-{self.key(member)}-{config.tge_reward}-sigma{config.sigma:g}.npz"
        save_columns(self.trainer.folder / name, summary | settings)

    def _distances_file(self, folder: Path, member: int) -> Path:
        return folder / f"distances-{self.key(member)}.npy"

    def _embeddings_files(self, folder: Path, member: int) -> list[Path]:
        name = self.names[member]
        return [folder / f"embeddings-{source}-{name}.npy" for source in ("expert", "background")]


def embedding_digest(config: Any, context: str) -> str:
    """Eight hexadecimal digits of the fields that embeddings depend on, and of `context`."""
    fields = [field.name for field in dataclasses.fields(DiffusionConfig)]
    common = {field.name for field in dataclasses.fields(Config)}
    names = [name for name in fields if name not in common]
    names += ["placement", "sphere", "init", "embedding_dtype"]
    text = repr({name: getattr(config, name) for name in names})
    return hashlib.sha256((text + context).encode()).hexdigest()[:8]


def embedding_summary(
    expert: ResumableArray,
    background: ResumableArray,
    distances: Tensor,
    dataset: Dataset,
    backend: str,
) -> dict[str, NDArray[Any]]:
    """The columns of a summary, from which a report draws.

    expert, background: complete embeddings, [M, width] and [N, width].  distances: [N, m].

    Returns, by name:
    background, expert: samples projected onto their first two principal components, [n, 2].
    returns: the return of each sampled background transition's episode, [n], nan without rewards.
    distances: [n, m].  best, worst: distances in the episode with the highest and the lowest
    return, or length without rewards, [T, m].  backend: the neighbour search.
    """
    episodes = dataset.background
    returns = episodes.returns()
    order = (episodes.lengths.double() if returns is None else returns).argsort()
    sampled = torch.linspace(0, len(background) - 1, min(SAMPLE, len(background))).long()
    shown = torch.linspace(0, len(expert) - 1, min(SAMPLE // 4, len(expert))).long()
    points = torch.stack([background.rows(int(i), int(i) + 1)[0] for i in sampled])
    expert_points = torch.stack([expert.rows(int(i), int(i) + 1)[0] for i in shown])
    both = torch.cat([points, expert_points]).double()
    centred = both - both.mean(0)
    plane = torch.linalg.svd(centred, full_matrices=False).Vh[:2].t()
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), episodes.lengths)
    episode_distances = {
        name: distances[int(episodes.start[e]) : int(episodes.start[e + 1])].numpy()
        for name, e in (("worst", int(order[0])), ("best", int(order[-1])))
    }
    unknown = np.full(len(sampled), np.nan)
    return {
        "background": (centred[: len(points)] @ plane).float().numpy(),
        "expert": (centred[len(points) :] @ plane).float().numpy(),
        "returns": unknown if returns is None else returns[episode[sampled]].numpy(),
        "distances": distances[sampled].numpy(),
        **episode_distances,
        "backend": np.array(backend),
    }
