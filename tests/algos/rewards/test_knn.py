"""Nearest neighbours against brute force in float64, and the choice of the backend."""

import importlib.util
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastifo.algos import ALGORITHMS
from fastifo.algos.rewards import knn
from helpers import small
from oracles.tge import nearest_distances

FAISS = importlib.util.find_spec("faiss") is not None
BOTH = ["torch", pytest.param("faiss", marks=pytest.mark.skipif(not FAISS, reason="needs FAISS"))]


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("sphere", [True, False])
def test_distances_agree_with_brute_force_in_float64(backend: str, sphere: bool) -> None:
    points, queries = torch.randn(300, 32) + 3.0, torch.randn(1000, 32) + 3.0
    queries[:10] = points[:10]
    queries[10:20] = points[10:20] + 1e-4
    if sphere:
        points, queries = (torch.nn.functional.normalize(x, dim=1) for x in (points, queries))
    distances = knn.Neighbours(points, backend).distances(queries, 5)
    expected = nearest_distances(queries.double(), points.double(), 5)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=2e-6)
    assert float(distances[:10, 0].max()) < 1e-6


@pytest.mark.parametrize("backend", BOTH)
def test_distances_to_nearly_equal_points_are_accurate_to_a_thousandth(backend: str) -> None:
    centres = torch.nn.functional.normalize(torch.randn(20, 32), dim=1)
    points = (centres[:, None] + 1e-4 * torch.randn(20, 100, 32)).flatten(0, 1)
    queries = centres + 1e-4 * torch.randn(20, 32)
    distances = knn.Neighbours(points, backend).distances(queries, 5)
    expected = nearest_distances(queries.double(), points.double(), 5)
    torch.testing.assert_close(distances.double(), expected, rtol=0, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), width=st.integers(1, 9), queries=st.integers(0, 20), data=st.data())
def test_distances_agree_for_any_shape(
    rows: int, width: int, queries: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, rows))
    points, asked = torch.randn(rows, width), torch.randn(queries, width)
    for backend in ("torch", *(["faiss"] if FAISS else [])):
        distances = knn.Neighbours(points, backend).distances(asked, count)
        assert distances.shape == (queries, count)
        if queries:
            expected = nearest_distances(asked.double(), points.double(), count)
            torch.testing.assert_close(distances.double(), expected, rtol=1e-4, atol=1e-5)


def test_more_neighbours_than_points_are_refused() -> None:
    search = knn.Neighbours(torch.randn(3, 2), "torch")
    with pytest.raises(ValueError, match=r"neighbours: expected 1 to 3, .* found 4"):
        search.distances(torch.randn(1, 2), 4)


def test_other_widths_and_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"queries: expected \[N, 2\], found \[1, 3\]"):
        knn.Neighbours(torch.randn(3, 2), "torch").distances(torch.randn(1, 3), 1)
    with pytest.raises(ValueError, match=r"points: expected \[M, D\]"):
        knn.Neighbours(torch.randn(0, 2), "torch")


def test_unavailable_backends_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"^neighbour_backend: .* 'fais'; did you mean 'faiss'"):
        knn.choose_backend("fais", cpu)
    with pytest.raises(ValueError, match="neighbour_backend: faiss-gpu expects FAISS for GPUs"):
        knn.choose_backend("faiss-gpu", cpu)
    monkeypatch.setattr(knn, "_faiss", lambda: None)
    assert knn.choose_backend("auto", cpu) == "torch"
    with pytest.raises(
        ValueError, match=r"faiss expects FAISS, found no FAISS; pip install 'fastifo\[faiss\]'"
    ):
        knn.choose_backend("faiss", cpu)


def test_faiss_for_cpus_is_refused_as_faiss_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knn, "_faiss", lambda: SimpleNamespace(IndexFlatL2=object))
    gpu = torch.device("cuda")
    assert knn.choose_backend("auto", gpu) == "faiss"
    with pytest.raises(
        ValueError, match=r"found FAISS for CPUs only; pip install 'fastifo\[faiss-gpu\]'"
    ):
        knn.choose_backend("faiss-gpu", gpu)


