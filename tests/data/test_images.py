"""Frames of cameras: built, stored, selected and refused."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from fastifo.data import frames as frames_module
from fastifo.data import pack
from fastifo.data.dataset import Dataset
from fastifo.data.frames import FileBytes, Frames, FrameStore, check_cameras, new_frames
from image_data import HEIGHT, WIDTH, episode, image_dataset, stamp


def test_every_observation_has_its_frame() -> None:
    dataset = image_dataset()
    row = 0
    for number, length in enumerate(dataset.background.lengths.tolist()):
        for step in range(length + 1):
            for camera in ("front", "wrist"):
                frame = dataset.images[camera][row]
                assert torch.equal(frame, stamp(camera, "background", number, step))
            row += 1
    assert dataset.images["front"].shape == (row, HEIGHT, WIDTH, 3)
    assert dataset.images["wrist"].shape == (row, HEIGHT, WIDTH, 1)


def test_an_episode_has_its_frames_and_makes_an_equal_dataset() -> None:
    dataset = image_dataset()
    assert torch.equal(dataset[1].images["front"][2], stamp("front", "background", 1, 2))
    assert dataset.expert is not None
    again = Dataset.from_episodes(list(dataset), list(dataset.expert))
    assert again.fingerprint() == dataset.fingerprint()
    assert again.background == dataset.background


def test_selected_and_joined_episodes_keep_their_frames() -> None:
    background = image_dataset().background
    taken = background.take([2, 0])
    assert torch.equal(taken[0].images["front"], background[2].images["front"])
    joined = type(taken).joined([taken, background])
    assert torch.equal(joined[1].images["wrist"], background[0].images["wrist"])
    assert torch.equal(joined[4].images["wrist"], background[2].images["wrist"])
    assert joined.take([4, 1])[1].images["front"].shape == background[0].images["front"].shape
    assert taken.images["front"].stores[0] is background.images["front"].stores[0]


@pytest.fixture(scope="module")
def small_blocks() -> Any:
    """A block of checksums holds two frames, so that packs here have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames_module, "BLOCK_BYTES", 2 * HEIGHT * WIDTH * 3)
        yield


def test_a_pack_keeps_frames_and_reads_none_when_opened(tmp_path: Path, small_blocks: None) -> None:
    dataset = image_dataset()
    dataset.save(tmp_path / "a.fastifo")
    loaded = fastifo.load(tmp_path / "a.fastifo")
    store = loaded.images["front"].stores[0]
    assert isinstance(store.storage, FileBytes)
    assert loaded.fingerprint() == dataset.fingerprint()
    assert store.unchecked.all()  # neither opened nor hashed by reading frames
    rows = torch.tensor([7, 0, 7])
    assert torch.equal(loaded.images["front"].read(rows), dataset.images["front"].read(rows))
    assert np.flatnonzero(~store.unchecked).tolist() == [0, 3]
    assert loaded == dataset
    assert pack.verify(tmp_path / "a.fastifo") == (tmp_path / "a.fastifo").stat().st_size
    assert pack.read_header(tmp_path / "a.fastifo")["version"] == 3


def test_selected_episodes_are_saved_with_their_frames(tmp_path: Path) -> None:
    dataset = image_dataset()
    background = type(dataset.background).joined([dataset.background.take([2]), dataset.background])
    Dataset(background, dataset.expert).save(tmp_path / "a.fastifo")
    loaded = fastifo.load(tmp_path / "a.fastifo")
    assert loaded.background == background
    assert torch.equal(loaded[0].images["front"][3], stamp("front", "background", 2, 3))


def test_a_pack_without_images_is_one_that_older_versions_read(tmp_path: Path) -> None:
    image_dataset().with_cameras().save(tmp_path / "a.fastifo")
    header = pack.read_header(tmp_path / "a.fastifo")
    assert header["version"] == 2
    assert "frames" not in header


def test_a_damaged_frame_is_refused_when_it_is_read(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "a.fastifo"
    image_dataset().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last camera of the expert
    path.write_bytes(content)
    loaded = fastifo.load(path)
    assert loaded.expert is not None
    last = loaded.expert.images["wrist"]
    assert len(last[0]) == HEIGHT
    with pytest.raises(ValueError, match=r"a\.fastifo: expert\.wrist: frames \d+ to \d+ are dam"):
        last[len(last) - 1]
    with pytest.raises(ValueError, match="are damaged"):
        pack.verify(path)


def test_a_truncated_pack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fastifo"
    image_dataset().save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        fastifo.load(path)


def test_a_pack_that_is_shortened_while_it_is_open_is_an_error(
    tmp_path: Path, small_blocks: None
) -> None:
    path = tmp_path / "a.fastifo"
    image_dataset().save(path)
    expert = fastifo.load(path).expert
    assert expert is not None
    frames = expert.images["wrist"]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"a\.fastifo: .*wrist: the file was shortened"):
        frames[:]


def test_frames_of_a_file_are_neither_copied_nor_pickled(tmp_path: Path) -> None:
    image_dataset().save(tmp_path / "a.fastifo")
    dataset = fastifo.load(tmp_path / "a.fastifo")
    for share in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"a\.fastifo: .*: frames in a file are neither copied"):
            share(dataset)


