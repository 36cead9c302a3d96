"""`fastifo.load` with an expert and a background from different files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastifo
from data.formats.files import assert_same, episodes, write_d4rl, write_minari


def test_expert_and_background_from_different_files(tmp_path: Path) -> None:
    demos, played = episodes(2, seed=1), episodes(4, seed=2)
    write_d4rl(tmp_path / "hopper_expert-v2.hdf5", demos)
    write_minari(tmp_path / "played", played)
    expert = f"d4rl:{tmp_path / 'hopper_expert-v2.hdf5'}"
    background = f"minari:{tmp_path / 'played'}"
    with pytest.raises(ValueError, match=r"Hopper-v4, background .* from Hopper-v5"):
        fastifo.load(expert=expert, background=background)
    dataset = fastifo.load(expert=expert, background=background, env_id="Hopper-v4")
    assert_same(dataset.background, played)
    assert dataset.expert is not None
    assert dataset.expert.action is not None  # for sqil only
    assert dataset.expert.reward is None
    assert dataset.env_id == "Hopper-v4"
    dataset.save(tmp_path / "a.fastifo")
    again = fastifo.load(
        expert=tmp_path / "a.fastifo", background=tmp_path / "a.fastifo", env_id="none"
    )
    assert again.fingerprint() == dataset.fingerprint()
    assert again.env_id is None
    fastifo.train("vfo_bin", again, num_updates=2, progress=False, hidden_sizes=(8,), batch_size=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "a", "expert": "b"}, "expected one spec, or expert= and background=, found both"),
        ({"expert": "b"}, "background: expected a file or a spec, found none"),
    ],
)
def test_conflicting_or_missing_arguments_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fastifo.load(**arguments)


def test_different_observation_widths_are_refused(tmp_path: Path) -> None:
    write_d4rl(tmp_path / "a.hdf5", episodes())
    np.savez(tmp_path / "c.npz", observations=np.ones((9, 2)))
    expert = f"npz:{tmp_path / 'c.npz'},ends=file"
    with pytest.raises(ValueError, match=r"c\.npz,.*: observations have width 2, those of .* 4"):
        fastifo.load(expert=expert, background=f"d4rl:{tmp_path / 'a.hdf5'}")