def pretend_faiss_for_gpus(monkeypatch: pytest.MonkeyPatch, reason: str = "") -> None:
    """Installs a FAISS whose trial search ends with `reason`."""
    monkeypatch.setattr(knn, "_faiss", lambda: SimpleNamespace(StandardGpuResources=object))
    monkeypatch.setattr(knn, "trial_search", lambda gpu: reason)


def test_auto_uses_faiss_on_a_gpu_where_its_trial_search_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_faiss_for_gpus(monkeypatch)
    assert knn.choose_backend("auto", torch.device("cuda")) == "faiss-gpu"


def test_a_gpu_that_faiss_does_not_run_on_gets_torch_and_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_faiss_for_gpus(monkeypatch, "no kernel image")
    gpu = torch.device("cuda", 1)
    with pytest.warns(UserWarning, match="not run on this GPU, torch is used: no kernel image"):
        assert knn.choose_backend("auto", gpu) == "torch"
    with pytest.raises(ValueError, match="faiss-gpu expects a GPU that FAISS runs on, found no ke"):
        knn.choose_backend("faiss-gpu", gpu)
    assert knn.choose_backend("torch", gpu) == "torch"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "^$"),
        ("import os; os.abort()", "^a trial search that ended with status -6$"),
        ("raise RuntimeError('no image')", "ended with status 1: RuntimeError: no image$"),
        ("import sys; assert sys.argv[1] == '1'", "ended with status 1: AssertionError$"),
        ("import time; time.sleep(60)", "^no result of a trial search within 0.5 s$"),
    ],
)
def test_a_trial_search_says_how_it_ended_and_does_not_end_this_process(
    program: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, "TRIAL", program)
    if "sleep" in program:
        monkeypatch.setattr(knn, "TRIAL_SECONDS", 0.5)
    assert re.search(reason, knn.trial_search.__wrapped__(0))


def test_a_faiss_that_cannot_be_loaded_counts_as_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> Any:
        raise ImportError("libcublas.so.12: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    assert knn.choose_backend("auto", torch.device("cuda")) == "torch"


@pytest.mark.parametrize("name", ["tge", "seabo"])
def test_faiss_gpu_requires_a_run_on_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_faiss_for_gpus(monkeypatch)
    learner_class: Any = ALGORITHMS[name]
    config = learner_class.Config(**small(name), neighbour_backend="faiss-gpu")
    learner_class.check_config(config, torch.device("cuda"))
    expected = "neighbour_backend: faiss-gpu expects FAISS for GPUs and tensors on a GPU, found "
    with pytest.raises(ValueError, match=f"{expected}tensors on the cpu; train on a GPU"):
        learner_class.check_config(config, torch.device("cpu"))
    monkeypatch.setattr(knn, "MAX_CANDIDATES_GPU", knn.SPARE)
    with pytest.raises(ValueError, match="neighbours: expected at most 0, the limit of FAISS"):
        learner_class.check_config(config, torch.device("cuda"))
    for module, found in ((None, "no FAISS"), (SimpleNamespace(), "FAISS for CPUs only")):
        monkeypatch.setattr(knn, "_faiss", lambda module=module: module)
        with pytest.raises(ValueError, match=expected + found):
            learner_class.check_config(config, torch.device("cuda"))


@pytest.mark.skipif(not FAISS, reason="needs FAISS")
def test_the_trial_search_fails_where_there_is_no_gpu() -> None:
    assert "Error" in knn.trial_search.__wrapped__(99)


def test_distances_on_a_gpu_agree_with_brute_force(cuda_device: torch.device) -> None:
    points, queries = torch.randn(300, 32), torch.randn(1000, 32)
    search = knn.Neighbours(points.to(cuda_device))
    distances = search.distances(queries.to(cuda_device), 5).cpu()
    expected = nearest_distances(queries.double(), points.double(), 5)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-5, atol=1e-5)
