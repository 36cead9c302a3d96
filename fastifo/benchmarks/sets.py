"""Ladders of SIBench sets: one task and one expert, backgrounds of several qualities."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.benchmarks.demonstrations import RecordedExpert, find_demonstrator, is_dataset
from fastifo.benchmarks.sibench import build_sibench, check_demonstrator, play_noisy
from fastifo.benchmarks.sibench_spec import RECIPE, SIBenchSpec
from fastifo.data.dataset import load_dataset
from fastifo.data.load import load
from fastifo.envs.registry import describe
from fastifo.utils.ambient import standard_torch
from fastifo.utils.files import keep_plan
from fastifo.utils.locks import folder_lock
from fastifo.utils.parallel import Executor, run_jobs
from fastifo.utils.text import did_you_mean

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # demonstrations cloned, the paper's ten sets
DEMOS = 200  # expert episodes beside a ladder of noise, as many as robomimic's files have


@standard_torch()
def build_sets(
    env_id: str,
    out: Path,
    sizes: Sequence[int] = SIZES,
    *,
    background_noise: Sequence[float] = (),
    demonstrations: str = "",
    progress: bool = True,
    executor: Executor | None = None,
    **options: Any,
) -> list[Path]:
    """Builds one set per number of cloned demonstrations in `out`; finished sets are kept.

    Several processes build the sets, so a script calls this below `if __name__ == "__main__":`.
    background_noise: build a set per action noise of the expert instead, whose episodes are the
    background; `sizes` is not used then.
    demonstrations: spec of a dataset whose background episodes are cloned; empty plays the expert.
    options: fields of SIBenchSpec; `demos` is the largest size unless given, or `DEMOS` with
    `background_noise`.
    executor: where sets are built; None: in parallel processes.
    Returns the files, smallest size or noise first.  Raises ValueError where `out` holds sets of
    other options, a size exceeds the number of demonstrations, or recorded demonstrations are to
    be played with noise.
    """
    known = {f.name for f in dataclasses.fields(SIBenchSpec)} - {"env_id", "d", "background_noise"}
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"sibench: unknown option {unknown[0]!r}; {did_you_mean(unknown[0], known)}"
        )
    field, rungs = ladder(sizes, background_noise)
    options.setdefault("demos", DEMOS if background_noise else max(rungs))
    first = SIBenchSpec(env_id, **{field: rungs[0]}, **options)
    describe(first.env)
    source = demonstrations or (first.expert if is_dataset(first.expert) else "")
    if background_noise and source:
        raise ValueError(
            f"background_noise: expected an expert that plays, found recorded episodes ({source}); "
            "clone them instead (sizes)"
        )
    values = first.values() | {"expert": first.expert}
    own = ("env_id", "d", "background_noise")
    shared = {name: value for name, value in values.items() if name not in own}
    plan = {"env_id": env_id, "demonstrations": demonstrations, "recipe": RECIPE} | shared
    with folder_lock(out, waits=True):  # two studies may share the sets
        keep_plan(out / "plan.json", plan)
        count = keep_demonstrations(first, demonstrations, out, progress)
        if field == "d" and rungs[-1] > count:
            raise ValueError(
                f"sizes: {rungs[-1]} is more than the {count} demonstrations there are"
            )
        specs = [
            SIBenchSpec(env_id, **{field: rung}, **options | {"demos": count}) for rung in rungs
        ]
        jobs = [BuildJob(spec, out, progress) for spec in specs]
        run_jobs([job for job in jobs if not job.path.exists()], executor)
    return [job.path for job in jobs]


def ladder(sizes: Sequence[int], background_noise: Sequence[float]) -> tuple[str, list[Any]]:
    """The field of `SIBenchSpec` in which sets differ, and its values in ascending order.

    Raises ValueError for an empty ladder, or a noise that is not above 0 or is given twice.
    """
    if not background_noise:
        if not sizes:
            raise ValueError("sizes: expected one or more, found none")
        return "d", sorted(sizes)
    rungs = sorted(float(noise) for noise in background_noise)
    if not rungs[0] > 0 or len(set(rungs)) < len(rungs):
        raise ValueError(f"background_noise: expected different values above 0, found {rungs}")
    return "background_noise", rungs


def keep_demonstrations(spec: SIBenchSpec, source: str, out: Path, progress: bool) -> int:
    """Writes `demonstrations.fastifo` into `out` unless it is there; returns how many there are."""
    path = out / "demonstrations.fastifo"
    if not path.exists():
        demonstrator = (
            RecordedExpert(source, load(source, progress=progress), spec.env)
            if source
            else find_demonstrator(spec.env, spec.expert, progress=progress)
        )
        check_demonstrator(spec, demonstrator)
        assert spec.noise is not None
        dataset = demonstrator.demonstrate(spec.demos, spec.seed, spec.noise)
        dataset.save(path)
    return load_dataset(path).background.num_episodes


@dataclass(frozen=True)
class BuildJob:
    """Builds one set of a folder that has demonstrations."""

    spec: SIBenchSpec
    out: Path  # folder of the demonstrations and the sets
    progress: bool  # show progress bars

    @property
    def path(self) -> Path:
        """File of the set."""
        return self.out / f"{self.spec.name}.fastifo"

    def run(self) -> None:
        """Clones or adds noise, plays, and writes the file."""
        demonstrations = load_dataset(self.out / "demonstrations.fastifo")
        background = None
        if self.spec.background_noise:
            expert = find_demonstrator(self.spec.env, self.spec.expert, progress=self.progress)
            background = play_noisy(self.spec, expert)
        dataset = build_sibench(
            self.spec,
            demonstrations,
            background=background,
            clone_folder=self.out / "clones" / self.spec.name,
            progress=self.progress,
        )
        dataset.save(self.path)
