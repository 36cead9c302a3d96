"""Damaged and malicious files in other formats: refused by an error that names the file."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl
from fastifo.data.formats import hdf5, limits
from fastifo.data.formats.reader_process import ReaderProcess
from fuzz import FORMATS, mutants, outcome


def harm_external_link(path: Path) -> None:
    write_d4rl(path.with_name("other.hdf5"), episodes())
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["observations"] = h5py.ExternalLink("other.hdf5", "/observations")


def harm_external_storage(path: Path) -> None:
    path.with_name("raw").write_bytes(bytes(10_000))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset(
            "observations", (25, 4), "f4", external=[(str(path.with_name("raw")), 0, 10_000)]
        )


def harm_virtual(path: Path) -> None:
    write_d4rl(path.with_name("other.hdf5"), episodes())
    with h5py.File(path, "a") as file:
        del file["observations"]
        layout = h5py.VirtualLayout((25, 4), "f4")
        layout[:] = h5py.VirtualSource(str(path.with_name("other.hdf5")), "observations", (25, 4))
        file.create_virtual_dataset("observations", layout)


def harm_recursion(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["infos/again"] = file["infos"]


def harm_depth(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["/".join("g" * 40)] = 1.0


def harm_size(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (1 << 40, 4), "f4", chunks=(1 << 10, 4))


def harm_chunk(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (25, 4), "f4", chunks=(1 << 27, 4), maxshape=(None, 4))


HARM: dict[Callable[[Path], None], str] = {
    harm_external_link: r"'observations' is a link to another file \(other.hdf5\)",
    harm_external_storage: "'observations' stores its values in another file",
    harm_virtual: "'observations' is a virtual dataset, made from other datasets",
    harm_recursion: "'infos(/again)?' appears twice",
    harm_depth: "groups are nested more than 32 deep",
    harm_size: "it declares 4.4e",
    harm_chunk: "it declares|damaged, or compressed too well",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_malicious_files_are_refused(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, episodes())
    harm(path)
    with pytest.raises(ValueError, match=HARM[harm]) as caught:
        fastifo.load(f"d4rl:{path}")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("target", ["/kept/rows", "kept/rows", "./kept/../kept/rows", "twice"])
def test_a_soft_link_within_the_file_is_followed(tmp_path: Path, target: str) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, episodes())
    with h5py.File(path, "a") as file:
        file.create_group("kept")
        file.move("observations", "kept/rows")
        file["twice"] = h5py.SoftLink("/group/rows")
        file["group"] = h5py.SoftLink("kept")
        file["observations"] = h5py.SoftLink(target)
    assert_same(fastifo.load(f"d4rl:{path}").background, episodes())


@pytest.mark.parametrize("target", ["/observations", "/nowhere", "again", "/"])
def test_a_soft_link_to_nothing_is_no_dataset(tmp_path: Path, target: str) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, episodes())
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["again"] = h5py.SoftLink("observations")
        file["observations"] = h5py.SoftLink(target)
    with pytest.raises(ValueError, match="expected a dataset 'observations'"):
        fastifo.load(f"d4rl:{path}")


def test_a_soft_link_through_an_external_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, episodes())
    write_d4rl(tmp_path / "other.hdf5", episodes())
    with h5py.File(path, "a") as file:
        del file["observations"]
        file["elsewhere"] = h5py.ExternalLink("other.hdf5", "/")
        file["observations"] = h5py.SoftLink("/elsewhere/observations")
    with pytest.raises(ValueError, match="'elsewhere' is a link to another file"):
        fastifo.load(f"d4rl:{path}")


def test_the_reader_is_restarted_after_it_died(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, episodes())
    fastifo.load(f"d4rl:{path}")
    assert hdf5._READER.process is not None
    hdf5._READER.process.kill()
    hdf5._READER.process.wait()
    assert fastifo.load(f"d4rl:{path}").background.num_episodes == 5


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param("while True: pass", "makes no progress", marks=pytest.mark.slow),
        ("x = bytearray(1 << 32)", "more memory than a valid file"),
        ("import os; os.abort()", r"crashed on it \(signal 6\)"),
        ("import os; os._exit(0)", "exited without an answer"),
    ],
)
def test_the_reader_keeps_its_limits(
    tmp_path: Path, harm: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader runs with code in place of the library that does harm."""
    text = hdf5.READER.read_text().replace(
        "def list_objects(file", f"def list_objects(file):\n    {harm}\ndef _(file"
    )
    (tmp_path / "reader.py").write_text(text)
    reader = ReaderProcess(tmp_path / "reader.py", "HDF5")
    monkeypatch.setattr(hdf5, "_READER", reader)
    write_d4rl(tmp_path / "a.hdf5", episodes())
    started = time.monotonic()
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"d4rl:{tmp_path / 'a.hdf5'}")
    assert time.monotonic() - started < 20  # 4 s of processor time, however busy the machine is
    reader.close()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.slow
def test_damaged_files_are_refused_or_load_without_a_crash(tmp_path: Path, kind: str) -> None:
    counts: dict[str, int] = {}
    count = 60 if kind in ("pack", "d4rl", "minari", "robomimic", "npz") else 21
    for path, _ in mutants(kind, tmp_path, count=count, seed=1):
        result = outcome(kind, path)
        counts[result] = counts.get(result, 0) + 1
    assert set(counts) <= {"refused", "same", "changed"}
    assert counts.get("refused", 0) > 0
    if kind == "pack":
        assert "changed" not in counts


def test_npz_files_that_declare_a_wrong_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, observations=np.zeros((3, 4), np.float32))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(3, 4)", b"(9, 4)"))
    with pytest.raises(ValueError, match=r"a\.npz: observations"):
        fastifo.load(f"npz:{path}")
    np.savez_compressed(path, observations=np.zeros((20_000_000, 4), np.float32))
    assert os.path.getsize(path) < 1 << 20
    monkeypatch.setattr(limits, "available_bytes", lambda: 400 << 20)
    with pytest.raises(ValueError, match=r"declares 80000000 values, .* half of the free memory"):
        fastifo.load(f"npz:{path}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["d4rl", "npz"])
def test_sparse_files_are_read_up_to_half_of_the_free_memory(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.file"
    obs = np.zeros((40_000, 1000), np.float32)  # 160 MB
    obs[np.arange(40_000), np.arange(40_000) % 1000] = 1
    columns = {"observations": obs, "timeouts": np.arange(40_000) % 100 == 99}
    if kind == "npz":
        with open(path, "wb") as file:
            np.savez_compressed(file, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, value in columns.items():
                file.create_dataset(name, data=value, compression="gzip")
    assert path.stat().st_size < 2 << 20
    read = fastifo.load(f"{kind}:{path}").background
    assert read.lengths.tolist() == [99] * 400
    assert torch.equal(read.obs, torch.from_numpy(obs))
    monkeypatch.setattr(limits, "available_bytes", lambda: 200 << 20)
    with pytest.raises(ValueError, match="half of the free memory"):
        fastifo.load(f"{kind}:{path}")


@pytest.mark.parametrize("name", ["a.npy", "a.pkl", "a.hdf5"])
def test_files_of_unknown_formats_are_refused_with_the_known_ones(
    tmp_path: Path, name: str
) -> None:
    np.save(tmp_path / "array.npy", np.zeros((5, 3)))
    (tmp_path / "array.npy").rename(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected a file of fastifo, HDF5, NumPy"):
        fastifo.load(tmp_path / name)
