"""The .npz reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, ends, episodes


def test_arrays_under_the_names_of_d4rl_are_read(tmp_path: Path) -> None:
    parts = episodes()
    terminal, timeout = ends(parts)
    columns: dict[str, Any] = {
        "observations": np.concatenate([p["obs"][:-1] for p in parts]).astype("f8"),
        "next_observations": np.concatenate([p["obs"][1:] for p in parts]),
        "actions": np.asfortranarray(np.concatenate([p["action"] for p in parts])),
        "rewards": np.concatenate([p["reward"] for p in parts]),
        "terminals": terminal,
    }
    np.savez(tmp_path / "a.npz", timeouts=timeout, **columns)
    assert_same(fastifo.load(f"npz:{tmp_path / 'a.npz'}").background, parts)
    lengths = [len(p["action"]) for p in parts]
    np.savez_compressed(tmp_path / "b.npz", episode_lengths=lengths, **columns)
    assert_same(fastifo.load(f"npz:{tmp_path / 'b.npz'}").background, parts)
    np.savez(tmp_path / "c.npz", arm=np.ones((9, 2)), hand=np.ones(9))
    background = fastifo.load(f"npz:{tmp_path / 'c.npz'},keys=arm+hand,ends=file").background
    assert background.obs.shape == (9, 3)
    assert background.action is None
    np.savez(tmp_path / "d.npz", observations=np.array([None, 1]))
    with pytest.raises(ValueError, match=r"d\.npz: observations: "):
        fastifo.load(f"npz:{tmp_path / 'd.npz'}")
