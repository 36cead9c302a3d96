"""SIBench sets: their specs, their cache, and how they are built."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.benchmarks.sets import build_sets
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.data.dataset import Dataset
from fastifo.envs.experts import load_expert
from support import contents, full_disk, write_expert

TINY = "episodes=3,demos=4,bc_updates=2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastifo"


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    return write_expert(tmp_path / "expert.npz")


def load(expert: Path, options: str = "d=2") -> Dataset:
    return fastifo.load(f"sibench:Hopper-v4/{options},{TINY},expert={expert}", progress=False)


def test_a_spec_may_set_every_option() -> None:
    spec = SIBenchSpec.parse(
        "sibench:Ant-v4/d=5,episodes=1_000,seed=3,demos=10,n_expert=2,bc_updates=7,expert=/a/b=c.npz"
    )
    assert spec == SIBenchSpec("Ant-v4", 5, 1000, 3, 10, 2, 7, "/a/b=c.npz")
    assert SIBenchSpec.parse("sibench:Hopper-v4/d=1") == SIBenchSpec("Hopper-v4", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hopper-v4", "expected a spec such as 'sibench:Hopper-v4/d=5,episodes=200'"),
        ("/d=1", "expected a spec such as"),
        ("Hopper-v4/", "unknown option ''"),
        ("Hopper-v4/d", "unknown option 'd'"),
        ("Hopper-v4/d=1,episode=3", "unknown option 'episode=3'; did you mean 'episodes'"),
        ("Hopper-v4/env_id=Ant-v4", "unknown option 'env_id=Ant-v4'"),
        ("Hopper-v4/d=two", "d must be an integer, found 'two'"),
        ("Hopper-v4/d=1.5", "d must be an integer, found '1.5'"),
        ("Hopper-v4/episodes=3", "d is missing"),
        ("Hopper-v4/d=0", "d must be at least 1, found 0"),
        ("Hopper-v4/d=1,episodes=0", "episodes must be at least 1, found 0"),
        ("Hopper-v4/d=1,n_expert=-1", "n_expert must be at least 0, found -1"),
        ("Hopper-v4/d=5,demos=4", "d=5 is more than demos=4; raise demos"),
        ("Hopper-v4/d=1,demos=4,n_expert=5", "n_expert=5 is more than demos=4"),
        ("Hopper-v4/d=1,seed=100", "seed must be 0 to 99, found 100"),
        ("Hoper-v4/d=1", "no environment 'Hoper-v4'; did you mean 'Hopper-v4'"),
        ("Pusher-v4/d=1", "no expert ships for 'Pusher-v4' .*expert=PATH"),
    ],
)
def test_a_wrong_spec_raises_and_names_the_part(cache: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"sibench:{text}", progress=False)
    assert not cache.exists()


def test_a_set_holds_what_its_spec_asks_for(cache: Path, expert: Path) -> None:
    dataset = load(expert, "d=2,n_expert=3")
    assert dataset.env_id == "Hopper-v4"
    assert dataset.background.num_episodes == 3
    assert dataset.background.action is not None
    assert dataset.background.reward is not None
    assert dataset.expert is not None
    assert dataset.expert.num_episodes == 3
    assert dataset.expert.action is not None  # only sqil uses them
    assert dataset.expert.reward is None
    assert dataset.info["spec"]["d"] == 2
    assert dataset.info["expert"]["file"] == "expert.npz"
    assert len(dataset.info["expert_returns"]) == 50
    assert str(expert.parent) not in str(dataset.info)


def test_the_same_spec_gives_the_same_set(
    cache: Path, expert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(expert)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    again = load(expert)
    assert again.fingerprint() == first.fingerprint()
    assert again.info == first.info
    assert load(expert, "d=2,seed=1").fingerprint() != first.fingerprint()


def test_a_set_is_built_once(cache: Path, expert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(expert)
    assert len(list(cache.iterdir())) == 1

    def build_again(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr("fastifo.benchmarks.sibench.build_sibench", build_again)
    assert load(expert).fingerprint() == first.fingerprint()
    with pytest.raises(AssertionError, match="built again"):
        load(expert, "d=3")
    write_expert(expert, seed=1)  # another expert under the same name
    with pytest.raises(AssertionError, match="built again"):
        load(expert)


def test_demonstrations_are_nested_and_given_without_their_actions(
    cache: Path, expert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned: list[Dataset] = []

    def spy(algorithm: str, dataset: Dataset, **fields: Any) -> Any:
        cloned.append(dataset)
        return fastifo.train(algorithm, dataset, **fields)

    monkeypatch.setattr("fastifo.benchmarks.sibench.train", spy)
    one, three = load(expert, "d=1"), load(expert, "d=3")
    small, large = cloned[0].background, cloned[1].background
    assert (small.num_episodes, large.num_episodes) == (1, 3)
    for name, value in small.columns().items():
        assert torch.equal(value, large.take([0]).columns()[name]), name
    assert one.expert is not None
    assert three.expert is not None
    assert torch.equal(one.expert.obs, three.expert.obs)
    assert torch.equal(one.expert.take(range(3)).obs, large.obs)


def test_a_damaged_cache_file_is_named_with_the_remedy(cache: Path, expert: Path) -> None:
    load(expert)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"truncated or of another.*delete this file and try again"
    ):
        load(expert)


def test_a_full_disk_leaves_no_partial_file_in_the_cache(cache: Path, expert: Path) -> None:
    with full_disk(), pytest.warns(UserWarning, match=r"sibench-Hopper-v4.*could not be written"):
        dataset = load(expert)
    assert contents(cache) == {}
    assert load(expert).fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Walker2d-v4"])
def test_a_shipped_expert_acts_within_bounds(env_id: str) -> None:
    action = load_expert(env_id).act_rows(torch.randn(5, 17) * 10, None)
    assert action.shape == (5, 6)
    assert float(action.abs().max()) <= 1.0


def test_an_expert_file_that_is_cut_or_foreign_is_refused(tmp_path: Path, expert: Path) -> None:
    content = expert.read_bytes()
    np.savez(tmp_path / "foreign.npz", a=np.zeros(2))
    np.save(tmp_path / "plain.npy", np.zeros(2))
    foreign = [(tmp_path / name).read_bytes() for name in ("foreign.npz", "plain.npy")]
    for damaged in (b"", b"text", content[:50], content[:-1], *foreign):
        expert.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"expert\.npz: expected an expert's \.npz file, found"
        ):
            load_expert("Hopper-v4", expert)
    with pytest.raises(FileNotFoundError, match="nowhere: no such expert file"):
        load_expert("Hopper-v4", tmp_path / "nowhere")


def test_an_expert_of_another_environment_is_refused(cache: Path, tmp_path: Path) -> None:
    expert = write_expert(tmp_path / "wide.npz", obs_dim=17, action_dim=6)
    with pytest.raises(ValueError, match="Hopper-v4: its observations are 11 wide"):
        load(expert)
    assert not cache.exists()


def build(expert: Path, out: Path, **options: Any) -> dict[str, bytes]:
    fields = {"episodes": 2, "bc_updates": 30, "expert": str(expert), **options}
    paths = build_sets("Hopper-v4", out, (1, 2, 4), progress=False, **fields)
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
def test_sets_built_together_are_nested_and_equal_those_built_alone(
    expert: Path, tmp_path: Path
) -> None:
    files = build(expert, tmp_path / "sets")
    assert sorted(files) == ["d=1.fastifo", "d=2.fastifo", "d=4.fastifo"]
    for d in (1, 2, 4):
        dataset = fastifo.load(tmp_path / f"sets/d={d}.fastifo")
        assert dataset.info["spec"]["d"] == d
        assert dataset.background.num_episodes == 2
        assert dataset.expert is not None
        assert dataset.expert.num_episodes == 4
        returns = dataset.background.returns()
        assert returns is not None
        assert dataset.info["background_return_mean"] == pytest.approx(float(returns.mean()))
        single = load_spec(expert, f"d={d},episodes=2,demos=4,bc_updates=30")
        assert single.fingerprint() == dataset.fingerprint()


def load_spec(expert: Path, options: str) -> Dataset:
    return fastifo.load(f"sibench:Hopper-v4/{options},expert={expert}", progress=False)


@pytest.mark.slow
def test_two_builds_are_equal_to_the_byte(expert: Path, tmp_path: Path) -> None:
    first = build(expert, tmp_path / "a")
    assert build(expert, tmp_path / "b") == first
    assert build(expert, tmp_path / "c", seed=1) != first
    assert build(expert, tmp_path / "a") == first


@pytest.mark.slow
def test_a_killed_build_resumes_to_the_same_bytes(expert: Path, tmp_path: Path) -> None:
    expected = build(expert, tmp_path / "expected", bc_updates=200)
    for seconds in (0.0, 0.4, 0.8, 1.5):
        cut = tmp_path / str(seconds)
        script = (
            "from fastifo.benchmarks.sets import build_sets; from pathlib import Path; "
            "print('ready', flush=1);"
            f"build_sets('Hopper-v4', Path({str(cut)!r}), (1, 2, 4), episodes=2, "
            f"bc_updates=200, expert={str(expert)!r}, progress=False)"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seconds)
            process.kill()
        assert build(expert, cut, bc_updates=200) == expected, seconds


@pytest.mark.slow
def test_demonstrations_may_come_from_a_file(expert: Path, tmp_path: Path) -> None:
    build(expert, tmp_path / "a")
    source = str(tmp_path / "a/demonstrations.fastifo")
    paths = build_sets(
        "Hopper-v4", tmp_path / "b", (1, 3), demonstrations=source, episodes=2, bc_updates=3,
        progress=False,
    )  # fmt: skip
    demos = fastifo.load(paths[1]).expert
    assert demos is not None
    assert demos.num_episodes == 3
    background = fastifo.load(source).background
    assert set(demos.obs[:, 0].tolist()) <= set(background.obs[:, 0].tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 3}, "started with episodes=2, now asked for 3; choose another folder"),
        ({"epsodes": 3}, "unknown option 'epsodes'; did you mean 'episodes'"),
        ({"demos": 3}, "started with demos=4, now asked for 3"),
    ],
)
@pytest.mark.slow
def test_a_folder_of_other_sets_raises(
    expert: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    build(expert, tmp_path / "sets")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        build(expert, tmp_path / "sets", **changes)
    assert contents(tmp_path) == before
