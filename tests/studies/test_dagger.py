"""DAgger on a toy whose values are known, its schedule, its folders, and what it refuses."""

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
import own_envs
from fastifo.data.dataset import Dataset
from fastifo.envs.experts.asked import AskedExpert, Mixture
from fastifo.envs.rollout import collect
from fastifo.envs.spec import as_spec
from fastifo.report.report import read_improvements, report
from fastifo.studies.dagger import FIRST_SEED, Schedule
from fastifo.studies.expert_sources import open_expert
from fastifo.studies.iterations import SEED_BLOCK
from fastifo.utils.executors import OpenExecutor
from fastifo.utils.parallel import Job
from helpers import SMALL, random_dataset
from studies.dagger_runs import run_dagger
from support import needs_rendering

STEPS = 30
CONVERGED: dict[str, Any] = {  # sampled actions are uniform in bins 0.2 wide
    "num_updates": 1000, "episodes": 20, "hidden_sizes": (32,), "batch_size": 64, "num_bins": 11,
    "kernel_reading": "none", "action_jitter": True, "learning_rate": 3e-3, "progress": False,
}  # fmt: skip


def played(out: Path, iteration: int, seed: int = 0) -> Dataset:
    return fastifo.load(out / f"seed-{seed}/iteration-{iteration:02d}/played.fastifo")


def test_dagger_mends_the_errors_that_cloning_compounds(tmp_path: Path) -> None:
    # The expert never leaves 0, so that its clone does not learn to return. The error of a sampled
    # action has the variance of its bin; without returning, that of x grows by as much each step.
    result = run_dagger(tmp_path, env_kwargs={"limit": STEPS}, **CONVERGED)
    variance = 0.2**2 / 12
    expert, cloning, *dagger = result.returns[0]
    assert expert == 0.0
    assert cloning < -0.9 * variance * STEPS * (STEPS + 1) / 2  # 1.4
    # Returning leaves the last action's error, and that of the label's bin, which is as large.
    assert dagger[-1] == pytest.approx(-2.0 * variance * STEPS, abs=0.2)  # 0.2


def test_labels_are_the_experts_actions_where_the_learner_was(tmp_path: Path) -> None:
    run_dagger(tmp_path, env_id=own_envs.Line, expert=lambda obs: 3.0 * obs[:, 1:] - obs[:, :1])
    data = played(tmp_path, 1).background
    obs = data.obs[data.rows()]
    expected = (3.0 * obs[:, 1:] - obs[:, :1]).clamp(-2.0, 2.0) / 2.0  # bounds are -2 and 2
    torch.testing.assert_close(data.action, expected)
    policy = fastifo.open_run(tmp_path / "seed-0/iteration-01/run").policy(0)
    spec = as_spec(own_envs.Line)
    alone = collect(policy, spec, 3, False, seed=SEED_BLOCK + 1, title="", progress=False)
    assert torch.equal(data.obs, alone.obs)  # the learner played, not the expert
    assert alone.reward is not None
    assert data.reward is not None
    assert torch.equal(data.reward, alone.reward)


def test_each_policy_learns_from_all_data_so_far(tmp_path: Path) -> None:
    seen: list[int] = []
    run_dagger(tmp_path, 3, callbacks=[lambda run, update, members: seen.append(update)])
    assert max(seen) == 3
    first = fastifo.load(tmp_path / "start.fastifo")
    parts = [first.background, *(played(tmp_path, i).background for i in range(2))]
    joined = fastifo.Episodes.joined(parts)
    run = fastifo.open_run(tmp_path / "seed-0/iteration-02/run")
    assert run.algorithm == "bc"
    assert run.datasets[0]["fingerprint"] == Dataset(joined).fingerprint()
    assert joined.num_episodes == 9


def test_with_beta_1_the_expert_plays(tmp_path: Path) -> None:
    result = run_dagger(tmp_path, betas=[1.0], env_id=own_envs.Line, episodes=4)
    for iteration in (0, 1):
        expert = open_expert(own_envs.steer, as_spec(own_envs.Line))
        alone = collect(
            expert, as_spec(own_envs.Line), 4, True, seed=SEED_BLOCK + iteration, title="",
            progress=False,
        )  # fmt: skip
        assert torch.equal(played(tmp_path, iteration).background.obs, alone.obs)
    # What is reported is the learner alone.
    run = fastifo.open_run(tmp_path / "seed-0/iteration-01/run")
    returns = run.evaluate(4, seed=SEED_BLOCK + 1, env=own_envs.Line, progress=False)
    assert result.returns[0][2] == returns.mean
    assert result.success is not None
    assert result.success[0][2] == returns.success


