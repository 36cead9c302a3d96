"""Ladders of SIBench sets whose backgrounds are a noisy expert's."""

from pathlib import Path
from typing import Any

import pytest

import fastifo
from fastifo.benchmarks.sets import DEMOS, SIZES, build_sets, ladder
from support import contents, write_expert

SHORT: dict[str, Any] = {"episodes": 3, "demos": 2, "env_kwargs": {"max_episode_steps": 9}}


@pytest.fixture
def expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(write_expert(tmp_path / "expert.npz"))


def build(expert: str, out: Path, noise: tuple[float, ...], **changes: Any) -> list[Path]:
    fields = SHORT | {"expert": expert, "progress": False} | changes
    return build_sets("Hopper-v4", out, background_noise=noise, **fields)


def test_a_ladder_of_noise_has_the_sets_of_single_specs(
    expert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(jobs: list[Any], executor: Any) -> None:  # starting processes would take longer
        for job in jobs:
            job.run()

    monkeypatch.setattr("fastifo.benchmarks.sets.run_jobs", run_here)
    paths = build(expert, tmp_path / "sets", (2.0, 0.5))
    names = ["background_noise=0.5.fastifo", "background_noise=2.fastifo"]
    assert [path.name for path in paths] == names
    for path, noise in zip(paths, (0.5, 2.0), strict=True):
        dataset = fastifo.load(path)
        assert dataset.info["spec"]["background_noise"] == noise
        assert dataset.env_kwargs == {"max_episode_steps": 9}
        single = fastifo.load(
            f"sibench:Hopper-v4/background_noise={noise},episodes=3,demos=2,"
            f"env.max_episode_steps=9,expert={expert}",
            progress=False,
        )
        assert single.fingerprint() == dataset.fingerprint()
    before = contents(tmp_path / "sets")
    assert build(expert, tmp_path / "sets", (0.5, 2.0)) == paths
    assert contents(tmp_path / "sets") == before
    build(expert, tmp_path / "sets", (0.5, 1.0, 2.0))  # one more, with the same demonstrations
    after = contents(tmp_path / "sets")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


@pytest.mark.parametrize(
    ("noise", "changes", "message"),
    [
        ((0.0, 1.0), {}, r"background_noise: expected different values above 0, found \[0.0, 1.0"),
        ((1.0, 1.0), {}, "background_noise: expected different values above 0"),
        ((float("nan"),), {}, "background_noise: expected different values above 0"),
        ((1.0,), {"demonstrations": "d4rl:x"}, r"found recorded episodes \(d4rl:x\); clone them"),
        ((1.0,), {"expert": "d4rl:x"}, r"found recorded episodes \(d4rl:x\)"),
        ((1.0,), {"background_noise_": 1}, "unknown option 'background_noise_'"),
    ],
)
def test_a_wrong_ladder_is_refused_before_anything_is_written(
    expert: str, tmp_path: Path, noise: tuple[float, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(changes.pop("expert", expert), tmp_path / "sets", noise, **changes)
    assert not (tmp_path / "sets").exists()


def test_a_ladder_is_of_noise_or_of_sizes() -> None:
    assert ladder((5, 1), ()) == ("d", [1, 5])
    assert ladder(SIZES, (1, 0.5)) == ("background_noise", [0.5, 1.0])
    with pytest.raises(ValueError, match="sizes: expected one or more, found none"):
        ladder((), ())
    assert DEMOS == 200


def test_success_is_terminal_or_cuts_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("fastifo.benchmarks.demonstrations.NOISELESS_EPISODES", 1)
    spec = (
        "sibench:metaworld/CoffeeButton/background_noise=0.2,episodes=2,demos=2,"
        "env.max_episode_steps=60,env.success_terminal="
    )
    terminal, cut = (fastifo.load(spec + value, progress=False) for value in ("true", "false"))
    for first, second in ((terminal.background, cut.background), (terminal.expert, cut.expert)):
        assert first is not None
        assert second is not None
        assert first.obs.equal(second.obs)
        # The expert succeeds within the limit: the value there is the reward's, or bootstrapped.
        assert (int(first.terminal.sum()), int(first.timeout.sum())) == (2, 0)
        assert (int(second.terminal.sum()), int(second.timeout.sum())) == (0, 2)
    assert terminal.background.success is not None
    assert terminal.background.success.all()
