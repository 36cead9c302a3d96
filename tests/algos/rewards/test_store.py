"""Long arrays in files, what reports keep of embeddings, and rewards of each member's own data."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from algos.parity import rewards
from fastifo.algos.relabel import relabel_each_member, unit_range
from fastifo.algos.rewards.store import ResumableArray
from fastifo.data.stack import stacked
from fastifo.report.report import report
from fastifo.report.reward_figures import draw_rewards, read_summary
from fastifo.utils.locks import file_locks
from helpers import SMALL, random_dataset, small

ROWS = torch.arange(12.0).view(6, 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("named", [True, False])
def test_rows_come_back_as_they_were(tmp_path: Path, named: bool, dtype: str) -> None:
    path = tmp_path / "rows.npy" if named else None
    file = ResumableArray(path, (6, 2), np.dtype(dtype))
    for part in ROWS.split(4):
        file.append(part)
    file.finish()
    assert torch.equal(file.rows(1, 6), ROWS[1:])
    assert sorted(x.name for x in tmp_path.iterdir()) == (["rows.npy"] if named else [])
    if path is not None:
        assert np.load(path).dtype == dtype
        again = ResumableArray(path, (6, 2), np.dtype(dtype))
        assert again.done == 6
        again.finish()


def test_a_stopped_file_goes_on_where_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.store.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    assert not path.exists()
    file = ResumableArray(path, (6, 2), np.dtype("float32"))
    assert file.done == 4
    file.append(ROWS[4:])
    file.finish()
    assert np.array_equal(np.load(path), ROWS.numpy())


def test_an_old_note_says_nothing_of_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.store.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    path.with_suffix(".partial").write_bytes(b"short")
    ResumableArray(path, (6, 2), np.dtype("float32"))  # begun anew, then killed
    assert ResumableArray(path, (6, 2), np.dtype("float32")).done == 0


@pytest.mark.parametrize("damage", ["cut", "other shape", "no note"])
def test_what_cannot_be_gone_on_with_begins_again(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.algos.rewards.store.SAVE_S", 0.0)
    path = tmp_path / "rows.npy"
    ResumableArray(path, (6, 2), np.dtype("float32")).append(ROWS[:4])
    if damage == "cut":
        path.with_suffix(".partial").write_bytes(b"short")
    if damage == "no note":
        path.with_suffix(".rows").unlink()
    shape = (5, 2) if damage == "other shape" else (6, 2)
    assert ResumableArray(path, shape, np.dtype("float32")).done == 0


def test_members_are_judged_by_their_own_data() -> None:
    sets = [random_dataset(seed) for seed in (0, 1, 2)]
    together = stacked(sets, (0, 0, 1, 2))
    seen: list[tuple[int, fastifo.Dataset]] = []

    def change(member: int, own: fastifo.Dataset) -> torch.Tensor:
        seen.append((member, own))
        return torch.full((own.background.num_transitions,), float(member))

    found = relabel_each_member(together, 4, change).background
    assert found.reward is not None
    assert found.ranges is not None
    for (member, own), original in zip(seen, [sets[i] for i in (0, 0, 1, 2)], strict=True):
        assert own.expert is not None
        assert original.expert is not None
        for part, whole in ((own.background, original.background), (own.expert, original.expert)):
            assert part.columns().keys() == whole.columns().keys()
            for name, column in whole.columns().items():
                assert torch.equal(part.columns()[name], column), name
        first, count = found.ranges[member].tolist()
        assert bool((found.reward[member, first : first + count] == member).all())


def test_sets_in_one_run_earn_what_they_earn_alone() -> None:
    sets = [random_dataset(seed) for seed in (0, 1)]
    alone = torch.cat([rewards("seabo", each) for each in sets])
    both = rewards("seabo", stacked(sets, (0, 1)))  # of the first member
    count = sets[0].background.num_transitions
    torch.testing.assert_close(both[:count], alone[:count])


def test_equal_rewards_have_no_range_to_spread() -> None:
    assert torch.equal(unit_range(torch.full((4,), 2.5)), torch.zeros(4))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    fields: dict[str, Any] = {k: v for k, v in (SMALL | small("tge")).items() if k != "num_bins"}
    dataset = random_dataset()
    fastifo.train(
        "tge", dataset, diffusion_updates=2, num_updates=2, progress=False, out=tmp_path / "run",
        **fields,
    )  # fmt: skip
    return tmp_path / "run"


def summary_of(run: Path) -> Path:
    (found,) = run.glob("tge-seed0-*.npz")
    return found


def test_a_report_shows_the_rewards(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_summary(summary_of(run))
    background = random_dataset().background
    assert len(found["background"]) == background.num_transitions
    returns = background.returns()
    assert returns is not None
    best = int(returns.argmax())
    assert len(found["best"]) == int(background.lengths[best])
    report(run)
    page = (run / "report.html").read_text()
    assert "Rewards of run, tge-seed0-" in page
    assert summary_of(run).with_suffix(".png").stat().st_size > 10_000


def test_without_true_returns_points_have_one_color(tmp_path: Path) -> None:
    dataset = random_dataset(reward=False)
    fields = {k: v for k, v in (SMALL | small("tge")).items() if k != "num_bins"}
    fastifo.relabel(
        "tge", dataset, diffusion_updates=2, progress=False, out=tmp_path / "run", **fields
    )
    summary = summary_of(tmp_path / "run")
    assert bool(np.isnan(read_summary(summary)["returns"]).all())
    draw_rewards(summary, tmp_path / "rewards.png")
    assert (tmp_path / "rewards.png").stat().st_size > 10_000


def test_a_damaged_summary_is_named(run: Path) -> None:
    path = summary_of(run)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"\.npz: expected TGE's summary"):
        read_summary(path)


def test_relabelling_goes_on_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {k: v for k, v in (SMALL | small("tge")).items() if k != "num_bins"}
    fields |= {"diffusion_updates": 3, "progress": False, "out": tmp_path / "model"}
    dataset = random_dataset()
    first = fastifo.relabel("tge", dataset, **fields)

    def never(*arguments: object) -> None:
        raise AssertionError("nothing is left to embed")

    monkeypatch.setattr("fastifo.algos.rewards.tge._embedded", never)
    again = fastifo.relabel("tge", dataset, **fields)
    assert first.background.reward is not None
    assert again.background.reward is not None
    assert torch.equal(first.background.reward, again.background.reward)
    other = dataclasses.replace(dataset, background=dataset.background.take(range(5)))
    with pytest.raises(ValueError, match="holds another run"):
        fastifo.relabel("tge", other, **fields)


def test_who_comes_second_to_shared_files_waits(tmp_path: Path) -> None:
    order: list[str] = []
    locks = [tmp_path / "b.lock", tmp_path / "a.lock"]

    def second() -> None:
        with file_locks(locks[::-1]):
            order.append("second")

    with file_locks(locks):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(10.0)
    assert order == ["first", "second"]
