"""Members of one population that learn from different datasets."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from engine.runs import ALL, QUIET, short, train
from fastifo.algos import ALGORITHMS
from fastifo.algos.learner import tensors
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.stack import stacked
from fastifo.report.runs import by_dataset, read_runs
from helpers import random_dataset


def datasets() -> list[Dataset]:
    """Three datasets of different sizes; the first two share their demonstrations."""
    first, second, third = (random_dataset(seed, env_id="Hopper-v4") for seed in range(3))
    cut = second.background.take([0, 2, 3])
    return [first, Dataset(cut, first.expert, "Hopper-v4"), third]


ON_SEVERAL = [name for name in ALL if not ALGORITHMS[name].one_dataset]


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        *(("torch", name) for name in ON_SEVERAL),
        *(("native", name) for name in ON_SEVERAL if ALGORITHMS[name].native_loss is not None),
    ],
)
@pytest.mark.slow
def test_a_member_learns_as_in_a_run_with_only_its_dataset(name: str, engine: str) -> None:
    fields: dict[str, Any] = {"engine": engine, "seeds": [3, 1], "learning_rate": [1e-3, 1e-2]}
    if name == "vfo_bin":
        fields |= {"policy_batch": "separate", "batch_mode": "bernoulli"}
    if name in ("iql", "seabo", "otr"):
        fields |= {"standardize_obs": False}
    together = fastifo.train(name, datasets(), num_updates=25, **QUIET | fields | short(name))
    assert len(together.members) == 12
    assert len(together.groups) == 1
    state = tensors(together.learners[0])
    for index, dataset in enumerate(datasets()):
        single = train(name, dataset, 25, **fields)
        for key, value in tensors(single.learners[0]).items():
            if "encoder" not in key:
                assert torch.equal(state[key][4 * index : 4 * index + 4], value), (index, key)
    assert together.describe(9) == "member 9, seed=1, learning_rate=0.001, dataset=2"


def test_episodes_that_datasets_share_are_kept_once() -> None:
    combined = stacked(datasets(), [0, 0, 1, 2])
    assert combined.expert is not None
    assert combined.expert.num_episodes == 4
    assert combined.expert.ranges is not None
    assert combined.expert.ranges.tolist() == [[0, 14], [0, 14], [0, 14], [14, 14]]
    assert combined.background.num_episodes == 6 + 3 + 6
    parts = [dataset.background for dataset in datasets()]
    joined = Episodes.joined(parts)
    assert joined.take(range(6, 9)).obs.equal(parts[1].obs)


def test_a_run_of_several_datasets_resumes_and_reports(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**QUIET, "out": tmp_path / "run", "seeds": [0, 1]}
    fastifo.train("vfo_bin", datasets(), num_updates=7, **fields)
    run = fastifo.train("vfo_bin", datasets(), num_updates=14, **fields)
    uninterrupted = fastifo.train(
        "vfo_bin", datasets(), num_updates=14, **QUIET | {"seeds": [0, 1]}
    )
    for a, b in zip(
        tensors(run.learners[0]).values(), tensors(uninterrupted.learners[0]).values(), strict=True
    ):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"holds another run .*datasets"):
        fastifo.train("vfo_bin", datasets()[::-1], num_updates=14, **fields)
    reopened = fastifo.open_run(tmp_path / "run")
    assert [member.dataset for member in reopened.members] == [0, 0, 1, 1, 2, 2]
    entries = read_runs(tmp_path)
    assert [entry.members for entry in entries] == [[0, 1], [2, 3], [4, 5]]
    assert len(by_dataset(entries)) == 3
    assert {row["member"] for row in entries[1].metrics} == {2, 3}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"env_id": "Ant-v4"}, "dataset 1: expected env_id Hopper-v4 .* found Ant-v4"),
        ({"env_id": "Hopper-v4", "expert": False}, "dataset 1: expected expert True"),
        ({"env_id": "Hopper-v4", "action_low": -2, "action_high": 2}, "1: expected action_low"),
    ],
)
def test_datasets_of_different_tasks_are_refused(other: dict[str, Any], message: str) -> None:
    first = random_dataset(env_id="Hopper-v4")
    with pytest.raises(ValueError, match=message):
        fastifo.train("bc", [first, random_dataset(1, **other)], num_updates=1, **QUIET)


def test_several_datasets_in_one_run_cannot_be_standardised() -> None:
    with pytest.raises(ValueError, match="train them one by one"):
        fastifo.train("bc", datasets(), num_updates=1, **QUIET, standardize_obs=True)
    with pytest.raises(ValueError, match="dataset: expected one or more, found none"):
        fastifo.train("bc", [], num_updates=1, **QUIET)
