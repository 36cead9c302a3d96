"""NumPy's numbers are arguments like Python's, and torch's global settings change no result."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastifo
from engine.runs import state, train
from fastifo.callbacks import EvaluateEvery
from fastifo.studies.grid import study_sibench
from helpers import SMALL, random_dataset

INT: Any = np.int64
BOOL: Any = np.bool_


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def matmul_precision(precision: str) -> Any:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "matmul": lambda: matmul_precision("medium"),
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "vfo_disc": ("vfo_disc", {"standardize_obs": True}),
    "torch": ("vfo_bin", {"engine": "torch"}),
    "rebrac": ("rebrac", {}),
    "tge": ("tge", {}),
    "bco": ("bco", {}),
}


@pytest.mark.parametrize("method", METHODS)
def test_global_settings_of_torch_do_not_change_a_training(method: str) -> None:
    name, fields = METHODS[method]
    dataset = random_dataset()
    expected = state(train(name, dataset, 6, **fields))
    for setting, context in SETTINGS.items():
        with context():
            actual = state(train(name, dataset, 6, **fields))
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(actual[key], value), (setting, key)


@pytest.mark.parametrize("setting", SETTINGS)
def test_global_settings_of_torch_do_not_change_data_and_actions(
    setting: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    episode = {"obs": rng.normal(size=(9, 3)), "action": rng.uniform(-1, 1, (8, 2))}
    dataset = fastifo.Dataset.from_episodes([episode], action_low=-2.0, action_high=1.0)
    run = train("bc", dataset, 4, out=tmp_path / "run")
    obs = rng.normal(size=(4, 3)).astype(np.float32)
    expected = run.policy().act(obs)
    with SETTINGS[setting]():
        again = fastifo.Dataset.from_episodes([episode], action_low=-2.0, action_high=1.0)
        again.save(tmp_path / "set.fastifo")
        reopened = fastifo.open_run(tmp_path / "run")
        actions = [run.policy().act(obs), reopened.policy().act(obs)]
        text = fastifo.load(tmp_path / "set.fastifo").summary()
    assert again.fingerprint() == dataset.fingerprint()
    assert fastifo.load(tmp_path / "set.fastifo").fingerprint() == dataset.fingerprint()
    assert text == dataset.summary()
    for action in actions:
        assert np.array_equal(action, expected)


def test_settings_are_as_they_were_after_a_training() -> None:
    with default_dtype(torch.float64), torch.no_grad(), matmul_precision("high"):
        train("bc", random_dataset(), 2)
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "high"


def test_numpy_numbers_are_arguments(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    expected = train("bc", dataset, 5, seeds=[3, 4], standardize_obs=True, learning_rate=[0.1, 0.2])
    fields: dict[str, Any] = {
        "num_updates": np.int64(5),
        "seeds": np.array([3, 4], np.int32),
        "standardize_obs": np.bool_(True),
        "learning_rate": np.array([0.1, 0.2]),
        "log_every": np.uint8(10),
        "checkpoint_every": np.int16(100),
        "progress": np.bool_(False),
        "resume": np.bool_(True),
        "fused": np.bool_(True),
        "batch_size": np.int64(SMALL["batch_size"]),
        "num_bins": np.float32(SMALL["num_bins"]),
        "hidden_sizes": tuple(np.array(SMALL["hidden_sizes"])),
        "callbacks": [EvaluateEvery(INT(5), INT(1), BOOL(False))],
    }
    run = fastifo.train("bc", dataset, out=tmp_path / "run", **fields)
    for name, value in state(expected).items():
        assert torch.equal(state(run)[name], value), name
    members: Any = np.arange(4)
    run.evaluate(INT(2), BOOL(True), seed=INT(0), members=members, progress=BOOL(False))
    fastifo.open_run(tmp_path / "run").evaluate(INT(1), BOOL(True), progress=False)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (3, r"seeds=range\(3\) for 3 seeds, or seeds=\[3\] for seed 3 alone"),
        (1, r"seeds=range\(1\) for 1 seed, or seeds=\[1\]"),
        (INT(7), r"seeds=range\(7\) for 7 seeds, or seeds=\[7\]"),
        (np.array(7), r"seeds=range\(7\) for 7 seeds, or seeds=\[7\]"),
        (torch.tensor(7), r"seeds=range\(7\) for 7 seeds, or seeds=\[7\]"),
        (True, "seeds: expected one or more integers, found True"),
        ([False, True], "seeds: expected one or more integers"),
        ("12", "seeds: expected one or more integers, found '12'"),
        (1.0, "seeds: expected one or more integers, found 1.0"),
        (None, "seeds: expected one or more integers, found None"),
    ],
)
def test_a_single_number_is_no_list_of_seeds(tmp_path: Path, seeds: Any, message: str) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    with pytest.raises(TypeError, match=message):
        train("bc", dataset, 2, seeds=seeds)
    with pytest.raises(TypeError, match=message):
        fastifo.improve("bc", dataset, dataset, seeds=seeds, out=tmp_path, progress=False)
    with pytest.raises(TypeError, match=message):
        study_sibench(tmp_path, ["bc"], ["Hopper-v4"], [1], num_updates=2, seeds=seeds)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (range(3), [0, 1, 2]),
        ([3], [3]),
        (0, [0]),
        (np.arange(2), [0, 1]),
        (torch.tensor([4, 2]), [4, 2]),
        (iter([5]), [5]),
        ({6: 0}, [6]),
    ],
)
def test_a_list_of_seeds_may_be_anything_that_lists_them(seeds: Any, expected: list[int]) -> None:
    run = train("bc", random_dataset(), 1, seeds=seeds)
    assert [member.seed for member in run.members] == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lr", "learning_rate"),
        ("seed", "seeds"),
        ("num_update", "num_updates"),
        ("callback", "callbacks"),
        ("checkpoints_every", "checkpoint_every"),
        ("presets", "preset"),
        ("presicion", "precision"),
        ("output_dir", "out"),
        ("eval_every", "callbacks"),
        ("hidden_size", "hidden_sizes"),
        ("hidden", "hidden_sizes"),
        ("steps", "num_updates"),
        ("LR", "learning_rate"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(name: str, hint: str) -> None:
    wrong: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=f"bc has no field '{name}'; did you mean '{hint}'"):
        fastifo.train("bc", random_dataset(), **wrong)


@pytest.mark.parametrize(
    ("name", "hint"), [("seeds", "seed"), ("folder", "out"), ("neighbor_backend", "neighbour_back")]
)
def test_relabelling_answers_a_wrong_name_with_the_right_one(name: str, hint: str) -> None:
    wrong: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=f"seabo has no field '{name}'; did you mean '{hint}"):
        fastifo.relabel("seabo", random_dataset(), **wrong)


def test_improving_takes_numpy_numbers(tmp_path: Path) -> None:
    dataset = random_dataset(env_id="Hopper-v4")
    result = fastifo.improve(
        "bc", dataset, dataset, iterations=INT(1), episodes=INT(1), seeds=[INT(2)],
        num_updates=np.int64(2), out=tmp_path, progress=False, learning_rate=np.float32(0.5),
        batch_size=np.int64(4), hidden_sizes=(4,), num_bins=11,
    )  # fmt: skip
    assert result.seeds == (2,)


@pytest.mark.parametrize("value", [True, np.bool_(True), 2.0, np.float64(3.0), "3", None, [3]])
@pytest.mark.parametrize("name", ["num_updates", "log_every", "checkpoint_every"])
def test_other_values_are_no_counts(name: str, value: Any) -> None:
    if name == "num_updates" and value is None:
        return  # the default
    with pytest.raises(ValueError, match=f"{name}: expected an integer of at least 1"):
        fastifo.train("bc", random_dataset(), **SMALL | {name: value})


@pytest.mark.parametrize("value", [1, "yes", None])
def test_other_values_are_no_flags(value: Any) -> None:
    with pytest.raises(TypeError, match="resume: expected True or False"):
        fastifo.train("bc", random_dataset(), resume=value, **SMALL)


def test_a_callback_without_every_is_called_at_each_log() -> None:
    calls: list[int] = []
    train("bc", random_dataset(), 25, log_every=10, callbacks=[lambda r, u, m: calls.append(u)])
    assert calls == [10, 20, 25]


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        (lambda run, update, members: None, TypeError, "callbacks: expected a list of callables"),
        ([3], TypeError, "callbacks: expected callables, found 3"),
        (["x"], TypeError, "callbacks: expected callables, found 'x'"),
    ],
)
def test_something_else_than_callbacks_is_named(
    callbacks: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train("bc", random_dataset(), 2, callbacks=callbacks)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_callback_with_a_wrong_every_is_named(every: Any) -> None:
    def callback(run: Any, update: int, members: Any) -> None:
        pass

    callback.every = every  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="callbacks: every: expected an integer of at least 1"):
        train("bc", random_dataset(), 2, callbacks=[callback])


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", ">i4", "u1", "?"])
def test_a_policy_acts_on_any_numbers(dtype: str) -> None:
    policy = train("bc", random_dataset(), 2).policy()
    obs = np.array([[1, 0, 1], [0, 0, 1]])
    assert np.array_equal(policy.act(obs.astype(dtype)), policy.act(obs.astype(np.float32)))


@pytest.mark.parametrize(
    "obs",
    [
        torch.zeros(2, 3, device="meta"),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, dtype=torch.complex64),
    ],
)
def test_a_policy_refuses_tensors_without_plain_numbers(obs: torch.Tensor) -> None:
    policy = train("bc", random_dataset(), 2).policy()
    with pytest.raises(TypeError, match="obs: expected a dense tensor of numbers"):
        policy.act(obs)