def test_a_mixture_takes_turns_by_beta_and_does_not_depend_on_other_episodes() -> None:
    run = fastifo.train("bc", random_dataset(), num_updates=1, progress=False, **SMALL)
    expert = AskedExpert(lambda obs: torch.full((len(obs), 2), 9.0), "nine", 2, "")
    mixture = Mixture(expert, run.policy(0), 0.3)
    obs = torch.randn(10000, 3, generator=torch.Generator().manual_seed(0))
    actions = mixture.act_rows(obs, mixture.noise(5, 2, 10000))
    by_expert = (actions == 9.0).all(1)
    assert float(by_expert.float().mean()) == pytest.approx(0.3, abs=0.02)  # 4 standard errors
    policy = run.policy(0)
    own = policy.act_rows(obs, policy.noise(5, 2, 10000))
    assert torch.equal(actions[~by_expert], own[~by_expert])
    later = mixture.act_rows(obs, mixture.noise(5, 3, 10000))
    assert not torch.equal(by_expert, (later == 9.0).all(1))
    some = mixture.act_rows(obs[7:9], mixture.noise(5, 2, 10000)[7:9])
    torch.testing.assert_close(some, actions[7:9])


@pytest.mark.parametrize(
    ("decay", "betas", "expected"),
    [
        (0.0, None, [1, 0, 0, 0]),
        (0.5, None, [1, 0.5, 0.25, 0.125]),
        (1, None, [1, 1, 1, 1]),
        (0.0, [1, 0.6, 0.3], [1, 0.6, 0.3, 0.3]),
        (0.0, np.array([1.0]), [1, 1, 1, 1]),
    ],
)
def test_the_schedule_of_beta(decay: float, betas: Any, expected: Sequence[float]) -> None:
    schedule = Schedule.of(decay, betas)
    assert [schedule.beta(number) for number in range(4)] == expected


def files(folder: Path) -> dict[str, bytes]:
    """Weights and episodes."""
    kept = [*folder.rglob("*.safetensors"), *folder.rglob("*.fastifo")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept)}


@pytest.mark.parametrize("beta_decay", [0.0, 0.5])
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, beta_decay: float) -> None:
    fields = {"seeds": (0, 1), "beta_decay": beta_decay}
    whole = run_dagger(tmp_path / "whole", 3, **fields)
    run_dagger(tmp_path / "cut", 1, **fields)
    path = tmp_path / "cut/seed-1/iteration-00/played.fastifo"
    path.unlink()  # as if killed before the second seed
    assert run_dagger(tmp_path / "cut", 3, **fields) == whole
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert read_improvements(tmp_path / "cut") == [whole]
    assert report(tmp_path / "cut").name == "sawteeth.png"
    assert "dagger, return after each iteration" in " ".join(str(whole).split())
    with pytest.raises(ValueError, match="started with expert='own_envs:steer', now asked for"):
        run_dagger(tmp_path / "cut", 3, **fields, expert=np.negative)
    with pytest.raises(ValueError, match=r"started with env_kwargs=\{\}, now asked for"):
        run_dagger(tmp_path / "cut", 3, **fields, env_kwargs={"limit": 7})
    with pytest.raises(ValueError, match="started with beta_decay="):
        run_dagger(tmp_path / "cut", 3, **fields | {"beta_decay": 0.25})


class Pickled(OpenExecutor):
    """Runs copies of jobs as another process would get them."""

    workers = 1

    def run_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            pickled = pickle.dumps(job)
            assert len(pickled) < 5000
            pickle.loads(pickled).run()


def test_dagger_on_an_executor(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "expert": "own_envs:steer",
        "env_id": "own_envs:Track",
        "beta_decay": 0.5,
    }
    here = run_dagger(tmp_path / "here", **fields)
    assert run_dagger(tmp_path / "there", executor=Pickled(), **fields) == here
    assert files(tmp_path / "here") == files(tmp_path / "there")
    with pytest.raises(ValueError, match="expert: expected a name that other processes can import"):
        run_dagger(tmp_path / "own", executor=Pickled(), **fields | {"expert": own_envs.steer})


def demonstrations(**columns: Any) -> Dataset:
    """Episodes of the expert, with actions as in `columns`."""
    background = {"obs": torch.zeros(11, 1), "action": torch.zeros(10, 1)}
    return Dataset.from_episodes([background], [background | columns], action_low=-1, action_high=1)


def test_given_demonstrations_are_the_first_data(tmp_path: Path) -> None:
    action = torch.linspace(-1, 1, 10)[:, None]
    result = run_dagger(tmp_path, 1, seed_background=demonstrations(action=action))
    run = fastifo.open_run(tmp_path / "seed-0/iteration-00/run")
    given = demonstrations(action=action).expert
    assert given is not None
    assert run.datasets[0]["fingerprint"] == Dataset(given).fingerprint()
    assert result.returns[0][0] == 0.0  # they have no rewards: the expert was asked to play


