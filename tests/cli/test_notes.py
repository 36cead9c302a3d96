"""What was changed when data were read is printed by `train`, `relabel` and `inspect`, once."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest

import fastifo
from cli.commands import SIZES, run
from data.formats.files import episodes, write_d4rl, write_minari

NOTE = "transitions dropped for lack of a next observation: 2"


def test_train_prints_what_inspect_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), next_observations=None)
    spec = f"d4rl:{tmp_path / 'a.hdf5'}"
    _, out, _ = run(capsys, "data", "inspect", spec)
    assert NOTE in out.splitlines()
    status, out, err = run(
        capsys, "train", "bc", "--dataset", spec, "--out", tmp_path / "run", *SIZES[:4],
        "--num-updates", "2",
    )  # fmt: skip
    assert status == 0, err
    assert err.count(f"data  {NOTE}") == 1
    assert NOTE not in out
    status, _, err = run(
        capsys, "train", "vfo_bin", "--expert", spec, "--background", spec, "--out",
        tmp_path / "other", *SIZES,
    )  # fmt: skip
    assert status == 0, err
    assert err.count(f"data  expert, {NOTE}") == err.count(f"data  background, {NOTE}") == 1
    assert fastifo.open_run(tmp_path / "run").datasets[0]["info"]["notes"]


def test_a_pack_keeps_the_notes_and_training_on_it_prints_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), next_observations=None)
    spec, pack = f"d4rl:{tmp_path / 'a.hdf5'}", tmp_path / "a.fastifo"
    run(capsys, "data", "convert", "--dataset", spec, "--out", pack)
    run(capsys, "data", "split", pack, "--out", tmp_path / "part", "--shares", "0.6", "0.4")
    for file in (pack, tmp_path / "part-0.fastifo"):
        fastifo.train("bc", file, num_updates=2, hidden_sizes=(8,))
        assert capsys.readouterr().err.count(NOTE) == 1
        fastifo.train("bc", file, num_updates=2, hidden_sizes=(8,), progress=False)
        assert NOTE not in capsys.readouterr().err


def test_data_with_notes_are_trained_on_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes(), next_observations=None)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    trained = fastifo.train("bc", f"d4rl:{tmp_path / 'a.hdf5'}", num_updates=2, hidden_sizes=(8,))
    assert trained.datasets[0]["info"]["notes"]


def test_settings_that_cannot_be_used_are_named_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    parts = [
        part | {"obs": rng.normal(size=(len(part["obs"]), 11)),
                "action": rng.uniform(-1, 1, (len(part["action"]), 3))}
        for part in episodes()
    ]  # fmt: skip
    write_minari(tmp_path / "a", parts)
    (tmp_path / "a/data/metadata.json").write_text(
        '{"env_spec": {"id": "Hopper-v5", "kwargs": {"unheard_of": 1, "reset_noise_scale": 0}}}'
    )
    fastifo.train("bc", f"minari:{tmp_path / 'a'}", num_updates=2, hidden_sizes=(8,))
    line = "data  settings of Hopper-v5 that EnvPool does not know: unheard_of\n"
    assert capsys.readouterr().err.count(line) == 1


def test_relabel_refuses_to_overwrite_its_source_behind_commas(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "lr=0.1,seed=3"
    folder.mkdir()
    write_d4rl(folder / "a.hdf5", episodes())
    with h5py.File(folder / "a.hdf5") as file:
        before = np.array(file["rewards"])
    for spec in (f"d4rl:{folder / 'a.hdf5'},episodes=2", str(folder / "a.hdf5")):
        status, _, err = run(
            capsys, "relabel", "seabo", "--expert", spec, "--background", spec, "--out",
            folder / "a.hdf5",
        )  # fmt: skip
        assert status != 0
        assert "the data come from this file" in err
    with h5py.File(folder / "a.hdf5") as file:
        np.testing.assert_array_equal(file["rewards"], before)
