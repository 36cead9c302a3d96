"""Where demonstrations come from, and settings of the environment in specs."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.demonstrations import (
    PlayedExpert,
    RecordedExpert,
    find_demonstrator,
    is_dataset,
)
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.benchmarks.spec import parse_spec
from fastifo.data.dataset import Dataset
from fastifo.envs.experts import ExpertPolicy
from fastifo.envs.spec import as_spec
from support import write_expert

SHORT = "env.max_episode_steps=9"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A dataset of eight episodes of Hopper that differ in their first observation."""
    rng = np.random.default_rng(0)
    episodes = [
        {
            "obs": np.full((6, 11), 0.1 * i) + rng.normal(0, 0.001, (6, 11)),
            "action": rng.uniform(-1, 1, (5, 3)),
            "reward": np.full(5, float(i)),
        }
        for i in range(8)
    ]
    path = tmp_path / "recorded.fastifo"
    Dataset.from_episodes(episodes, env_id="Hopper-v4").save(path)
    return path


def load(spec: str) -> Dataset:
    return fastifo.load(spec, progress=False)


@pytest.mark.parametrize(
    ("text", "env_id", "env_kwargs"),
    [
        ("Hopper-v4/d=5", "Hopper-v4", {}),
        ("robosuite/Lift/d=5", "robosuite/Lift", {}),
        ("a/b/c/d=5", "a/b/c", {}),
        ("robosuite/Lift/d=5,env.object_layout=1.4", "robosuite/Lift", {"object_layout": 1.4}),
        ("x/env.a=true,d=5,env.b=text,env.c=-3", "x", {"a": True, "b": "text", "c": -3}),
        ("x/d=5,env.a=NaN", "x", {"a": "NaN"}),
        ("x/env.path=a/b=c,d=5", "x", {"path": "a/b=c"}),
    ],
)
def test_an_id_with_slashes_and_settings_of_the_environment(
    text: str, env_id: str, env_kwargs: dict[str, Any]
) -> None:
    assert SIBenchSpec.parse(f"sibench:{text}") == SIBenchSpec(env_id, 5, env_kwargs=env_kwargs)
    bimodal = parse_spec(BimodalSpec, f"bimodal:{text}".replace("d=5", "expert=5"), "expert", "x")
    assert bimodal == BimodalSpec(env_id, 5, env_kwargs=env_kwargs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robosuite/Lift", "unknown option 'Lift'"),
        ("Hopper-v4/d=1,env.=3", "unknown option 'env.=3'"),
        ("Hopper-v4/d=1,env.a", "unknown option 'env.a'"),
        ("Hopper-v4/d=1,env_kwargs=3", "unknown option 'env_kwargs=3'"),
        (
            "Hopper-v4/d=1,env.max_steps=3",
            "has no setting max_steps=3; did you mean",
        ),
        ("Hopper-v4/d=1,env.max_episode_steps=x", "max_episode_steps"),
        ("Hopper-v4/d=1,background_noise=0.5", "no d beside it, found d=1"),
        ("Hopper-v4/background_noise=-1", "background_noise of at least 0"),
        ("Hopper-v4/background_noise=nan", "background_noise of at least 0"),
        ("Hopper-v4/background_noise=0", "d must be at least 1, found 0"),
        ("robosuite/Door/d=1", "robosuite/Door"),
    ],
)
def test_a_wrong_spec_raises_and_names_the_part(text: str, message: str) -> None:
    with pytest.raises((ValueError, ImportError), match=message):
        load(f"sibench:{text}")


def test_sets_keep_the_names_they_had_in_the_cache(tmp_path: Path) -> None:
    expert = write_expert(tmp_path / "a.npz")
    spec = SIBenchSpec("Hopper-v4", 2, expert=str(expert))
    demonstrator = PlayedExpert(ExpertPolicy(expert), spec.env)
    old = {
        "env_id": "Hopper-v4", "d": 2, "episodes": 1000, "seed": 0, "demos": 1000, "n_expert": 0,
        "bc_updates": 10_000, "noise": 0.5, "mode": 0,
    }  # fmt: skip
    identity = repr((5, sorted(old.items()))).encode() + expert.read_bytes()
    assert spec.key(demonstrator) == hashlib.sha256(identity).hexdigest()[:16]
    other = SIBenchSpec("Hopper-v4", 2, env_kwargs={"max_episode_steps": 9})
    assert other.key(PlayedExpert(ExpertPolicy(expert), other.env)) != spec.key(demonstrator)


