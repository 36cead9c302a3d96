"""Run folders whose members continue from members of other runs, in any combination."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo.engine.checkpoint import Checkpoints, checked_metrics
from fastifo.engine.metrics import MetricsFile
from fastifo.engine.population import Group, group_members
from fastifo.engine.reopen import members_of
from fastifo.engine.run import Run
from fastifo.engine.run_folder import new_folder, open_folder

SHARED = "encoder."  # tensors that a population has once, not for each member


def repack(run: Run, sources: Sequence[tuple[Path, int]]) -> None:
    """Writes the run's folder with the weights of other runs' members; keeps a folder that exists.

    run: has a path, and as many members as there are sources, whose nets have the same shapes.
    sources: run folder and index of the member that each member continues from.

    All sources have made the same number of updates. Weights, targets and the optimiser's state are
    copied exactly, those of pre-training stages too, and so are the rows of the log. A stage that
    trains fewer models than the population has members is left out: training it again gives the
    same models.
    Raises FileNotFoundError or ValueError naming a file that is missing or damaged, or a source of
    other shapes.
    """
    assert run.path is not None
    if (run.path / "config.json").exists():
        return
    states = {
        key: state for group in run.groups for key, state in _states_of(group, sources, run.path)
    }
    rows = _metric_rows(sources)
    with new_folder(run.path) as folder:
        checkpoints = Checkpoints(folder / "checkpoint")
        checkpoints.write_config(run.to_json())
        metrics = MetricsFile(folder / "metrics.jsonl", 0)
        metrics.write(rows)
        for key, (num_updates, state) in states.items():
            checkpoints.save_state(key, state, num_updates, metrics.size_bytes())


def _metric_rows(sources: Sequence[tuple[Path, int]]) -> list[dict[str, Any]]:
    """What was logged of each source so far, in the order of a run that had them all."""
    logs: dict[Path, list[dict[str, Any]]] = {}
    rows = []
    for member, (folder, index) in enumerate(sources):
        if folder not in logs:
            logs[folder] = checked_metrics(folder)
        rows += [row | {"member": member} for row in logs[folder] if row.get("member") == index]
    stages = list(dict.fromkeys(row.get("stage") for row in rows if row.get("stage") != "callback"))
    rank = {stage: place for place, stage in enumerate(stages)}
    return sorted(rows, key=lambda row: (rank.get(row.get("stage"), len(rank)), row["update"]))


def _states_of(
    group: Group, sources: Sequence[tuple[Path, int]], folder: Path
) -> Iterator[tuple[str, tuple[int, dict[str, Tensor]]]]:
    """Key, number of updates and tensors of each stage of a population."""
    reader = _Reader()
    chosen = [sources[member] for member in group.members]
    for stage in reader.stages(chosen[0]):
        rows = [reader.row(source, stage) for source in chosen]
        if any(row is None for row in rows):
            continue
        updates = {reader.num_updates(source, stage) for source in chosen}
        if len(updates) > 1:
            raise ValueError(
                f"{folder}: expected sources with the same number of updates, found "
                f"{', '.join(map(str, sorted(updates)))}"
            )
        state = _stacked([row for row in rows if row is not None], folder)
        yield f"{group.index}-{stage}", (updates.pop(), state)


class _Reader:
    """Reads each state of the sources once."""

    def __init__(self) -> None:
        self.runs: dict[Path, tuple[Checkpoints, list[Group]]] = {}
        self.states: dict[tuple[Path, str], dict[str, Tensor]] = {}

    def _open(self, folder: Path) -> tuple[Checkpoints, list[Group]]:
        if folder not in self.runs:
            content, checkpoints = open_folder(folder)
            self.runs[folder] = checkpoints, group_members(members_of(content))
        return self.runs[folder]

    def _group(self, source: tuple[Path, int]) -> Group:
        folder, member = source
        return next(group for group in self._open(folder)[1] if member in group.members)

    def stages(self, source: tuple[Path, int]) -> list[str]:
        """Names of the stages that the source's population has checkpoints of."""
        prefix = f"{self._group(source).index}-"
        keys = self._open(source[0])[0].entries
        return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]

    def num_updates(self, source: tuple[Path, int], stage: str) -> int:
        """Updates that the stage has made."""
        return self._open(source[0])[0].num_updates(f"{self._group(source).index}-{stage}")

    def row(self, source: tuple[Path, int], stage: str) -> dict[str, Tensor] | None:
        """The source's tensors of a stage, [1, ...]; None if the stage has other members."""
        folder, member = source
        group, checkpoints = self._group(source), self._open(folder)[0]
        key = f"{group.index}-{stage}"
        if key not in checkpoints.entries:
            return None
        if (folder, key) not in self.states:
            state = checkpoints.read_state(key)
            self.states[folder, key] = {
                name: value for name, value in state.items() if not name.startswith("engine.")
            }
        state, index = self.states[folder, key], group.members.index(member)
        sizes = {len(value) for name, value in state.items() if not name.startswith(SHARED)}
        if sizes != {len(group.members)}:
            return None
        return {
            name: value if name.startswith(SHARED) else value[index : index + 1]
            for name, value in state.items()
        }


def _stacked(rows: Sequence[dict[str, Tensor]], folder: Path) -> dict[str, Tensor]:
    """Tensors of a population from those of its members."""
    first = rows[0]
    shapes: list[Any] = [{name: value.shape for name, value in row.items()} for row in rows]
    if any(each != shapes[0] for each in shapes):
        raise ValueError(f"{folder}: expected sources whose nets have the same shapes")
    return {
        name: value if name.startswith(SHARED) else torch.cat([row[name] for row in rows])
        for name, value in first.items()
    }
