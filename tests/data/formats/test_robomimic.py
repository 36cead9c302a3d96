"""The robomimic reader: keys, filters, missing next observations, and what it refuses."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_robomimic


def test_demonstrations_keys_and_filters_are_read(tmp_path: Path) -> None:
    parts = episodes(12)
    path = tmp_path / "a.hdf5"
    write_robomimic(path, parts)
    assert_same(fastifo.load(f"robomimic:{path}").background, parts)  # demo_2 before demo_10
    selected = fastifo.load(f"robomimic:{path},filter=train").background
    assert_same(selected, [parts[1], parts[3]])
    swapped = fastifo.load(f"robomimic:{path},keys=robot0_eef_pos+object").background
    np.testing.assert_array_equal(swapped.obs[0], np.roll(parts[0]["obs"][0], 1))
    assert fastifo.load(f"robomimic:{path},episodes=2").background.num_episodes == 2


def test_without_next_observations_the_last_step_of_a_timeout_is_dropped(tmp_path: Path) -> None:
    parts = episodes(2)
    write_robomimic(tmp_path / "a.hdf5", parts, next_obs=False)
    dataset = fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}")
    assert dataset.background.lengths.tolist() == [3, 3]  # the second had 4


def test_keys_are_those_of_most_demonstrations(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_robomimic(path, episodes(3))
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/object"]
    dataset = fastifo.load(f"robomimic:{path}")
    assert len(dataset) == 2  # with `object`, and without the demonstration that lacks it
    assert dataset.obs_dim == episodes(1)[0]["obs"].shape[1]
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/object"]
    for keys in ("", ",keys=object"):
        with pytest.raises(ValueError, match=r"keys: expected object in most .* in 1 of 3"):
            fastifo.load(f"robomimic:{path}{keys}")
    assert len(fastifo.load(f"robomimic:{path},keys=robot0_eef_pos")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",keys=object+agentview_image", r"agentview_image: expected low-dim.*read by camera"),
        (",keys=nothing", r"nothing: expected low-dimensional observations \(object, robot0_eef"),
        (",keys=object+object", r"keys: expected names, each once, found 'object\+object'"),
        (",cameras=+", r"cameras: expected names, each once, found '\+'"),
        (",filter=valid", "filter: expected one of train, found 'valid'"),
        (",episodes=99", "episodes: expected at most 5, the file's number of episodes, found 99"),
        (",size=3", "unknown option 'size=3'; known: episodes, keys, cameras, filter"),
    ],
)
def test_unknown_keys_filters_and_options_are_refused(
    tmp_path: Path, options: str, message: str
) -> None:
    write_robomimic(tmp_path / "a.hdf5", episodes())
    with pytest.raises(ValueError, match=message):
        fastifo.load(f"robomimic:{tmp_path / 'a.hdf5'}{options}")