def test_the_background_may_be_a_noisy_expert_in_an_environment_with_settings() -> None:
    spec = f"sibench:Hopper-v4/background_noise={{}},episodes=3,demos=2,{SHORT}"
    quiet, noisy = load(spec.format(0.1)), load(spec.format(3.0))
    for dataset in (quiet, noisy):
        assert dataset.env_kwargs == {"max_episode_steps": 9}
        assert dataset.expert is not None
        assert (dataset.background.num_episodes, dataset.expert.num_episodes) == (3, 2)
        assert int(dataset.background.lengths.max()) == 9
        assert dataset.background.timeout.any()
    assert quiet.expert == noisy.expert
    assert not torch.equal(quiet.background.obs[0], quiet.expert.obs[0])  # type: ignore[union-attr]
    # The first step of both is from the same state, with noise in proportion.
    assert torch.equal(quiet.background.obs[0], noisy.background.obs[0])
    assert not torch.equal(quiet.background.action, noisy.background.action)  # type: ignore[arg-type]


def test_a_dataset_serves_as_expert(recorded: Path) -> None:
    dataset = load(
        f"sibench:Hopper-v4/d=2,episodes=2,demos=4,bc_updates=2,expert={recorded},{SHORT}"
    )
    assert dataset.expert is not None
    assert dataset.expert.num_episodes == 4
    assert dataset.env_kwargs == {"max_episode_steps": 9}
    assert dataset.info["expert"] == {"file": str(recorded), "source": "demonstrations"}
    everything = fastifo.load(recorded).background
    assert np.isin(dataset.expert.obs.numpy(), everything.obs.numpy()).all()


def test_a_mixture_of_a_dataset_shares_no_episode_with_its_demonstrations(recorded: Path) -> None:
    dataset = load(f"bimodal:Hopper-v4/expert=3,total=4,policy={recorded},{SHORT}")
    assert dataset.expert is not None
    assert (dataset.expert.num_episodes, dataset.background.num_episodes) == (5, 4)
    experts = dataset.background.take([1, 2, 3])
    assert not np.isin(dataset.expert.obs.numpy(), experts.obs.numpy()).any()
    together = np.concatenate([dataset.expert.obs.numpy(), experts.obs.numpy()])
    assert np.isin(together, fastifo.load(recorded).background.obs.numpy()).all()
    with pytest.raises(ValueError, match=r"expected at least 9 episodes, expert=4 and demos=5"):
        load(f"bimodal:Hopper-v4/expert=4,demos=5,total=4,policy={recorded},{SHORT}")


def test_demonstrations_without_actions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, observations=np.zeros((4, 11), "f4"), terminals=np.arange(4) == 3,
             timeouts=np.zeros(4, bool))  # fmt: skip
    with pytest.raises(ValueError, match=r"demonstrations npz:.*: expected actions to clone"):
        find_demonstrator(as_spec("Hopper-v4"), f"npz:{path}", progress=False)


def test_a_policy_file_is_no_dataset(tmp_path: Path, recorded: Path) -> None:
    assert not is_dataset(str(write_expert(tmp_path / "expert.npz")))
    assert not is_dataset("missing.npz")
    assert is_dataset(str(recorded))
    assert is_dataset("npz:expert.npz")
    assert is_dataset("sibench:Hopper-v4/d=5")


def test_more_episodes_than_a_dataset_has_are_refused(recorded: Path) -> None:
    demonstrator = find_demonstrator(as_spec("Hopper-v4"), str(recorded), progress=False)
    assert isinstance(demonstrator, RecordedExpert)
    with pytest.raises(ValueError, match="expected at least 9 episodes, found 8; ask for fewer"):
        demonstrator.more_episodes(9, 0, 0.0)
