"""Frames in files of other formats: each belongs to its observation, and none is read whole."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import fastifo
from fastifo.data import frames as frames_module
from fastifo.data.dataset import Dataset
from fastifo.data.formats import file_frames
from image_data import stamp

ENV_ARGS = (
    '{"env_name": "Lift", "type": 1, "env_version": "1.5.1", "env_kwargs": {"robots": ["Panda"], '
    '"use_camera_obs": true, "camera_heights": 16, "camera_widths": 17}}'
)
KEYS = {"agentview": "agentview_image", "robot0_eye_in_hand": "robot0_eye_in_hand_image"}
CAMERAS = ",cameras=agentview+robot0_eye_in_hand"
LENGTHS = (4, 5, 3)


def frame(number: int, step: int, eye: bool = False) -> torch.Tensor:
    """The frame of a step of a demonstration."""
    return stamp("front", f"eye {eye}", number, step)


def write(path: Path, *, next_obs: bool = True, dones: bool = True) -> None:
    """A robomimic file: observations are demonstration and step, images tell them too."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = ENV_ARGS
        for number, length in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.zeros((length, 7))
            demo["dones"] = np.arange(length) == (length - 1 if dones else -1)
            for group, offset in (("obs", 0), ("next_obs", 1)):
                if group == "next_obs" and not next_obs:
                    continue
                steps = np.arange(length) + offset
                demo[f"{group}/robot0_eef_pos"] = np.stack(
                    [np.full(length, 1.0 * number), steps], 1
                )
                demo[f"{group}/object"] = np.zeros((length, 10))
                for key in KEYS.values():
                    eye = "eye" in key
                    images = np.stack([frame(number, int(t), eye).numpy() for t in steps])
                    demo.create_dataset(
                        f"{group}/{key}", data=images, compression="gzip", chunks=(1, 16, 17, 3)
                    )
        file["mask/train"] = np.array([b"demo_2", b"demo_0"])


def assert_frames_match(dataset: Dataset) -> None:
    """Observations are demonstration and step; the frames must be of the same."""
    for obs, *images in zip(
        dataset.background.obs, *(dataset.images[camera][:] for camera in KEYS), strict=True
    ):
        number, step = (int(value) for value in obs)
        for eye, image in enumerate(images):
            assert torch.equal(image, frame(number, step, bool(eye)))


