"""Files that each op and each algorithm must have, and where files may be."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastifo import _C
from fastifo.algos import ALGORITHMS
from fastifo.ops import OPS
from layers import import_cycles, upward_imports

ROOT = Path(__file__).parents[1]
CPP_SUFFIXES = {".h", ".cuh", ".cpp", ".cu"}
TOP_LEVEL = {"CMakeLists.txt", "README.md", "bench", "csrc", "fastifo", "pyproject.toml", "tests"}
SOURCES = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in CPP_SUFFIXES]
OP_FILES = sorted(
    {op.call.__module__.rpartition(".")[2] for op in OPS.values()}
    | {path.stem for path in (ROOT / "csrc/ops").iterdir()}
    | {path.stem for path in (ROOT / "fastifo/ops").glob("[!_]*.py")} - {"registry", "explain"}
)
WITHOUT_FLOATS = {"draw", "draw_windows"}


@pytest.mark.parametrize("name", OP_FILES)
def test_op_has_all_its_files(name: str) -> None:
    wanted = [f"csrc/ops/{name}.{suffix}" for suffix in ("h", "cpp", "cu")]
    wanted += [f"fastifo/ops/{name}.py", f"tests/ops/test_{name}.py", f"bench/ops/bench_{name}.py"]
    assert [path for path in wanted if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", sorted(OPS))
def test_op_is_compiled_for_every_instruction_set_and_cuda(name: str) -> None:
    kernels = [name] if name in WITHOUT_FLOATS else [f"{name}_f32", f"{name}_f64"]
    spaces = [getattr(_C, isa) for isa in ("avx512", "avx2", "plain") if hasattr(_C, isa)]
    assert hasattr(_C, "cuda") == _C.has_cuda
    spaces += [_C.cuda] if _C.has_cuda else []
    assert [kernel for space in spaces for kernel in kernels if not hasattr(space, kernel)] == []


def test_this_machine_runs_the_plain_kernels_at_least() -> None:
    assert _C.isas[-1] == "plain"
    assert all(hasattr(_C, isa) for isa in _C.isas)


def test_the_compiled_core_has_four_folders_and_the_bindings() -> None:
    entries = {path.name for path in (ROOT / "csrc").iterdir()} - {"README.md"}
    assert entries == {"bindings.cpp", "common", "engine", "losses", "ops"}


def test_compiled_core_never_mentions_torch() -> None:
    assert SOURCES
    assert [path.name for path in SOURCES if "torch" in path.read_text().lower()] == []


def test_only_the_bindings_include_pybind11() -> None:
    assert [path.name for path in SOURCES if "pybind11" in path.read_text()] == ["bindings.cpp"]


@pytest.mark.slow
def test_the_tables_of_the_readme_are_those_of_the_results() -> None:
    script = ROOT / "bench/tables.py"  # by its path, because the checkout may not be on sys.path
    command = [sys.executable, str(script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_nothing_new_at_the_top_level() -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    names = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert names == TOP_LEVEL


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_algorithm_has_its_test_its_oracle_and_its_row(name: str) -> None:
    package, _, file = ALGORITHMS[name].__module__.rpartition(".")
    assert package in ("fastifo.algos", "fastifo.algos.rewards")
    folder = package.replace("fastifo.", "").replace(".", "/")
    wanted = [f"tests/{folder}/test_{file}.py", f"tests/oracles/{file}.py"]
    assert [path for path in wanted if not (ROOT / path).is_file()] == []
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line[:1] == "|"]
    method_rows = [line for line in rows if f"{folder}/{file}.py" in line]
    assert any(re.search(rf"\b{re.escape(name)}\b", line, re.IGNORECASE) for line in method_rows)


def test_no_module_imports_from_a_floor_above() -> None:
    assert upward_imports(ROOT / "fastifo") == []


def test_no_modules_import_each_other() -> None:
    assert import_cycles(ROOT / "fastifo") == []


@pytest.mark.parametrize(
    ("file", "line", "imported"),
    [
        (
            "utils/files.py",
            "from fastifo.engine.train import train",
            "engine/train.py",
        ),
        (
            "data/load.py",
            "import fastifo.benchmarks.sibench",
            "benchmarks/sibench.py",
        ),
        ("nn/mlp.py", "def f():\n    from fastifo import algos", "algos/__init__.py"),
    ],
)
def test_an_upward_import_is_named_with_both_files(
    tmp_path: Path, file: str, line: str, imported: str
) -> None:
    shutil.copytree(ROOT / "fastifo", tmp_path / "fastifo", ignore=shutil.ignore_patterns("*.so"))
    with open(tmp_path / "fastifo" / file, "a") as source:
        source.write(f"\n{line}\n")
    assert upward_imports(tmp_path / "fastifo") == [f"{file} -> {imported}"]
    assert import_cycles(tmp_path / "fastifo") != []


def test_a_module_outside_the_floors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fastifo/extras").mkdir(parents=True)
    (tmp_path / "fastifo/extras/tool.py").write_text("from fastifo.utils import files\n")
    with pytest.raises(ValueError, match=r"extras\.tool: expected a module in one of cli, report"):
        upward_imports(tmp_path / "fastifo")
