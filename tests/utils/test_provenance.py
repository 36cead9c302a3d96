"""Rows and runs name the code that made them, its compiled core included."""

import shutil
from pathlib import Path

from fastifo.utils.provenance import is_core_current

CHECKOUT = Path(__file__).parents[2]


def test_the_core_was_built_from_the_sources_beside_these_tests() -> None:
    assert is_core_current(CHECKOUT), "run pip install again"


def test_a_changed_a_new_and_a_missing_source_are_noticed(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKOUT / "csrc", tmp_path / "csrc")
    assert is_core_current(tmp_path)
    (folder / "notes.txt").write_text("no source")
    assert is_core_current(tmp_path)
    (folder / "new.h").touch()
    assert not is_core_current(tmp_path)
    (folder / "new.h").unlink()
    header = folder / "engine" / "mlp.h"
    text = header.read_text()
    header.write_text(text + "\n")
    assert not is_core_current(tmp_path)
    header.write_text(text)
    assert is_core_current(tmp_path)
    header.rename(folder / "engine" / "net.h")
    assert not is_core_current(tmp_path)