def test_only_the_demonstrations_that_are_read_decide_about_cameras(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with h5py.File(path, "r+") as file:
        first, *others = sorted(file["data"])
        for demo in others:
            del file[f"data/{demo}/obs/agentview_image"]
    with pytest.raises(ValueError, match="found them in 1 of 3"):
        fastifo.load(f"robomimic:{path}{CAMERAS}")
    dataset = fastifo.load(f"robomimic:{path}{CAMERAS},episodes=1")
    assert dataset.images["agentview"].shape[0] == LENGTHS[int(first.split("_")[1])] + 1


def test_frames_of_a_robomimic_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(file_frames, "PART_BYTES", 2 * 16 * 17 * 3)  # two frames at a time
    monkeypatch.setattr(frames_module, "IN_MEMORY_BYTES", 100)
    path = tmp_path / "a.hdf5"
    write(path)
    dataset = fastifo.load(f"robomimic:{path}{CAMERAS}")
    assert dataset.background.lengths.tolist() == list(LENGTHS)
    assert dataset.obs_dim == 2  # without `object`, which cameras show
    assert isinstance(dataset.images["agentview"].stores[0].storage, frames_module.FileBytes)
    assert_frames_match(dataset)
    assert dataset.env_kwargs["render"] == {
        "cameras": list(KEYS), "height": 16, "width": 17, "shadows": True, "reflections": True,
        "offsamples": 4,
    }  # fmt: skip
    chosen = fastifo.load(f"robomimic:{path}{CAMERAS},filter=train,episodes=1")
    assert chosen.background.num_episodes == 1
    assert_frames_match(chosen)
    assert fastifo.load(f"robomimic:{path}").images == {}


@pytest.mark.parametrize("dones", [True, False])
def test_frames_without_next_observations(tmp_path: Path, dones: bool) -> None:
    path = tmp_path / "a.hdf5"
    write(path, next_obs=False, dones=dones)
    dataset = fastifo.load(f"robomimic:{path}{CAMERAS}")
    assert dataset.background.lengths.tolist() == [n if dones else n - 1 for n in LENGTHS]
    assert_frames_match(dataset)


def test_episodes_that_are_cut_or_dropped_keep_the_right_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/robot0_eef_pos"][1, 0] = np.nan  # the episode is dropped
        del file["data/demo_2/obs/agentview_image"]
        file["data/demo_2/obs/agentview_image"] = np.zeros((2, 16, 17, 3), np.uint8)  # too few
        file.copy("data/demo_1", "data/demo_3")
        file.copy("data/demo_1", "data/demo_4")
        file.copy("data/demo_1", "data/demo_5")
    dataset = fastifo.load(f"robomimic:{path}{CAMERAS}")
    assert dataset.background.lengths.tolist() == [5, 5, 5, 5]
    assert dataset.info["notes"] == {"episodes dropped for damaged or missing values": 2}
    assert_frames_match(dataset)


def test_a_jump_inside_a_demonstration_takes_the_frame_of_next_obs(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with h5py.File(path, "a") as file:  # the row after step 2 is not what followed it
        for group in ("obs", "next_obs"):
            file[f"data/demo_1/{group}/robot0_eef_pos"][3:, 1] += 40
            for key in KEYS.values():
                images = file[f"data/demo_1/{group}/{key}"]
                for row in (3, 4):
                    step = row + 40 + (group == "next_obs")
                    images[row] = frame(1, step, "eye" in key).numpy()
    dataset = fastifo.load(f"robomimic:{path}{CAMERAS}")
    assert dataset.background.lengths.tolist() == [4, 3, 2, 3]
    assert_frames_match(dataset)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("float", r"agentview_image: expected frames, uint8 .* of kind 'f' with 4 bytes a value"),
        ("flat", r"agentview_image: expected frames, uint8 .* found shape \(\d, 16, 17\)"),
        ("missing", r"cameras: expected some of robot0_eye_in_hand, found 'agentview'"),
        ("rare", r"expected frames of agentview in most demonstrations, found them in 1 of 3"),
        ("first", r"agentview_image: .* found shape \(4, 3, 16, 17\), with channels first"),
        ("small", r"agentview_image: expected \d rows of shape"),
    ],
)
def test_other_frames_are_refused(tmp_path: Path, change: str, match: str) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with h5py.File(path, "a") as file:
        for number, length in enumerate(LENGTHS):
            for group in ("obs", "next_obs"):
                name = f"data/demo_{number}/{group}/agentview_image"
                del file[name]
                shape: tuple[int, ...] = (length, 16, 17, 3)
                if change == "flat":
                    shape = shape[:3]
                if change == "small":
                    shape = (length, 16 + number, 17, 3)
                if change == "first":
                    shape = (length, 3, 16, 17)
                if change != "missing" and not (change == "rare" and number):
                    file[name] = np.zeros(shape, np.float32 if change == "float" else np.uint8)
    with pytest.raises(ValueError, match=match):
        fastifo.load(f"robomimic:{path}{CAMERAS}")


def test_the_environment_renders_in_the_size_of_the_episodes_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with h5py.File(path, "a") as file:
        for name in ("data/demo_0/obs/agentview_image", "data/demo_0/next_obs/agentview_image"):
            images = file[name][()]
            del file[name]
            file[name] = images[:, :0]
    dataset = fastifo.load(f"robomimic:{path},cameras=agentview")
    assert len(dataset) == 2
    assert dataset.env_kwargs["render"]["height"] == 16
    assert dataset.images["agentview"].size == (16, 17, 3)


def test_keys_of_images_say_how_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path)
    with pytest.raises(ValueError, match=r"images are read by camera, as in ,cameras=agentview"):
        fastifo.load(f"robomimic:{path},keys=agentview_image")


def test_frames_of_a_minari_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data/main_data.hdf5", "w") as file:
        for number, length in enumerate(LENGTHS):
            group = file.create_group(f"episode_{number}")
            steps = np.arange(length + 1)
            group["observations/state"] = np.stack([np.full(length + 1, number), steps], 1)
            for camera in KEYS:
                images = [frame(number, int(t), "eye" in camera).numpy() for t in steps]
                group[f"observations/{camera}"] = np.stack(images)
            group["actions"], group["rewards"] = np.full((length, 2), 0.5), np.zeros(length)
            group["terminations"] = steps[1:] == length
            group["truncations"] = np.zeros(length, bool)
    dataset = fastifo.load(f"minari:{tmp_path},keys=state{CAMERAS}")
    assert dataset.background.lengths.tolist() == list(LENGTHS)
    assert_frames_match(dataset)
    with pytest.raises(ValueError, match="state, the observations of the file, found 'side'"):
        fastifo.load(f"minari:{tmp_path},keys=state,cameras=side")
    with pytest.raises(ValueError, match="observations/state: expected frames, uint8"):
        fastifo.load(f"minari:{tmp_path},keys=state,cameras=state")
