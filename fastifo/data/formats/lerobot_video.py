"""Frames of a LeRobot dataset's cameras, which are MP4 files.

Version 3 has the frames of many episodes in a file; `meta/episodes/chunk-*/*.parquet` says for each
episode and camera which file, and the second at which the episode begins in it. Version 2 has a
file for each episode. The frame of a row is the one shown at the row's `timestamp`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.arrow import Table
from fastifo.data.formats.source import Ints, ReadResult, Source
from fastifo.data.formats.video import Video
from fastifo.data.frames import Frames, FrameStore, new_frames
from fastifo.utils.files import what_is

PREFIX = "observation.images."  # of a camera's feature; may be left out in `cameras`
PICTURES = ("image", "video")  # `dtype` of cameras' features
PATHS = {  # of videos, where meta/info.json has no `video_path`
    2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
CHUNK_EPISODES = 1000  # in a folder of version 2
TOLERANCE = 0.25  # of a picture's time, in pictures
PART_BYTES = 32 << 20  # of pictures that are decoded at a time, or one picture


class Clip(NamedTuple):
    """Where an episode is in the videos of a camera."""

    path: Path
    begin_s: float


def find_cameras(
    source: Source, features: dict[str, Any], cameras: Sequence[str]
) -> dict[str, str]:
    """The feature of each camera.  Raises ValueError for a camera that has no video."""
    videos = [name for name, feature in features.items() if feature.get("dtype") == "video"]
    result = {}
    for camera in cameras:
        names = [name for name in (camera, PREFIX + camera) if name in features]
        if not names or names[0] not in videos:
            known = ", ".join(name.removeprefix(PREFIX) for name in videos) or "none"
            pictures = names and features[names[0]].get("dtype") == "image"
            hint = "; pictures in Parquet files are not read" if pictures else ""
            raise source.error(
                f"cameras: expected some of {known}, which have videos, found {camera!r}{hint}"
            )
        result[camera] = names[0]
    return result


def with_videos(
    result: ReadResult,
    info: dict[str, Any],
    cameras: dict[str, str],
    episode: Ints,
    timestamp: NDArray[np.float64],
) -> ReadResult:
    """The episodes with the frames of their observations.

    result: its `rows` say which row each observation is.  info: meta/info.json.
    cameras: see `find_cameras`.  episode, timestamp: of each row; the time is in seconds.
    Raises ValueError naming the file: without a rate of frames, for an episode without a video, a
    damaged video, one with fewer frames than steps, and videos of several sizes.
    """
    if not cameras:
        return result
    assert result.rows is not None
    source, fps = result.source, info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < 1e4:
        raise source.error(f"meta/info.json: fps: expected frames in a second, found {fps!r}")
    images = {}
    for camera, feature in cameras.items():
        clips = _clips(source, info, feature, np.unique(episode[result.rows]))
        store = _read(clips, episode[result.rows], timestamp[result.rows], TOLERANCE / fps)
        images[camera] = Frames([store])
    return dataclasses.replace(result, episodes=dataclasses.replace(result.episodes, images=images))


def _clips(source: Source, info: dict[str, Any], feature: str, episodes: Ints) -> dict[int, Clip]:
    """Where each of these episodes is."""
    path, text = source.path, str(info.get("codebase_version", ""))
    version = 2 if text.startswith("v2") else 3
    template = info.get("video_path")
    template = template if isinstance(template, str) else PATHS[version]
    size = info.get("chunks_size")
    per_chunk = size if isinstance(size, int) and size > 0 else CHUNK_EPISODES
    places = _places(source, feature) if version == 3 else None
    clips = {}
    for number in episodes.tolist():
        if places is not None and number not in places:
            raise source.error(f"meta/episodes: expected an entry of episode {number}, found none")
        chunk, file, begin = (0, 0, 0.0) if places is None else places[number]
        try:
            name = template.format(
                video_key=feature, episode_index=number, episode_chunk=number // per_chunk,
                chunk_index=chunk, file_index=file,
            )  # fmt: skip
        except (LookupError, ValueError, AttributeError):
            name = ""
        if not name or ".." in Path(name).parts or Path(name).is_absolute():
            raise source.error(
                f"meta/info.json: video_path: expected a path such as {PATHS[version]}, found "
                f"{template!r}"
            )
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{path}: cameras: expected the video {name} of {feature}, found "
                f"{what_is(path / name)}; download it, or read the data without this camera"
            )
        clips[number] = Clip(path / name, begin)
    return clips


def _places(source: Source, feature: str) -> dict[int, tuple[int, int, float]]:
    """Chunk, file and beginning in seconds of each episode, by version 3."""
    files = sorted((source.path / "meta" / "episodes").glob("chunk-*/*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"{source.path}: expected meta/episodes/chunk-*/*.parquet, which say where the videos "
            "of the episodes are, found no such file"
        )
    kinds = ("chunk_index", "file_index", "from_timestamp")
    names = ["episode_index", *(f"videos/{feature}/{kind}" for kind in kinds)]
    table = Table(files, names)
    columns = [table.numbers(name, np.float64).ravel() for name in names]
    if not np.isfinite(columns).all():
        raise table.error(f"videos/{feature}: expected numbers in every episode, found gaps")
    return {
        int(number): (int(chunk), int(file), float(begin))
        for number, chunk, file, begin in zip(*columns, strict=True)
    }


def _read(
    clips: dict[int, Clip], episode: Ints, timestamp: NDArray[np.float64], tolerance: float
) -> FrameStore:
    """The frame of each observation.  episode, timestamp: of each of them."""
    begin = np.array([clips[number].begin_s for number in episode.tolist()])
    files = sorted({clip.path for clip in clips.values()})
    number_of = {path: number for number, path in enumerate(files)}
    owner = np.array([number_of[clips[number].path] for number in episode.tolist()])
    shown = begin + timestamp
    store, size = None, None
    for number, path in enumerate(files):
        video = Video(path, size)
        size = video.size
        assert size is not None
        store = store or new_frames((len(episode), *size, 3))
        rows = np.flatnonzero(owner == number)
        times, which = np.unique(shown[rows], return_inverse=True)
        most = max(1, PART_BYTES // int(np.prod(store.shape[1:])))
        for first in range(0, len(times), most):
            pictures = video.read(times[first : first + most].tolist(), tolerance)
            here = (which >= first) & (which < first + most)
            store.write(rows[here], pictures[which[here] - first])
    assert store is not None
    return store
