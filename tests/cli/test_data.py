"""`fastifo data` on tiny datasets."""

from pathlib import Path

import pytest

import fastifo
from cli.commands import run
from data.formats.files import episodes, write_d4rl


def test_convert_inspect_verify_split(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_d4rl(tmp_path / "hopper_medium-v2.hdf5", episodes(10), next_observations=None)
    source, pack = f"d4rl:{tmp_path / 'hopper_medium-v2.hdf5'}", tmp_path / "a.fastifo"
    status, out, _ = run(
        capsys, "data", "convert", "--expert", f"{source},episodes=2", "--background", source,
        "--out", pack,
    )  # fmt: skip
    assert status == 0
    assert "environment  Hopper-v4" in out
    status, out, _ = run(capsys, "data", "inspect", pack)
    assert status == 0
    assert "10 episodes" in out
    status, out, _ = run(capsys, "data", "inspect", source)
    assert "transitions dropped for lack of a next observation: 5" in out
    status, out, _ = run(capsys, "data", "verify", pack)
    assert status == 0
    assert out.startswith("intact")
    status, out, _ = run(
        capsys, "data", "split", pack, "--out", tmp_path / "part", "--shares", "0.7", "0.3"
    )
    assert status == 0
    parts = [fastifo.load(tmp_path / f"part-{i}.fastifo") for i in range(2)]
    assert [part.background.num_episodes for part in parts] == [7, 3]
    assert all(part.expert is not None and part.expert.num_episodes == 2 for part in parts)
    first_obs = {float(part.background.obs[0, 0].item()) for part in parts}
    assert len(first_obs) == 2  # the parts have different episodes
    background = fastifo.load(pack).background
    assert sum(part.background.num_transitions for part in parts) == background.num_transitions
    for shares in (["0.5"], ["0.5", "0.6"], ["0.99", "0.01"]):
        status, _, err = run(
            capsys, "data", "split", pack, "--out", tmp_path / "p", "--shares", *shares
        )
        assert status == 2
        assert "shares: " in err
