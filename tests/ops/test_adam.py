"""`adam` equals torch.optim.Adam per member, updates targets on time, refuses bad arguments."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, adam
from ops import compare

BETAS, EPS = (0.9, 0.999), 1e-8
SHAPES = [(3, 5), (1, 5), (17,), (1, 1), (130, 33)]


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def arguments(
    members: int, shapes: list[tuple[int, ...]], *, targets: int = 2, update: int = 3,
    every: int = 1, decoupled: bool = True, decay: float = 0.1,
) -> list[Any]:  # fmt: skip
    """All arguments of `adam` with random state; rate, decay and polyak differ between members."""
    g = torch.Generator().manual_seed(members + len(shapes))

    def state() -> list[Tensor]:
        return [torch.randn(members, *s, generator=g, dtype=torch.float64) for s in shapes]

    second = [tensor.square() for tensor in state()]
    number = torch.arange(1, members + 1, dtype=torch.float64)  # of the member, from 1
    return [
        state(), state(), second, state(), state()[:targets], torch.tensor([update]),
        0.01 * number, decay * number, 1 / number, every, decoupled, *BETAS, EPS,
    ]  # fmt: skip


def assert_equals_reference(inputs: list[Any], device: torch.device) -> None:
    """Compares the arguments that both modify in place; rates stay float64 in either dtype."""
    expected = compare.cast(inputs, torch.float64, compare.CPU)
    OPS["adam"].reference(*expected)
    for dtype in (torch.float32, torch.float64):
        floats = compare.cast(inputs[:5], dtype, device)
        actual = [*floats, *compare.cast(inputs[5:], torch.float64, device)]
        adam(*actual)
        pairs = zip(compare.tensors_of(actual[:5]), compare.tensors_of(expected[:5]), strict=True)
        for result, reference in pairs:
            torch.testing.assert_close(
                result.cpu().double(),
                reference,
                rtol=compare.RTOL[dtype],
                atol=compare.ATOL[dtype],
            )


@pytest.mark.parametrize("members", [0, 1, 7])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("shapes", [[], [(0,)], SHAPES, [(4, 4)] * 30], ids=len)
def test_equals_the_reference(
    members: int, decoupled: bool, shapes: list[tuple[int, ...]], device: torch.device
) -> None:
    assert_equals_reference(arguments(members, shapes, decoupled=decoupled), device)


def test_large_parameters_equal_the_reference_across_threads(device: torch.device) -> None:
    assert_equals_reference(arguments(3, [(700, 701), (1, 701)]), device)


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("decoupled", [False, True])
def test_every_instruction_set_equals_the_reference(
    isa: str, decoupled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    assert_equals_reference(arguments(3, SHAPES, decoupled=decoupled), compare.CPU)


@given(st.integers(1, 3), st.lists(st.integers(0, 70), min_size=1, max_size=4), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_the_reference_for_any_shape(
    members: int, sizes: list[int], decoupled: bool
) -> None:
    shapes: list[tuple[int, ...]] = [(size,) for size in sizes]
    assert_equals_reference(arguments(members, shapes, decoupled=decoupled), compare.CPU)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("isa", _C.isas)
def test_twenty_steps_equal_torch(
    decoupled: bool, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(1, *shape, generator=generator).double() for shape in SHAPES]
    torch_parameters = [tensor.clone().requires_grad_() for tensor in start]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(torch_parameters, lr=1e-2, betas=BETAS, eps=EPS, weight_decay=0.1)
    parameters = [tensor.clone() for tensor in start]
    first, second = ([torch.zeros_like(t) for t in parameters] for _ in range(2))
    for update in range(20):
        gradient = [torch.randn(t.shape, generator=generator).double() for t in parameters]
        for parameter, g in zip(torch_parameters, gradient, strict=True):
            parameter.grad = g.clone()
        optimizer.step()
        counter_and_rates = (torch.tensor([update]), column([1e-2]), column([0.1]), column([1.0]))
        adam(parameters, first, second, gradient, [], *counter_and_rates, 1, decoupled, *BETAS, EPS)
    for actual, expected in zip(parameters, torch_parameters, strict=True):
        torch.testing.assert_close(actual, expected.detach(), rtol=1e-12, atol=1e-13)


def test_a_members_step_does_not_depend_on_the_others(device: torch.device) -> None:
    inputs = [*compare.cast(arguments(3, SHAPES)[:5], torch.float32, device),
             *compare.cast(arguments(3, SHAPES)[5:], torch.float64, device)]  # fmt: skip
    for member in range(3):

        def member_of(value: Any, member: int = member) -> Any:
            if isinstance(value, list):
                return [member_of(entry) for entry in value]
            if isinstance(value, Tensor) and value.dtype != torch.int64:
                return value[member : member + 1].clone()
            return value

        alone = [member_of(value) for value in inputs]
        together = [compare.cast(v, torch.float32, device) if isinstance(v, list) else v
                    for v in inputs]  # fmt: skip
        adam(*alone)
        adam(*together)
        for single, population in zip(
            compare.tensors_of(alone[:5]), compare.tensors_of(together[:5]), strict=True
        ):
            assert torch.equal(single[0], population[member])


@pytest.mark.parametrize("every", [1, 3])
def test_a_target_is_copied_after_every_nth_update_and_not_between(
    every: int, device: torch.device
) -> None:
    for update in range(7):
        inputs = arguments(2, SHAPES, targets=3, update=update, every=every)
        inputs[8] = torch.ones(2, dtype=torch.float64)
        floats = compare.cast(inputs[:5], torch.float32, device)
        before = [tensor.clone() for tensor in floats[4]]
        adam(*floats, *compare.cast(inputs[5:], torch.float64, device))
        moves = (update + 1) % every == 0
        for target, old, new in zip(floats[4], before, floats[0][:3], strict=True):
            assert torch.equal(target, new if moves else old)


def test_a_polyak_share_moves_the_target_part_of_the_way() -> None:
    inputs = arguments(1, [(9,)], targets=1)
    inputs[8] = column([0.25])
    old = inputs[4][0].clone()
    adam(*inputs)
    torch.testing.assert_close(inputs[4][0], old + 0.25 * (inputs[0][0] - old))


def test_a_parameter_without_gradient_and_moments_does_not_change(device: torch.device) -> None:
    zero = torch.zeros(1, 37, device=device)
    w = torch.randn(1, 37).to(device)
    before = w.clone()
    counter_and_rates = [
        compare.cast(t, torch.float64, device)
        for t in (torch.tensor([0]), column([1e-2]), column([0.0]), column([1.0]))
    ]
    adam(
        *[[w], [zero.clone()], [zero.clone()], [zero], [], *counter_and_rates, 1, True, *BETAS, EPS]
    )
    assert torch.equal(w, before)


def test_nan_gradients_reach_their_parameters_only(device: torch.device) -> None:
    inputs = compare.cast(arguments(2, SHAPES)[:5], torch.float32, device)
    inputs[3][0][1, 0, 0] = float("nan")
    adam(*inputs, *compare.cast(arguments(2, SHAPES)[5:], torch.float64, device))
    assert int(inputs[0][0].isnan().sum()) == 1
    assert bool(inputs[0][0][1, 0, 0].isnan())


def test_bits_do_not_depend_on_threads() -> None:
    results = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        inputs = arguments(3, [(700, 501)])
        floats = compare.cast(inputs[:5], torch.float32, compare.CPU)
        adam(*floats, *inputs[5:])
        results.append(compare.tensors_of(floats))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_passes_opcheck(device: torch.device) -> None:
    inputs = arguments(2, SHAPES[:3])
    floats = compare.cast(inputs[:5], torch.float32, device)
    torch.library.opcheck(
        OPS["adam"].overload, (*floats, *compare.cast(inputs[5:], torch.float64, device))
    )


NAMES = ("parameter", "first", "second", "gradient", "target", "update", "rate", "decay", "polyak",
         "every", "decoupled", "beta1", "beta2", "eps")  # fmt: skip
ONE = torch.zeros(2, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"parameter": [ONE.half()]}, TypeError, r"parameter\[0\]: expected torch.float32 or"),
        ({"parameter": [ONE[:1]]}, ValueError, r"parameter\[0\]: expected shape \[2, ...\]"),
        ({"parameter": [ONE.mT.contiguous().mT]}, ValueError, r"parameter\[0\]: expected a contig"),
        ({"first": []}, ValueError, "first: expected 1 tensors, found 0"),
        ({"first": [ONE.float()]}, TypeError, r"first\[0\]: expected torch.float64"),
        ({"second": [ONE[:, :2]]}, ValueError, r"second\[0\]: expected shape \[2, 3\]"),
        ({"gradient": [ONE, ONE]}, ValueError, "gradient: expected 1 tensors, found 2"),
        ({"gradient": [ONE[0]]}, ValueError, r"gradient\[0\]: expected shape \[2, 3\]"),
        ({"target": [ONE, ONE]}, ValueError, "target: expected at most 1 tensors, found 2"),
        ({"target": [ONE.float()]}, TypeError, r"target\[0\]: expected torch.float64"),
        ({"update": torch.zeros(1)}, TypeError, "update: expected torch.int64"),
        ({"rate": torch.zeros(2)}, TypeError, "rate: expected torch.float64"),
        ({"decay": column([0.0])}, ValueError, r"decay: expected shape \[2\], found \[1\]"),
        ({"polyak": column([0.0] * 3)}, ValueError, r"polyak: expected shape \[2\]"),
        ({"every": 0}, ValueError, "every: expected at least 1, found 0"),
    ],
)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = dict(zip(NAMES, arguments(2, [(3,)], targets=1), strict=True))
    compare.assert_refused("adam", good, bad, error, message)


def test_refuses_tensors_on_different_devices(cuda_device: torch.device) -> None:
    inputs = compare.cast(arguments(2, [(3,)]), torch.float64, cuda_device)
    inputs[3] = [inputs[3][0].cpu()]
    with pytest.raises(ValueError, match=r"gradient\[0\]: expected a tensor on cuda:0, found cpu"):
        adam(*inputs)


def test_a_replayed_graph_reads_the_advanced_update_counter(cuda_device: torch.device) -> None:
    inputs = compare.cast(arguments(2, SHAPES, every=2), torch.float64, cuda_device)
    reference_inputs = compare.cast(inputs, torch.float64, compare.CPU)
    adam(*inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        inputs[5].add_(1)
        adam(*inputs)
    OPS["adam"].reference(*reference_inputs)
    for _ in range(3):
        graph.replay()
        reference_inputs[5] += 1
        OPS["adam"].reference(*reference_inputs)
    pairs = zip(
        compare.tensors_of(inputs[:5]), compare.tensors_of(reference_inputs[:5]), strict=True
    )
    for result, reference in pairs:
        torch.testing.assert_close(result.cpu(), reference, rtol=1e-10, atol=1e-12)
