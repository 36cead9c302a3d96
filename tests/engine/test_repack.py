"""Members that leave their population for another one continue with the same bits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from fastifo.algos.config import expand
from fastifo.engine.options import TrainOptions
from fastifo.engine.population import Member
from fastifo.engine.train import train_members
from helpers import SMALL, random_dataset
from support import contents


def members_of(name: str, rates: list[float], seeds: list[int], **fields: Any) -> list[Member]:
    learner_class = fastifo.algos.find(name)
    configs = expand(learner_class.Config, SMALL | fields | {"learning_rate": rates})
    return [Member(seed, config) for seed, config in zip(seeds, configs, strict=True)]


def options(out: Path, num_updates: int) -> TrainOptions:
    return TrainOptions(num_updates, out=out, log_every=4, checkpoint_every=4, progress=False)


def weights(run: fastifo.Run, member: int) -> list[torch.Tensor]:
    return list(run.policy(member).learner.parameters())


@pytest.mark.parametrize(
    ("name", "fields"),
    [("vfo_bin", {}), ("vfo_disc", {"disc_updates": 4}), ("bco", {"inverse_updates": 4})],
)
def test_repacked_members_end_with_the_bits_of_an_undisturbed_run(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    dataset = random_dataset()
    rates, seeds = [1e-3, 2e-3, 3e-3, 4e-3, 5e-3], [0, 1, 0, 3, 2]
    members = members_of(name, rates, seeds, **fields)
    whole = train_members(name, members, dataset, options(tmp_path / "whole", 12))
    if name == "vfo_bin":
        assert whole.engine == "native"
    for part, indices in (("a", [0, 1, 2]), ("b", [3, 4])):
        train_members(name, [members[i] for i in indices], dataset, options(tmp_path / part, 8))
    survivors = [4, 1, 0]
    sources = [(tmp_path / "b", 1), (tmp_path / "a", 1), (tmp_path / "a", 0)]
    chosen = [members[i] for i in survivors]
    again = train_members(name, chosen, dataset, options(tmp_path / "c", 12), sources)
    for index, member in enumerate(survivors):
        for mine, expected in zip(weights(again, index), weights(whole, member), strict=True):
            assert torch.equal(mine, expected)
    columns, expected = again.metrics(None), whole.metrics(None)
    for index, member in enumerate(survivors):
        mine, theirs = columns["member"] == index, expected["member"] == member
        assert list(columns["update"][mine]) == list(expected["update"][theirs])
        assert list(columns["stage"][mine]) == list(expected["stage"][theirs])
    before = contents(tmp_path / "c")
    train_members(
        name, chosen, dataset, options(tmp_path / "c", 12), sources
    )  # keeps what is there
    assert contents(tmp_path / "c") == before


def test_sources_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    dataset = random_dataset()
    members = members_of("bc", [1e-3, 2e-3], [0, 1])
    for name, updates in (("a", 4), ("b", 8)):
        train_members("bc", members, dataset, options(tmp_path / name, updates))
    sources = [(tmp_path / "a", 0), (tmp_path / "b", 1)]
    with pytest.raises(ValueError, match=r"c: expected sources with the same number of updates"):
        train_members("bc", members, dataset, options(tmp_path / "c", 12), sources)
    wide = [
        dataclasses.replace(m, config=expand(type(m.config), {"num_bins": 12})[0]) for m in members
    ]
    with pytest.raises(ValueError, match=r"nets differ"):
        train_members("bc", wide, dataset, options(tmp_path / "c", 12), [(tmp_path / "a", 0)] * 2)
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        train_members(
            "bc", members, dataset, options(tmp_path / "d", 12), [(tmp_path / "nowhere", 0)] * 2
        )
    assert not (tmp_path / "d").exists()
