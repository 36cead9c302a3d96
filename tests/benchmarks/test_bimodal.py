"""Bimodal mixtures of random and expert episodes."""

from pathlib import Path

import numpy as np
import pytest

import fastifo
from fastifo.benchmarks.sibench import load_sibench
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.data.dataset import Dataset
from support import write_expert


@pytest.fixture
def expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_expert(tmp_path / "expert.npz")


def load(expert: Path, options: str) -> Dataset:
    return fastifo.load(f"bimodal:Hopper-v4/{options},total=4,policy={expert}", progress=False)


def test_expert_episodes_replace_random_ones(expert: Path) -> None:
    sets = {n: load(expert, f"expert={n},demos=3") for n in (0, 1, 4)}
    for n, dataset in sets.items():
        background, demos = dataset.background, dataset.expert
        assert background.num_episodes == 4
        assert demos is not None
        assert (demos.num_episodes, demos.reward) == (3, None)
        assert dataset.env_id == "Hopper-v4"
        assert dataset.info["spec"]["expert"] == n
        # Mixtures are nested: they share the first random and the first expert episodes.
        assert background.take(range(4 - n)).columns().keys() == background.columns().keys()
        for i in range(4 - n):
            one, other = background.take([i]), sets[0].background.take([i])
            assert one.obs.equal(other.obs)
        if n:
            one, other = background.take([4 - n]), sets[4].background.take([0])
            assert one.obs.equal(other.obs)
    random_action = sets[0].background.action
    assert random_action is not None
    assert abs(float(random_action.mean())) < 0.2
    assert 0.5 < float(random_action.std()) < 0.65  # uniform numbers in [-1, 1] have 0.577
    demos, mixture = sets[4].expert, sets[4].background
    assert demos is not None
    assert not np.isin(demos.obs[:, 0], mixture.obs[:, 0]).any()  # they share no episode


@pytest.mark.slow
def test_a_mixture_is_the_same_when_built_again(
    expert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(expert, "expert=2")
    assert load(expert, "expert=2").fingerprint() == first.fingerprint()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert load(expert, "expert=2").fingerprint() == first.fingerprint()
    assert load(expert, "expert=2,seed=1").fingerprint() != first.fingerprint()


@pytest.mark.slow
def test_the_other_episodes_may_come_from_a_clone(
    expert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"sibench:Hopper-v4/d=2,episodes=4,seed=0,demos=50,noise=0.5,expert={expert}"

    def short_clone(clone: SIBenchSpec, **options: bool) -> fastifo.Dataset:
        assert clone == SIBenchSpec.parse(spec)
        return load_sibench(spec + ",bc_updates=20", **options)

    monkeypatch.setattr("fastifo.benchmarks.bimodal.load_set", short_clone)
    mixture = load(expert, "expert=1,demos=3,clone=2")
    clone = load_sibench(spec + ",bc_updates=20", progress=False)
    assert mixture.background.num_episodes == 4
    for i in range(3):
        one, other = mixture.background.take([i]), clone.background.take([i])
        assert one.obs.equal(other.obs)
    expert_part = load(expert, "expert=4,demos=3").background.take([0])
    assert mixture.background.take([3]).obs.equal(expert_part.obs)
    assert mixture.info["spec"]["clone"] == 2


def test_a_script_that_misjudges_the_object_plays_the_other_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = (
        "bimodal:metaworld/CoffeeButton/expert=2,total=6,demos=2,noise=0.3,object_error=0.3,"
        "env.max_episode_steps=60,env.success_terminal=false"
    )
    dataset = fastifo.load(spec, progress=False)
    background = dataset.background
    assert dataset.info["spec"]["object_error"] == 0.3
    assert background.success is not None
    assert background.success[4:].all()  # the expert's
    assert not background.success[:4].all()
    assert not background.terminal.any()
    others = fastifo.load(spec.replace("expert=2", "expert=0"), progress=False).background
    assert others.num_episodes == 6
    assert others.take(range(4)).obs.equal(background.take(range(4)).obs)
    assert len(list((tmp_path / "fastifo").glob("bimodal-*-misjudged-*"))) == 1


def test_objects_are_misjudged_by_scripts_only(expert: Path) -> None:
    with pytest.raises(ValueError, match=r"object_error: expected an expert that is a script.*Hop"):
        load(expert, "expert=1,demos=1,object_error=0.1")


def test_objects_are_not_misjudged_in_a_dataset(expert: Path, tmp_path: Path) -> None:
    load(expert, "expert=3,demos=1").save(tmp_path / "recorded.fastifo")
    with pytest.raises(ValueError, match="expected a script as expert, found a dataset"):
        load(tmp_path / "recorded.fastifo", "expert=1,demos=1,object_error=0.1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("expert=5", "expert must be 0 to total=4, found 5"),
        ("expert=x", "expert must be an integer, found 'x'"),
        ("seed=1", "expert is missing; as in 'bimodal:Hopper-v4/expert=200'"),
        ("expert=1,demos=-1", "must be at least 0, found -1"),
        ("expert=1,seed=100", "seed must be 0 to 99"),
        ("expert=1,clone=-2", "clone must be at least 0, found -2"),
        ("expert=1,object_error=-1", "object_error must be at least 0, found -1"),
        ("expert=1,object_error=nan", "object_error must be at least 0, found nan"),
        ("expert=1,clone=2,object_error=1", "expected clone or object_error, found both"),
    ],
)
def test_a_wrong_spec_raises_and_names_the_part(expert: Path, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(expert, options)
