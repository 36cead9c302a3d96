"""Videos of LeRobot's datasets: each row has its picture, and damaged videos are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import fastifo
from data.table_files import lists
from fastifo.data.formats import lerobot_video
from fastifo.report.video import write_video

LENGTHS, FPS = (4, 5, 3), 10
FILES = (0, 0, 1)  # video of each episode in version 3
FEATURE = "observation.images.top"
HEIGHT, WIDTH = 32, 48


def picture(episode: int, step: int) -> NDArray[np.uint8]:
    """One color, which tells episode and step."""
    return np.full((HEIGHT, WIDTH, 3), (40 + 60 * episode, 40 + 30 * step, 128), np.uint8)


def write(path: Path, version: int = 3, lengths: tuple[int, ...] = LENGTHS) -> None:
    """A dataset of one camera.  lengths: numbers of pictures in the videos."""
    (path / "data/chunk-000").mkdir(parents=True)
    episode = np.repeat(np.arange(3), LENGTHS)
    frame = np.concatenate([np.arange(n) for n in LENGTHS])
    columns: dict[str, Any] = {
        "observation.state": lists(np.stack([episode, frame], 1).astype("f4")),
        "action": lists(np.zeros((len(frame), 2), "f4")), "timestamp": (frame / FPS).astype("f4"),
        "next.done": np.append(np.diff(episode) > 0, True), "episode_index": episode,
        "frame_index": frame, "index": np.arange(len(frame)),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path / "data/chunk-000/file-000.parquet")
    features = {name: {"dtype": "float32", "shape": [1]} for name in columns}
    shape = [HEIGHT, WIDTH, 3]
    features |= {FEATURE: {"dtype": "video", "shape": shape}}
    features |= {"observation.images.wrist": {"dtype": "image", "shape": shape}}
    info = {"codebase_version": f"v{version}.0", "fps": FPS, "features": features}
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    (path / "meta/info.json").write_text(json.dumps(info))
    shown = [[picture(e, t) for t in range(n)] for e, n in enumerate(lengths)]
    if version == 2:
        folder = path / f"videos/chunk-000/{FEATURE}"
        for e, frames in enumerate(shown):
            save(folder / f"episode_{e:06d}.mp4", frames)
        return
    entries = {"chunk_index": [0, 0, 0], "file_index": FILES, "from_timestamp": [0.0, 0.4, 0.0]}
    columns = {f"videos/{FEATURE}/{name}": np.array(value) for name, value in entries.items()}
    table = pa.table({"episode_index": np.arange(3), **columns})
    pq.write_table(table, path / "meta/episodes/chunk-000/file-000.parquet")
    folder = path / f"videos/{FEATURE}/chunk-000"
    save(folder / "file-000.mp4", shown[0] + shown[1])
    save(folder / "file-001.mp4", shown[2])


def save(path: Path, frames: list[NDArray[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, FPS)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dones", ["terminal", "timeout"])
def test_each_observation_has_the_picture_of_its_row(
    tmp_path: Path, monkeypatch: Any, version: int, dones: str
) -> None:
    monkeypatch.setattr(lerobot_video, "PART_BYTES", 3 * HEIGHT * WIDTH * 3)  # three at a time
    write(tmp_path / "a", version)
    dataset = fastifo.load(f"lerobot:{tmp_path / 'a'},dones={dones},cameras=top")
    cut = dones == "timeout"  # nothing follows the last action
    assert dataset.background.lengths.tolist() == [n - cut for n in LENGTHS]
    assert dataset.cameras == (("top", HEIGHT, WIDTH, 3),)
    for obs, found in zip(dataset.background.obs, dataset.images["top"][:], strict=True):
        expected = picture(*(int(value) for value in obs)).astype(int)
        assert np.abs(found.numpy().astype(int) - expected).max() < 12  # H.264 loses some
    assert dataset.info["notes"]["cameras that are not read"] == 1


def test_a_camera_is_named_in_full_too(tmp_path: Path) -> None:
    write(tmp_path / "a")
    spec = f"lerobot:{tmp_path / 'a'},dones=terminal,episodes=1,cameras={FEATURE}"
    assert list(fastifo.load(spec).images) == [FEATURE]
    assert fastifo.load(f"lerobot:{tmp_path / 'a'},dones=terminal").images == {}
    for camera, words in (("side", ""), ("wrist", "; pictures in Parquet files are not read")):
        with pytest.raises(
            ValueError, match=f"some of top, which have videos, found '{camera}'{words}"
        ):
            fastifo.load(f"lerobot:{tmp_path / 'a'},dones=terminal,cameras={camera}")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def test_damaged_videos_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path / "a")
    folder = tmp_path / f"a/videos/{FEATURE}/chunk-000"
    spec = f"lerobot:{tmp_path / 'a'},dones=terminal,cameras=top"
    content = (folder / "file-001.mp4").read_bytes()
    cut_short(folder / "file-001.mp4")
    with pytest.raises(ValueError, match=r"file-001\.mp4: not a valid MP4 file, or cut short"):
        fastifo.load(spec)
    save(folder / "file-001.mp4", [np.zeros((16, 48, 3), np.uint8)] * 3)
    with pytest.raises(ValueError, match=r"file-001\.mp4: expected frames of 32 x 48, .* 16 x 48"):
        fastifo.load(spec)
    (folder / "file-001.mp4").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cameras: .*file-001\.mp4 of .*top, found nothing"
    ):
        fastifo.load(spec)
    (folder / "file-001.mp4").write_bytes(content)
    monkeypatch.setattr("fastifo.data.formats.video.DECODER_BYTES", 1 << 10)
    with pytest.raises(ValueError, match=r"file-000\.mp4: "):
        fastifo.load(spec)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "av" or None)
    with pytest.raises(ImportError, match=r"file-000\.mp4: videos need the package av: pip ins"):
        fastifo.load(spec)


@pytest.mark.parametrize("version", [2, 3])
def test_fewer_pictures_than_steps_are_refused(tmp_path: Path, version: int) -> None:
    write(tmp_path / "a", version, lengths=(4, 5, 2))
    with pytest.raises(
        ValueError,
        match=r"mp4: no frame at 0\.200 s: the last one is at 0\.100 s; the video has fewer frames "
        "than the data have steps",
    ):
        fastifo.load(f"lerobot:{tmp_path / 'a'},dones=terminal,cameras=top")


def test_metadata_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path)
    spec = f"lerobot:{path},dones=terminal,cameras=top"
    info = json.loads((path / "meta/info.json").read_text())
    for changes, match in (
        ({"fps": 0}, r"fps: expected frames in a second, found 0"),
        ({"fps": 500}, r"file-000\.mp4: no frame at 0\.4"),
        ({"video_path": "../{video_key}.mp4"}, r"video_path: expected a path such as videos/"),
        ({"video_path": "{video_key.x}"}, r"video_path: expected a path such as videos/"),
    ):
        (path / "meta/info.json").write_text(json.dumps(info | changes))
        if "fps" in changes and changes["fps"] == 500:
            table = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet")
            name = f"videos/{FEATURE}/from_timestamp"
            moved = table.set_column(
                table.column_names.index(name), name, pa.array([0.0, 0.43, 0.0])
            )
            pq.write_table(moved, path / "meta/episodes/chunk-000/file-000.parquet")
        with pytest.raises(ValueError, match=match):
            fastifo.load(spec)
    (path / "meta/info.json").write_text(json.dumps(info))
    table = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(table.slice(0, 2), path / "meta/episodes/chunk-000/file-000.parquet")
    with pytest.raises(ValueError, match="meta/episodes: expected an entry of episode 2, found no"):
        fastifo.load(spec)
    (path / "meta/episodes/chunk-000/file-000.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected meta/episodes/chunk-\*"):
        fastifo.load(spec)
