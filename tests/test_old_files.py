"""Files of the version before the package had subpackages still open, act and continue.

`fixtures/before_layout/make.py` wrote them and the numbers in `expected.npz`.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import fastifo
from fastifo.callbacks import EvaluateEvery
from support import contents

OLD = Path(__file__).parent / "fixtures/before_layout"
EXPECTED = np.load(OLD / "expected.npz", allow_pickle=False)
# Machines round float32 differently, and torch differs from the native engine. Engines and
# unfused ops differed by a quarter of this after 12 updates; an update moves a weight by 3e-4.
ROUNDING: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


def load_script() -> Any:
    """The module that made the files, for the settings it used."""
    spec = importlib.util.spec_from_file_location("make_before_layout", OLD / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = load_script()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def dataset() -> fastifo.Dataset:
    return fastifo.load(OLD / "dataset.fastifo")


def assert_acts_as(name: str, run: fastifo.Run) -> None:
    for kind, actions in MAKE.actions_of(run, EXPECTED["obs"]).items():
        np.testing.assert_allclose(actions, EXPECTED[f"{name}.{kind}"], **ROUNDING)


def test_a_pack_has_the_same_content() -> None:
    pack = dataset()
    assert pack.fingerprint() == str(EXPECTED["fingerprint"])
    assert pack.fingerprint() == MAKE.make_dataset().fingerprint()
    assert pack.env_id == "Hopper-v4"
    assert pack.expert is not None
    assert pack.expert.num_episodes == 2
    assert pack.action_low is not None
    assert pack.action_low.tolist() == pytest.approx([-1.0, -0.5, -0.8])


def test_a_d4rl_export_has_the_same_columns(tmp_path: Path) -> None:
    pack = dataset()
    export = fastifo.load(  # the bounds are attributes of today's files only
        f"d4rl:{OLD / 'dataset.hdf5'}", action_low=pack.action_low, action_high=pack.action_high
    ).background
    pack.save_d4rl(tmp_path / "today.hdf5")
    today = fastifo.load(f"d4rl:{tmp_path / 'today.hdf5'}").background
    for name, column in export.columns().items():
        if name == "action":  # mapped to the environment's bounds and back
            torch.testing.assert_close(column, today.action, rtol=0, atol=1e-6)
            torch.testing.assert_close(column, pack.background.action, rtol=0, atol=1e-6)
        else:
            assert torch.equal(column, getattr(today, name)), name
            assert torch.equal(column, getattr(pack.background, name)), name


@pytest.mark.parametrize("name", ["vfo_disc", "tge"])
def test_a_policy_acts_as_it_did(name: str) -> None:
    assert_acts_as(name, fastifo.open_run(OLD / name))


def test_returns_are_read() -> None:
    for file, deterministic in (("returns", False), ("returns-deterministic", True)):
        returns = fastifo.Returns.load(OLD / "vfo_disc" / f"{file}.npz")
        assert returns.returns.shape == (4, 3)
        assert (returns.deterministic, returns.num_updates) == (deterministic, 6)
    run = fastifo.open_run(OLD / "vfo_disc")
    assert run.evaluate(protocol="last_tenth").returns.shape == (4, 1)


def test_a_run_resumes_to_the_weights_it_would_have_had(old: Path) -> None:
    before = (old / "vfo_disc/metrics.jsonl").read_bytes()
    run = fastifo.train(
        "vfo_disc", dataset(), num_updates=12, out=old / "vfo_disc",
        callbacks=[EvaluateEvery(3, 2)], **MAKE.VFO,
    )  # fmt: skip
    (file,) = (old / "vfo_disc/checkpoint").glob("0-train-*.safetensors")
    weights, expected = load_file(file), load_file(OLD / "vfo_disc_12.safetensors")
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(value, expected[name], err_msg=name, **ROUNDING)
    assert_acts_as("vfo_disc_12", run)
    metrics = (old / "vfo_disc/metrics.jsonl").read_bytes()
    assert metrics.startswith(before)
    rows = [json.loads(line) for line in metrics[len(before) :].splitlines()]
    assert {row["update"] for row in rows} == {8, 9, 10, 12}


def test_a_tge_run_resumes_with_the_embeddings_it_has(old: Path) -> None:
    before = contents(old / "tge")
    run = fastifo.train("tge", dataset(), num_updates=8, out=old / "tge", **MAKE.TGE)
    assert run.updates_done == 8
    after = contents(old / "tge")
    assert not [name for name in after if "diffusion" in name]
    kept = [name for name in before if name.endswith((".npy", ".npz"))]
    assert kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_tge_finds_the_distances_it_found(tmp_path: Path) -> None:
    # In double precision: in single, old and new alike differ by 0.01 on another number of threads.
    fastifo.train(
        "tge", dataset(), num_updates=4, out=tmp_path / "tge", precision="fp64", **MAKE.TGE
    )
    kept = sorted(path.name for path in (OLD / "tge").glob("*.np[yz]"))
    assert sorted(path.name for path in (tmp_path / "tge").glob("*.np[yz]")) == kept
    (distances,) = (tmp_path / "tge").glob("distances-*.npy")
    np.testing.assert_allclose(np.load(distances), EXPECTED["tge_fp64.distances"], **ROUNDING)


def test_an_improvement_that_is_done_is_not_made_again(old: Path) -> None:
    before = contents(old / "improve")
    result = fastifo.improve(
        "bc", dataset(), dataset(), iterations=1, episodes=2, out=old / "improve", **MAKE.IMPROVE
    )
    np.testing.assert_array_equal(result.returns, EXPECTED["improve"])
    assert contents(old / "improve") == before


@pytest.mark.slow
def test_the_report_reads_and_draws_all_of_them(old: Path) -> None:
    command = [sys.executable, "-m", "fastifo", "report", str(old)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("Hopper-v4", "vfo_disc", "tge", "background", "iteration"):
        assert word in done.stdout
    written = contents(old).keys() - contents(OLD).keys()
    assert {"report.png", "sawteeth.png", "report.html", "results.csv"} <= written
    assert any(name.startswith("tge/tge-") and name.endswith(".png") for name in written)
    assert len((old / "results.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize("name", MAKE.METHODS)
def test_checkpoints_have_the_same_fields_and_tensors(name: str, tmp_path: Path) -> None:
    algorithm, fields = MAKE.METHODS[name]
    fastifo.train(algorithm, dataset(), num_updates=2, out=tmp_path / "run", **fields)
    layout = MAKE.layout_of(tmp_path / "run")
    expected = json.loads((OLD / "layouts.json").read_text())[name]
    assert set(expected["fields"]) <= set(layout["fields"])
    assert layout["tensors"] == expected["tensors"]
