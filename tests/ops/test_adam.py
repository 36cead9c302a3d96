"""`adam`: equal to torch's own, member by member, targets on time, and every refusal."""

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
    """Random state; the members' rates, decays and polyak shares differ."""
    g = torch.Generator().manual_seed(members + len(shapes))

    def state() -> list[Tensor]:
        return [torch.randn(members, *s, generator=g, dtype=torch.float64) for s in shapes]

    second = [tensor.square() for tensor in state()]
    own = torch.arange(1, members + 1, dtype=torch.float64)
    return [
        state(), state(), second, state(), state()[:targets], torch.tensor([update]),
        0.01 * own, decay * own, 1 / own, every, decoupled, *BETAS, EPS,
    ]  # fmt: skip


def assert_equals_reference(given: list[Any], device: torch.device) -> None:
    """In place: what both leave in their arguments. A rate is not a tensor of the dtype."""
    expected = compare.cast(given, torch.float64, compare.CPU)
    OPS["adam"].reference(*expected)
    for dtype in (torch.float32, torch.float64):
        floats = compare.cast(given[:5], dtype, device)
        found = [*floats, *compare.cast(given[5:], torch.float64, device)]
        adam(*found)
        for one, other in zip(compare.flat(found[:5]), compare.flat(expected[:5]), strict=True):
            torch.testing.assert_close(
                one.cpu().double(), other, rtol=compare.RTOL[dtype], atol=compare.ATOL[dtype]
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
    compare.use(isa, monkeypatch)
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
    compare.use(isa, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(1, *shape, generator=generator).double() for shape in SHAPES]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(theirs, lr=1e-2, betas=BETAS, eps=EPS, weight_decay=0.1)
    ours = [tensor.clone() for tensor in start]
    first, second = ([torch.zeros_like(t) for t in ours] for _ in range(2))
    for update in range(20):
        gradient = [torch.randn(t.shape, generator=generator).double() for t in ours]
        for parameter, g in zip(theirs, gradient, strict=True):
            parameter.grad = g.clone()
        optimizer.step()
        settings_ = (torch.tensor([update]), column([1e-2]), column([0.1]), column([1.0]))
        adam(ours, first, second, gradient, [], *settings_, 1, decoupled, *BETAS, EPS)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-13)


def test_a_member_steps_as_it_would_alone(device: torch.device) -> None:
    given = [*compare.cast(arguments(3, SHAPES)[:5], torch.float32, device),
             *compare.cast(arguments(3, SHAPES)[5:], torch.float64, device)]  # fmt: skip
    for member in range(3):

        def own(value: Any, member: int = member) -> Any:
            if isinstance(value, list):
                return [own(entry) for entry in value]
            if isinstance(value, Tensor) and value.dtype != torch.int64:
                return value[member : member + 1].clone()
            return value

        alone = [own(value) for value in given]
        together = [compare.cast(v, torch.float32, device) if isinstance(v, list) else v
                    for v in given]  # fmt: skip
        adam(*alone)
        adam(*together)
        for one, all_members in zip(
            compare.flat(alone[:5]), compare.flat(together[:5]), strict=True
        ):
            assert torch.equal(one[0], all_members[member])


@pytest.mark.parametrize("every", [1, 3])
def test_a_target_is_copied_after_every_nth_update_and_not_between(
    every: int, device: torch.device
) -> None:
    for update in range(7):
        given = arguments(2, SHAPES, targets=3, update=update, every=every)
        given[8] = torch.ones(2, dtype=torch.float64)
        floats = compare.cast(given[:5], torch.float32, device)
        before = [tensor.clone() for tensor in floats[4]]
        adam(*floats, *compare.cast(given[5:], torch.float64, device))
        moves = (update + 1) % every == 0
        for target, old, new in zip(floats[4], before, floats[0][:3], strict=True):
            assert torch.equal(target, new if moves else old)


def test_a_polyak_share_moves_the_target_part_of_the_way() -> None:
    given = arguments(1, [(9,)], targets=1)
    given[8] = column([0.25])
    old = given[4][0].clone()
    adam(*given)
    torch.testing.assert_close(given[4][0], old + 0.25 * (given[0][0] - old))


def test_a_parameter_that_never_had_a_gradient_stays(device: torch.device) -> None:
    zero = torch.zeros(1, 37, device=device)
    w = torch.randn(1, 37).to(device)
    before = w.clone()
    settings_ = [
        compare.cast(t, torch.float64, device)
        for t in (torch.tensor([0]), column([1e-2]), column([0.0]), column([1.0]))
    ]
    adam(*[[w], [zero.clone()], [zero.clone()], [zero], [], *settings_, 1, True, *BETAS, EPS])
    assert torch.equal(w, before)


def test_nan_gradients_reach_their_parameters_only(device: torch.device) -> None:
    given = compare.cast(arguments(2, SHAPES)[:5], torch.float32, device)
    given[3][0][1, 0, 0] = float("nan")
    adam(*given, *compare.cast(arguments(2, SHAPES)[5:], torch.float64, device))
    assert int(given[0][0].isnan().sum()) == 1
    assert bool(given[0][0][1, 0, 0].isnan())


def test_bits_do_not_depend_on_threads() -> None:
    found = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        given = arguments(3, [(700, 501)])
        floats = compare.cast(given[:5], torch.float32, compare.CPU)
        adam(*floats, *given[5:])
        found.append(compare.flat(floats))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_passes_opcheck(device: torch.device) -> None:
    given = arguments(2, SHAPES[:3])
    floats = compare.cast(given[:5], torch.float32, device)
    torch.library.opcheck(
        OPS["adam"].overload, (*floats, *compare.cast(given[5:], torch.float64, device))
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
def test_refuses_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = dict(zip(NAMES, arguments(2, [(3,)], targets=1), strict=True))
    compare.assert_refused("adam", good, bad, error, message)


def test_refuses_another_device(cuda_device: torch.device) -> None:
    given = compare.cast(arguments(2, [(3,)]), torch.float64, cuda_device)
    given[3] = [given[3][0].cpu()]
    with pytest.raises(ValueError, match=r"gradient\[0\]: expected a tensor on cuda:0, found cpu"):
        adam(*given)


def test_replays_for_the_advanced_update(cuda_device: torch.device) -> None:
    given = compare.cast(arguments(2, SHAPES, every=2), torch.float64, cuda_device)
    judged = compare.cast(given, torch.float64, compare.CPU)
    adam(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        given[5].add_(1)
        adam(*given)
    OPS["adam"].reference(*judged)
    for _ in range(3):
        graph.replay()
        judged[5] += 1
        OPS["adam"].reference(*judged)
    for one, other in zip(compare.flat(given[:5]), compare.flat(judged[:5]), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-12)