def test_demonstrations_that_do_not_fit_leave_no_plan(tmp_path: Path) -> None:
    episode = {"obs": torch.zeros(11, 2), "action": torch.zeros(10, 1)}
    wide = Dataset.from_episodes([episode], action_low=-1, action_high=1)
    with pytest.raises(ValueError, match="env_id: own_envs:Track: its observations are 1 wide"):
        run_dagger(tmp_path / "x", seed_background=wide)
    assert not (tmp_path / "x").exists()


def test_demonstrations_without_actions_are_refused(tmp_path: Path) -> None:
    demos = demonstrations()
    object.__setattr__(demos.expert, "action", None)
    with pytest.raises(ValueError, match=r"dagger needs the expert's actions; .* leave the data o"):
        run_dagger(tmp_path / "x", seed_background=demos)
    assert not (tmp_path / "x").exists()


def test_a_policy_of_images_takes_no_turns_with_the_expert(tmp_path: Path) -> None:
    render = {"render": {"cameras": ["render"], "height": 8, "width": 8}}
    fields: dict[str, Any] = {"env_id": own_envs.Drawn, "env_kwargs": render}
    with pytest.raises(ValueError, match="betas: a policy that sees images cannot take turns"):
        run_dagger(tmp_path / "x", beta_decay=0.5, **fields)
    assert not (tmp_path / "x").exists()


@needs_rendering
def test_a_learner_sees_images_and_the_expert_observations(tmp_path: Path) -> None:
    render = {"render": {"cameras": ["render"], "height": 8, "width": 8}}
    small: dict[str, Any] = {
        "image_encoder": "spatial_softmax",
        "image_features": 4,
        "env_kwargs": render,
    }
    run_dagger(tmp_path, 2, env_id=own_envs.Drawn, **small)
    data = played(tmp_path, 1).background
    assert data.images["render"].shape == (len(data.obs), 8, 8, 3)
    expected = (-data.obs[data.rows()][:, :1]).clamp(-1.0, 1.0) / 2.0
    torch.testing.assert_close(data.action, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta_decay": 1.5}, r"beta_decay: expected a number in \[0, 1\], found 1.5"),
        ({"beta_decay": "x"}, r"beta_decay: expected a number in \[0, 1\], found 'x'"),
        ({"betas": [1, 2]}, r"betas: expected numbers in \[0, 1\], found \[1, 2\]"),
        ({"betas": [0.5]}, "betas: expected 1 first"),
        ({"betas": []}, "betas: expected 1 first"),
        ({"betas": [1], "beta_decay": 0.5}, "expected betas or beta_decay, found both"),
        ({"betas": 0.5}, "betas: expected a list of numbers, found 0.5"),
        ({"env_id": None}, "env_id: expected the name of an environment"),
        ({"env": "Hopper-v4"}, "bc has no field 'env'; did you mean 'env_id'"),
        ({"hidden_size": (4,)}, "bc has no field 'hidden_size'; did you mean 'hidden_sizes'"),
        ({"source": "expert"}, "source: expected 'background', because dagger labels it all"),
        ({"learning_rate": [0.1, 0.2]}, r"learning_rate: expected one value, found \[0.1, 0.2\]"),
        ({"progress": "no"}, "progress: expected True or False"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, fields: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        run_dagger(tmp_path / "x", **fields)
    assert not (tmp_path / "x").exists()


def test_its_name_in_capitals_is_answered_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'DAgger': .* run it with fastifo improve dagger or "):
        fastifo.improve("DAgger", own_envs.steer, env_id=own_envs.Track, out=tmp_path)


def test_other_methods_have_no_beta_and_need_a_background(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    with pytest.raises(TypeError, match="bc has no beta_decay and no betas"):
        fastifo.improve("bc", dataset, dataset, out=tmp_path, betas=[1])
    with pytest.raises(ValueError, match="seed_background: expected a dataset"):
        fastifo.improve("bc", dataset, out=tmp_path)


def test_the_experts_first_episodes_have_start_states_of_their_own(tmp_path: Path) -> None:
    run_dagger(tmp_path, 1, env_id=own_envs.Line)
    expert = open_expert(own_envs.steer, as_spec(own_envs.Line))
    alone = collect(
        expert, as_spec(own_envs.Line), 3, True, seed=FIRST_SEED, title="", progress=False
    )
    start = fastifo.load(tmp_path / "start.fastifo")
    assert torch.equal(start.background.obs, alone.obs)
    assert start.action_high is not None
    assert start.action_high.tolist() == [2.0]
    assert dataclasses.replace(start.background, action=None) == dataclasses.replace(
        alone, action=None
    )
