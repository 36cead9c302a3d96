"""Figures of success come from rows: each set with all methods, the worst background first."""

from pathlib import Path

import pytest

from bench import success_figures


def row(which: str, method: str, background: float, success: float) -> dict[str, str]:
    return {
        "env_id": "metaworld/Reach", "set": which, "algorithm": method, "episodes": "20",
        "background_success": f"{background}", "success": f"{success}", "success_mode": "1.0",
    }  # fmt: skip


def test_rows_become_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("d=5", "bc", 0.6, 0.7), row("d=1", "bc", 0.2, 0.1), row("d=1", "awr", 0.2, 0.4)]
    monkeypatch.setattr(success_figures, "read_rows", lambda name: rows)
    tasks = success_figures.sets_by_task("clones")
    assert list(tasks["metaworld/Reach"]) == ["d=1", "d=5"]
    assert list(tasks["metaworld/Reach"]["d=1"]) == ["bc", "awr"]
    monkeypatch.setattr(success_figures, "RESULTS", tmp_path)
    monkeypatch.setattr(success_figures, "STUDIES", ("clones",))
    monkeypatch.setattr("sys.argv", ["success_figures"])
    success_figures.main()
    for name in ("clones-differences.png", "clones-success.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
