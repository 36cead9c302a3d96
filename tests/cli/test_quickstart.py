"""`fastifo quickstart` on a tiny set."""

from pathlib import Path

import pytest

import fastifo
from cli.commands import run
from support import contents, write_expert


@pytest.mark.slow
def test_quickstart_prints_a_table_of_all_methods_and_can_be_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = write_expert(tmp_path / "expert.npz", 17, 6)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = f"sibench:Walker2d-v4/d=1,episodes=2,demos=2,bc_updates=2,expert={expert}"
    small = fastifo.load(spec, progress=False)
    monkeypatch.setattr("fastifo.cli.quickstart.load", lambda spec: small)
    flags = ["--num-updates", "5", "--hidden-sizes", "4", "4", "--episodes", "2"]
    command = ["quickstart", "--env-id", "Walker2d-v4", "--out", tmp_path / "out", *flags]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    for row in ("background", "bc", "vfo_bin", "vfo_disc", "awr", "expert"):
        assert f" {row} " in out
    figure = tmp_path / "out/Walker2d-v4/report.png"
    assert f"figure  {figure}" in out
    assert f"page    {figure.with_name('report.html')}" in out
    next_command = f"fastifo train vfo_bin --dataset {figure.with_name('dataset.fastifo')} --out "
    assert next_command in "\n".join(out.splitlines()[-3:])
    assert figure.with_name("report.html").is_file()
    assert figure.with_name("dataset.fastifo").is_file()
    assert figure.read_bytes().startswith(b"\x89PNG")
    weights = {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k}
    assert len({Path(name).parts[1] for name in weights}) == 4
    assert run(capsys, *command)[0] == 0
    assert {k: v for k, v in contents(tmp_path / "out").items() if "checkpoint" in k} == weights
