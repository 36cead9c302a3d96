"""A member's result in the native engine depends on the member only, bit for bit."""

import copy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.runs import NATIVE, assert_equal_bits, engine_of, state, train, train_natively
from fastifo import _C
from fastifo.algos.learner import tensors
from helpers import random_dataset

BF16_KERNELS = getattr(_C, _C.isas[0]).bf16_kernels()


@pytest.fixture
def keeps_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_independent(name: str, populations: list[tuple[int, int]], **fields: Any) -> None:
    """Asserts that seed 5 has the same bits alone on one thread and within each population.

    populations: number of threads and of members.
    """
    torch.set_num_threads(1)
    alone = state(train(name, random_dataset(), 30, seeds=[5], **fields))
    for threads, members in populations:
        torch.set_num_threads(threads)
        seeds = [5 if i == members // 2 else 100 + i for i in range(members)]
        together = state(train(name, random_dataset(), 30, seeds=seeds, **fields))
        for key, value in alone.items():
            if ".encoder" not in key:
                assert torch.equal(together[key][members // 2], value[0]), (threads, members, key)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.usefixtures("keeps_threads")
@pytest.mark.thread_sanitizer
@pytest.mark.no_address_sanitizer
@pytest.mark.slow
def test_a_member_does_not_depend_on_its_population_its_index_or_the_threads(
    name: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.ISA", isa)
    populations = [(2, 1), (1, 8), (3, 8), (2, 64), (5, 2)]
    assert_independent(name, populations, batch_size=40, hidden_sizes=(24, 24))


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
@pytest.mark.parametrize("kernel", BF16_KERNELS)
@pytest.mark.usefixtures("keeps_threads")
@pytest.mark.thread_sanitizer
def test_a_member_does_not_depend_on_its_population_in_low_precision(
    precision: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.engine.native_engine.BF16_KERNEL", kernel)
    fields: dict[str, Any] = {"engine": "native", "precision": precision}
    shapes = {"target_period": 9, "batch_size": 72, "hidden_sizes": (40, 70)}
    assert_independent("vfo_bin", [(2, 1), (5, 1), (1, 3), (3, 5)], **fields | shapes)
    # A single net: all threads share it, and most of them find no block of rows left.
    assert_independent("bc", [(2, 1), (6, 1)], batch_size=8, **fields)


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
@pytest.mark.parametrize(
    ("name", "members"),
    [("vfo_bin", 64), ("dilo", 8), ("vfo_disc", 8), ("sqil", 8), ("pw_dice", 8)],
)
@pytest.mark.usefixtures("keeps_threads")
def test_a_member_of_another_method_does_not_depend_on_its_population_in_low_precision(
    name: str, members: int, precision: str
) -> None:
    assert_independent(
        name, [(2, members)], engine="native", precision=precision, batch_size=24,
        hidden_sizes=(24, 24),
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32x", "bf16"])
@pytest.mark.usefixtures("keeps_threads")
def test_packed_weights_are_rebuilt_when_a_run_resumes(precision: str, tmp_path: Path) -> None:
    for name, seeds in (("vfo_bin", [0]), ("dilo", [0, 1, 2]), ("pw_dice", [0, 1])):
        fields: dict[str, Any] = {"precision": precision, "engine": "native", "seeds": seeds}
        fields |= {"target_period": 7} if name == "vfo_bin" else {}
        torch.set_num_threads(1)
        uninterrupted = train(name, random_dataset(), 40, **fields)
        train(name, random_dataset(), 17, out=tmp_path / name, **fields)
        torch.set_num_threads(2)
        again = train(name, random_dataset(), 40, out=tmp_path / name, **fields)
        assert_equal_bits(again, uninterrupted)


@pytest.mark.parametrize("precision", ["fp32", "fp32x", "bf16"])
@pytest.mark.thread_sanitizer
def test_the_length_of_a_call_does_not_change_the_result(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    fields: dict[str, Any] = {"precision": precision, "engine": "native", "log_every": 25}
    for seconds in (0.0, 1e-3, 1e3):  # one update; a few; all until the next log
        monkeypatch.setattr("fastifo.engine.native_engine.CALL_S", seconds)
        runs.append(train("vfo_bin", random_dataset(), 60, seeds=[1, 2, 3], **fields))
    assert_equal_bits(runs[0], runs[1])
    assert_equal_bits(runs[0], runs[2])


@pytest.mark.no_address_sanitizer
@pytest.mark.slow
def test_a_signal_in_compiled_code_leaves_a_checkpoint(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import fastifo
from helpers import random_dataset
fastifo.train("vfo_bin", random_dataset(), num_updates=10**8, hidden_sizes=(256, 256),
              seeds=[0, 1], log_every=20, out={str(tmp_path / "run")!r})
"""
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 120
            before = metrics_bytes(tmp_path)
            while metrics_bytes(tmp_path) == before and time.monotonic() < deadline:
                time.sleep(0.1)  # until its first log: then it is training
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        assert b"a checkpoint was written" in stderr
        assert process.returncode != 0
        assert list((tmp_path / "run/checkpoint").glob("0-train-*.safetensors"))


def metrics_bytes(folder: Path) -> int:
    path = folder / "run/metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.thread_sanitizer
def test_threads_that_share_a_member_sum_in_the_same_order(name: str) -> None:
    fields: dict[str, Any] = {"batch_size": 72, "hidden_sizes": (40, 24, 70)}
    run = train(name, random_dataset(), 1, seeds=[3], **fields)
    for learner in run.learners:
        results, last = [], learner.num_updates + 12  # several in one call
        for threads in (1, 2, 3, 6):
            trained = copy.deepcopy(learner)
            engine = train_natively(trained, last, threads)
            results.append(dict(tensors(trained)) | {"metrics": engine.totals})
        for result in results[1:]:
            for key, value in results[0].items():
                assert torch.equal(result[key], value), key


@pytest.mark.parametrize("name", NATIVE)
def test_a_member_of_nan_does_not_reach_the_members_that_use_its_memory_next(name: str) -> None:
    learner = train(name, random_dataset(), 1, seeds=[1, 2, 3]).learners[-1]
    sound, last = copy.deepcopy(learner), learner.num_updates + 6
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter[1] = torch.nan
    broken, expected = train_natively(learner, last), train_natively(sound, last)
    assert torch.equal(broken.totals[::2], expected.totals[::2])
    for a, b in zip(learner.parameters(), sound.parameters(), strict=True):
        assert a[1].isnan().any()
        assert torch.equal(a[::2], b[::2])


@pytest.mark.thread_sanitizer
def test_the_parts_of_an_update_are_timed_for_each_member_and_thread() -> None:
    learner = train("vfo_bin", random_dataset(), 1, seeds=[1, 2]).learners[0]
    before = torch.get_num_threads()
    for threads in (1, 4):
        engine = engine_of(learner)
        try:
            torch.set_num_threads(threads)
            engine.advance(1)
        finally:
            torch.set_num_threads(before)
        for member in engine.seconds.tolist():
            spent = [dict(zip(_C.parts, lane, strict=True)) for lane in member]
            assert spent[0]["scalar"] > 0
            assert spent[threads == 4]["policy"] > 0
            assert (spent[1]["policy"] > 0) == (threads == 4)
