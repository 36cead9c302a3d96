"""An environment that cannot be played is found before training."""

from pathlib import Path
from typing import Any

import pytest

from engine.runs import train
from helpers import random_dataset


@pytest.mark.parametrize("env_id", ["Hopper-v2", "Walker2d-v2", "Hoper-v4", "no_module:make"])
@pytest.mark.parametrize("by_dataset", [False, True])
def test_an_environment_that_does_not_exist_is_refused_before_training(
    tmp_path: Path, env_id: str, by_dataset: bool
) -> None:
    named = random_dataset(env_id="Hopper-v4")
    fields: dict[str, Any] = {"out": tmp_path / "run"}
    if by_dataset:
        object.__setattr__(named, "env_id", env_id)
    else:
        fields["env"] = env_id
    with pytest.raises((ValueError, TypeError, ImportError), match=env_id.partition(":")[0]):
        train("bc", named, 3, **fields)
    assert not (tmp_path / "run").exists()
    corrected = train("bc", named, 3, **fields | {"env": "Hopper-v4"})
    assert corrected.env_id == "Hopper-v4"


@pytest.mark.parametrize("by_dataset", [False, True])
def test_a_missing_package_is_an_error_where_the_user_named_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by_dataset: bool
) -> None:
    def missing(*arguments: Any) -> None:
        raise ImportError("no package robosuite")

    monkeypatch.setattr("fastifo.engine.setup.check_env", missing)
    dataset = random_dataset(env_id="Hopper-v4")
    if by_dataset:
        train("bc", dataset, 3, progress=True)
        assert "Hopper-v4 cannot be played here: no package robosuite" in capsys.readouterr().err
    else:
        with pytest.raises(ImportError, match="no package robosuite"):
            train("bc", dataset, 3, env="Hopper-v4")
