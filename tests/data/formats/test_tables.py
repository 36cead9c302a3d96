"""CSV, Parquet and Arrow files, and what they must not do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastifo
from data.formats.files import assert_same, episodes
from data.layout_files import make
from data.table_files import imitation, lerobot, minari_arrow
from fastifo.data.formats import arrow
from fastifo.data.formats.reader_process import ReaderProcess
from fastifo.data.formats.tables import numbered


def test_numbered_columns_are_grouped_from_0_or_1() -> None:
    names = [
        "obs_1",
        "obs_0",
        "act.2",
        "act.1",
        "x[0]",
        "gap_0",
        "gap_2",
        "late_3",
        "t",
        "y_0",
        "y",
    ]
    assert numbered(names) == {"obs": ["obs_0", "obs_1"], "act": ["act.1", "act.2"], "x": ["x[0]"]}


def write_csv(path: Path, parts: list[dict[str, Any]], **changes: str) -> None:
    """Columns obs_*, action_*, reward, next_obs_*, terminated and truncated, as text."""
    lines = []
    for part in parts:
        for t, action in enumerate(part["action"]):
            last = t == len(part["action"]) - 1
            ends = [str(last and part["terminal"]), str(last and not part["terminal"]).upper()]
            cells = [*part["obs"][t], *action, part["reward"][t], *part["obs"][t + 1], *ends, "a,b"]
            lines.append(",".join(f'"{c}"' if c == "a,b" else str(c) for c in cells))
    names = [*(f"obs_{i}" for i in range(4)), "action_0", "action_1", "reward"]
    names += [*(f"next_obs_{i}" for i in range(4)), "terminated", "truncated", "comment"]
    header = ",".join(changes.get(name, name) for name in names)
    path.write_text("\ufeff" + "\r\n".join([header, *lines]) + "\r\n", encoding="utf-8")


def test_a_csv_file_with_quotes_words_and_a_byte_order_mark(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", episodes())
    for spec in (tmp_path / "a.csv", f"csv:{tmp_path / 'a.csv'}"):
        assert_same(fastifo.load(spec).background, episodes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("obs_1", "obs_0", 1), "expected a header of different names"),
        (lambda text: text + "1,2\n", r"line 27: expected 14 values, found 2"),
        (lambda text: text.replace("reward", "x", 1).replace("obs_2", "o", 1), "name the columns"),
        (lambda text: text.splitlines()[0] + "\n", r"obs_0: expected numbers, found no rows"),
        (
            lambda text: text.replace("True", "maybe"),
            r"csv: terminated: .*, found 'maybe'",
        ),
        (
            lambda text: text.replace("obs_0", "", 1),
            r"a header .*no index with index=False",
        ),
        (lambda text: "", "expected a header"),
    ],
)
def test_a_csv_file_that_is_not_right_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, episodes(), next_obs_0="z", truncated="cut")
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(change(text))
    with pytest.raises(ValueError, match=message):
        fastifo.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.csv: not a valid CSV file"):
        fastifo.load(path)


def test_rows_of_an_episode_lie_together(tmp_path: Path) -> None:
    table = pa.table({"obs_0": np.arange(6.0), "episode": [0, 1, 0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"episode: .*found 2 episodes in 6 pieces; sort the rows"):
        fastifo.load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["a"] * 6), "obs: expected numbers, found string"),
        (pa.array([[1.0], [1.0, 2.0]] * 3), "obs: expected lists of one length, found 1 to 2"),
        (pa.array([[[1.0]], [[1.0], [2.0]]] * 3), "obs: expected numbers or lists, found list<"),
        (pa.array([[1.0], None] * 3), "obs: expected numbers, found list.* 3 of them null"),
        (pa.array([1.0, None] * 3), "unusable|damaged"),
    ],
)
def test_a_parquet_column_that_is_not_right_is_refused(
    tmp_path: Path, column: Any, message: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"obs": column, "episode": [0, 0, 0, 1, 1, 1]}), path)
    with pytest.raises(ValueError, match=message):
        fastifo.load(path)


def test_a_crash_of_pyarrow_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"obs_0": np.arange(6.0), "episode": [0, 0, 0, 1, 1, 1]}), path)
    content = path.read_bytes()
    reader = tmp_path / "reader.py"
    text = arrow.READER.read_text()
    reader.write_text(
        text.replace("    restart_timer(STALL_S)\n", "    __import__('os').abort()\n", 1)
    )
    monkeypatch.setattr(arrow, "_READER", ReaderProcess(reader, "Arrow"))
    with pytest.raises(ValueError, match=r"a\.parquet: .*Arrow library crashed on it \(signal 6\)"):
        fastifo.load(path)
    monkeypatch.undo()
    path.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet: not a valid Parquet or Arrow file"):
        fastifo.load(path)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lerobot()(tmp_path / "set", make())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fastifo\[lerobot\]'"):
        fastifo.load(f"lerobot:{tmp_path / 'set'}")


def test_lerobot_counts_its_frames(tmp_path: Path) -> None:
    lerobot(2, cameras=2)(tmp_path / "a", make())
    dataset = fastifo.load(f"lerobot:{tmp_path / 'a'}")
    assert dataset.info["notes"]["cameras that are not read"] == 2
    assert dataset.info["license"] == "apache-2.0"
    assert dataset.info["lerobot"]["robot_type"] == "arm"
    with pytest.raises(ValueError, match=r"expected some of observation\.state, observation\.env"):
        fastifo.load(f"lerobot:{tmp_path / 'a'},keys=observation.images.0")
    with pytest.raises(ValueError, match="action_key: expected one of action, found act"):
        fastifo.load(f"lerobot:{tmp_path / 'a'}", action_key="act")
    for option in ("terminals", "ends"):
        with pytest.raises(ValueError, match=rf"{option}: expected one of .*, found next\.success"):
            fastifo.load(f"lerobot:{tmp_path / 'a'},{option}=next.success")
    (tmp_path / "a/data/chunk-000/episode_000004.parquet").unlink()
    with pytest.raises(ValueError, match=r"states 300 frames, the files have 240"):
        fastifo.load(tmp_path / "a")
    (tmp_path / "a/data/chunk-000/episode_000002.parquet").unlink()
    with pytest.raises(ValueError, match=r"index: .*found frames missing or doubled"):
        fastifo.load(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match=r"meta/info\.json, found nothing there"):
        fastifo.load(f"lerobot:{tmp_path}")


def test_minari_in_arrow_states_its_task(tmp_path: Path) -> None:
    minari_arrow("arrow")(tmp_path / "a", make())
    dataset = fastifo.load(tmp_path / "a")
    assert dataset.env_id == "Pendulum-v1"
    assert dataset.env_kwargs == {"max_episode_steps": 90}
    with pytest.raises(ValueError, match="keys: expected some of none, the observations"):
        fastifo.load(f"minari:{tmp_path / 'a'},keys=x")


def test_imitation_refuses_what_does_not_fit(tmp_path: Path) -> None:
    imitation()(tmp_path / "a", make())
    assert fastifo.load(tmp_path / "a").info["license"] == "mit"
    state = tmp_path / "a/state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../b.arrow"}]}))
    with pytest.raises(ValueError, match="expected a folder of Hugging Face's datasets"):
        fastifo.load(tmp_path / "a")
    columns = {"obs": np.zeros((9, 2)), "acts": np.zeros((8, 1)), "terminal": [False]}
    np.savez(tmp_path / "b.npz", **columns, indices=[4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"b\.npz: indices: expected rising numbers that split 8"):
        fastifo.load(tmp_path / "b.npz")
