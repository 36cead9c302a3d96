"""SIBench sets of robosuite's tasks: the script demonstrates, its clone plays, a learner trains."""

from pathlib import Path

import pytest

import fastifo
from fastifo.envs.backends.robosuite_env import is_installed

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="needs robosuite, which is optional"),
    pytest.mark.filterwarnings("default"),
]


@pytest.mark.slow
def test_a_set_of_lift_needs_nothing_but_robosuite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = (
        "sibench:robosuite/Lift/d=1,episodes=1,demos=1,bc_updates=2,env.max_episode_steps=40,"
        "env.object_layout=1.4,env.success_terminal=false"
    )
    dataset = fastifo.load(spec, progress=False)
    assert dataset.env_id == "robosuite/Lift"
    assert dataset.env_kwargs == {
        "max_episode_steps": 40, "object_layout": 1.4, "success_terminal": False
    }  # fmt: skip
    assert dataset.expert is not None
    assert dataset.info["demonstration_noise"] == 0.1
    assert dataset.info["demonstration_return_mean"] == 1.0  # the cube was lifted
    # Success cuts the episode like a time limit, so that values are bootstrapped beyond it.
    assert (int(dataset.expert.timeout.sum()), int(dataset.expert.terminal.sum())) == (1, 0)
    assert int(dataset.expert.lengths[0]) < 40
    # Up to 1.4 the vector between gripper and cube points from the cube to the gripper.
    obs = dataset.expert.obs
    assert bool((obs[0, 10:13] - obs[0, :3]).sub(obs[0, 7:10]).abs().max() < 5e-3)
    run = fastifo.train(
        "vfo_bin", dataset, num_updates=2, hidden_sizes=(8,), num_bins=11, progress=False
    )
    assert run.env_id == "robosuite/Lift"
    assert len(list((tmp_path / "cache" / "fastifo").glob("sibench-robosuite-Lift-d1-*"))) == 1
