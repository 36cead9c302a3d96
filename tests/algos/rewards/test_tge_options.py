"""Settings and data that TGE refuses before training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from algos.rewards.tge_runs import SIZES
from fastifo.algos.rewards.tge import TGEIQL
from helpers import random_dataset


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"neighbours": 15}, "neighbours: expected at most 14, the number of the expert's windows"),
        ({"horizon": 64}, "horizon: expected at most 10, the background's longest episode"),
        ({"neighbour_backend": "faiss-gpu"}, "neighbour_backend: faiss-gpu expects FAISS for"),
        ({"embeddings": __file__}, "embeddings: expected a folder, found the file"),
        ({"sigma": math.inf}, "sigma: expected a finite number, found inf"),
        ({"backbone": ["iql", "rebrac"]}, "backbone: expected one of iql, rebrac, found"),
    ],
)
def test_bad_settings_are_refused_before_training(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fastifo.train("tge", random_dataset(), out=tmp_path / "run", **SIZES | fields)
    assert not (tmp_path / "run").exists()


def test_several_datasets_in_one_run_are_refused() -> None:
    both = [random_dataset(0), random_dataset(1)]
    with pytest.raises(ValueError, match="tge: expected one dataset per run, found 2; train"):
        fastifo.train("tge-rebrac", both, **SIZES)


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="backbone: expected one of iql, rebrac, found 'td3'"):
        fastifo.train("tge", random_dataset(), backbone="td3")


def test_missing_expert_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="tge needs expert observations"):
        TGEIQL.check_data(random_dataset(expert=False), TGEIQL.Config(), torch.device("cpu"))