def test_a_full_disk_is_an_error_while_frames_are_stored() -> None:
    full = FileBytes(os.open("/dev/full", os.O_RDWR), 0, "")
    store = FrameStore((2, 4, 4, 3), full)
    with pytest.raises(OSError, match="No space left"):
        store.write(np.array([1]), np.zeros((1, 4, 4, 3), np.uint8))


def test_frames_of_a_file_are_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.fastifo"
    image_dataset().save(path)
    frames = fastifo.load(path).images["front"]
    frames[:]
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_many_frames_are_kept_in_a_file(monkeypatch: Any) -> None:
    monkeypatch.setattr(frames_module, "IN_MEMORY_BYTES", 100)
    store = new_frames((3, 4, 4, 3))
    assert isinstance(store.storage, FileBytes)
    written = np.arange(2 * 48, dtype=np.uint8).reshape(2, 4, 4, 3)
    store.write(np.array([2, 0]), written)
    assert Frames([store])[[2, 0]].numpy().tolist() == written.tolist()
    assert Frames([store])[1].eq(0).all()
    assert image_dataset() == image_dataset()


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ({"front": np.zeros((5, 8, 9, 3))}, r"\[0\]\['image'\]\['front'\]: .* float64; multiply"),
        ({"front": np.zeros((4, 8, 9, 3), np.uint8)}, "expected 5 frames, one for each .* found 4"),
        ({"front": np.zeros((5, 8, 9), np.uint8)}, r"found shape \[5, 8, 9\]"),
        ({"front": np.zeros((5, 0, 9, 3), np.uint8)}, r"found shape"),
        (
            {"front": [np.zeros((8, 9, 3), np.uint8)] * 4 + [np.zeros((8, 8, 3), np.uint8)]},
            r"\['front'\]: expected uint8 .* found frames of differing sizes",
        ),
        ({"front": np.zeros((5, 3, 8, 9), np.uint8)}, r"\[5, 3, 8, 9\], with channels first; tr"),
        ({"": np.zeros((5, 8, 9, 3), np.uint8)}, "expected camera names .* found ''"),
        ({3: np.zeros((5, 8, 9, 3), np.uint8)}, "expected camera names .* found 3"),
        ({"a\n": np.zeros((5, 8, 9, 3), np.uint8)}, "expected camera names .* found 'a"),
        ({}, "expected camera -> uint8 .* found no camera"),
        (np.zeros((5, 8, 9, 3), np.uint8), "in every episode or in none, found ndarray"),
    ],
)
def test_frames_of_another_kind_are_refused(image: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        Dataset.from_episodes([episode("background", 0, 4) | {"image": image}])


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ({"front": np.zeros((5, 8, 8, 3), np.uint8)}, r"\[1\].*frames of \[8, 9, 3\] as in the fi"),
        ({"back": np.zeros((5, 8, 9, 3), np.uint8)}, r"\[1\].*the cameras front as in the first"),
        (None, r"\[1\]\['image'\]: expected camera -> .* found nothing"),
    ],
)
def test_episodes_must_agree_in_cameras_and_sizes(image: Any, match: str) -> None:
    first, second = ({"obs": np.zeros((5, 2)), "action": np.zeros((4, 1))} for _ in range(2))
    first["image"] = {"front": np.zeros((5, 8, 9, 3), np.uint8)}  # type: ignore[assignment]
    if image is not None:
        second["image"] = image
    with pytest.raises((TypeError, ValueError), match=match):
        Dataset.from_episodes([first, second])


def test_the_experts_frames_have_the_backgrounds_size() -> None:
    expert = episode("expert", 0, 4)
    expert["image"] = {"front": np.zeros((5, 9, 9, 3), np.uint8)}
    with pytest.raises(ValueError, match="camera 'front': the expert's frames are"):
        Dataset.from_episodes([episode("background", 0, 4)], [expert])


def test_cameras_are_chosen_by_name() -> None:
    dataset = image_dataset()
    assert list(dataset.with_cameras("wrist").images) == ["wrist"]
    assert dataset.with_cameras().images == {}
    with pytest.raises(ValueError, match="expected some of front, wrist, found 'back'"):
        dataset.with_cameras("back")


def test_a_summary_names_the_cameras() -> None:
    line = f"front {HEIGHT} x {WIDTH} x 3, wrist {HEIGHT} x {WIDTH} x 1"
    assert line in image_dataset().summary()
    assert line in repr(image_dataset())


def test_a_camera_that_is_missing_or_of_another_size_is_named() -> None:
    spec = (("front", 8, 9, 3),)
    check_cameras(spec, {"front": (8, 9, 3), "side": (1, 1, 1)}, "Lift")
    with pytest.raises(ValueError, match="Lift: expected frames of the camera 'front', found side"):
        check_cameras(spec, {"side": (8, 9, 3)}, "Lift")
    with pytest.raises(ValueError, match="'front': expected frames of 8 x 9 x 3, found 8 x 8 x 3"):
        check_cameras(spec, {"front": (8, 8, 3)}, "Lift")
