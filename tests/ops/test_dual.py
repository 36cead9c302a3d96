"""`smodice` and `dilo`: conjugates by hand, the references at every shape, and every refusal."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, dilo, smodice
from ops import compare


def numbers(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def smodice_arguments(
    members: int = 2, rows: int = 9, starts: int = 4, divergence: str = "kl",
    absorbing: bool = False, normalizes: bool = True,
) -> list[Any]:  # fmt: skip
    """Random values; a fifth of the rows are terminal."""
    terminal = (numbers(4, members, rows) > 0.8).double()
    gamma, cap = 0.5 + 0.4 * numbers(5, members, 1).sigmoid(), 1 + numbers(6, members, 1).exp()
    return [
        numbers(0, members, rows), numbers(1, members, rows), numbers(2, members, starts),
        numbers(3, members, rows), terminal, gamma, cap, divergence, absorbing, normalizes,
    ]  # fmt: skip


def dilo_arguments(members: int = 2, rows: int = 9, expert_rows: int = 4) -> list[Any]:
    """Random values; a fifth of the rows are terminal."""
    columns = [numbers(10 + k, members, 1).sigmoid() for k in range(4)]
    return [
        2 * numbers(0, members, rows), 2 * numbers(1, members, rows),
        (numbers(4, members, rows) > 0.8).double(), *columns, 1 + numbers(6, members, 1).exp(),
        expert_rows,
    ]  # fmt: skip


@pytest.mark.parametrize("members", [0, 1, 7])
@pytest.mark.parametrize(("rows", "starts"), [(1, 1), (33, 5), (256, 256), (20_000, 3)])
@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_smodice_equals_the_reference(
    members: int, rows: int, starts: int, divergence: str, device: torch.device
) -> None:
    given = smodice_arguments(members, rows, starts, divergence)
    compare.assert_equals_reference("smodice", given, device, scale=10)


@pytest.mark.parametrize("members", [0, 1, 7])
@pytest.mark.parametrize(("rows", "expert"), [(2, 1), (33, 5), (512, 256), (20_000, 19_999)])
def test_dilo_equals_the_reference(
    members: int, rows: int, expert: int, device: torch.device
) -> None:
    compare.assert_equals_reference("dilo", dilo_arguments(members, rows, expert), device, scale=10)


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("divergence", ["kl", "chi2"])
@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("normalizes", [False, True])
def test_every_instruction_set_and_variant_equals_the_references(
    isa: str, divergence: str, absorbing: bool, normalizes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use(isa, monkeypatch)
    given = smodice_arguments(3, 37, 5, divergence, absorbing, normalizes)
    compare.assert_equals_reference("smodice", given, compare.CPU, scale=10)
    compare.assert_equals_reference("dilo", dilo_arguments(3, 37, 11), compare.CPU, scale=10)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["kl", "chi2"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equal_the_references_for_any_shape(
    members: int, rows: int, other: int, divergence: str
) -> None:
    given = smodice_arguments(members, rows, other, divergence)
    compare.assert_equals_reference("smodice", given, compare.CPU, scale=10)
    given = dilo_arguments(members, rows + other, rows)
    compare.assert_equals_reference("dilo", given, compare.CPU, scale=10)


@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_smodices_gradients_pass_finite_differences(divergence: str) -> None:
    *leaves, reward, terminal, gamma, cap, _, _, _ = smodice_arguments()
    rest = (reward, terminal, gamma, cap, divergence, True, True)
    compare.assert_gradients_are_right("smodice", leaves, *rest)


def test_dilos_gradients_pass_finite_differences() -> None:
    v, next_v, *rest = dilo_arguments()
    compare.assert_gradients_are_right("dilo", [v, next_v], *rest)


def of_delta(delta: list[float], divergence: str, cap: float = math.inf) -> tuple[Tensor, ...]:
    """SMODICE at gamma 0 and v 0, where delta is the reward; plain weights."""
    reward = torch.tensor([delta], dtype=torch.float64)
    zero, gamma = torch.zeros_like(reward), torch.zeros(1, 1).double()
    cap_column = torch.full_like(gamma, cap)
    outputs: tuple[Tensor, ...] = smodice(
        zero, zero, zero[:, :1], reward, zero, gamma, cap_column, divergence, False, False
    )
    return outputs


def test_chi2_weighs_by_one_plus_delta_and_never_below_zero() -> None:
    loss, *_, weight, statistics = of_delta([-2.0, -1.0, 0.0, 1.0], "chi2")
    assert float(loss) == pytest.approx((0 - 0.5 + 0 + 1.5) / 4)
    assert weight[0].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert statistics[0].tolist() == pytest.approx([-0.5, math.sqrt(1.25), 0.75, 0.0])


def test_kl_weighs_exponentially_up_to_the_cap() -> None:
    loss, *_, weight, statistics = of_delta([0.0, 1.0, 3.0], "kl", cap=5.0)
    assert float(loss) == pytest.approx(math.log((1 + math.e + math.exp(3)) / 3))
    assert weight[0].tolist() == pytest.approx([1.0, math.e, 5.0])
    assert float(statistics[0, 3]) == pytest.approx(1 / 3)


def test_kl_is_free_of_a_constant_in_v_without_terminals() -> None:
    given = smodice_arguments()
    given[4] = torch.zeros_like(given[4])
    moved = [given[0] + 3, given[1] + 3, given[2] + 3, *given[3:]]
    torch.testing.assert_close(smodice(*given)[0], smodice(*moved)[0])


def test_kl_pulls_next_v_by_gamma_times_the_softmax() -> None:
    given = smodice_arguments()
    given[4] = torch.zeros_like(given[4])
    v, next_v, _, reward, _, gamma = given[:6]
    expected = gamma * (reward + gamma * next_v - v).softmax(1)
    torch.testing.assert_close(smodice(*given)[2], expected)


def test_kl_of_huge_errors_is_finite(device: torch.device) -> None:
    given = compare.cast(smodice_arguments(), torch.float32, device)
    given[3] = given[3] * 1e4
    assert all(bool(tensor.isfinite().all()) for tensor in smodice(*given))


@pytest.mark.parametrize(
    ("y", "conjugate"), [(-3, -1), (-2, -1), (-1, -0.75), (0, 0), (1, 1.25), (2, 3)]
)
def test_dilos_conjugate_is_rectified_below_minus_two(y: float, conjugate: float) -> None:
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    v = torch.tensor([[-float(y), 0.0]], dtype=torch.float64)
    nothing = torch.zeros_like(v)
    loss, slope, *_ = dilo(v, nothing, nothing, one, one, one, zero, one, 1)  # only the expert's
    assert float(loss) == pytest.approx(conjugate)
    assert float(slope[0, 0]) == pytest.approx(-max(y / 2 + 1, 0))


def test_dilo_weighs_all_rows_alike_at_inverse_temperature_zero() -> None:
    given = dilo_arguments()
    given[6] = torch.zeros_like(given[6])
    assert torch.equal(dilo(*given)[3], torch.ones(2, 5).double())


def test_nan_reaches_the_losses(device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        given = compare.cast(make(), torch.float32, device)
        given[0][1, -1] = math.nan
        loss, slope, *_ = OPS[name].call(*given)
        assert loss.isnan().tolist() == [False, True]
        assert bool(slope[1, -1].isnan())


def test_bits_depend_on_neither_threads_nor_place() -> None:
    for divergence in ("kl", "chi2"):
        given = smodice_arguments(7, 20_000, 50, divergence)
        compare.assert_member_and_thread_free(
            "smodice", compare.cast(given, torch.float32, compare.CPU), 7
        )
    given = compare.cast(dilo_arguments(7, 20_000, 9_000), torch.float32, compare.CPU)
    compare.assert_member_and_thread_free("dilo", given, 7)


def test_pass_opcheck(device: torch.device) -> None:
    for divergence in ("kl", "chi2"):
        given = compare.cast(smodice_arguments(divergence=divergence), torch.float32, device)
        torch.library.opcheck(OPS["smodice"].overload, given)
    given = compare.cast(dilo_arguments(), torch.float32, device)
    torch.library.opcheck(OPS["dilo"].overload, given)


SMODICE = dict(
    zip(
        ("v", "next_v", "initial_v", "reward", "terminal", "gamma", "max_weight", "divergence",
         "absorbing", "normalizes"),
        compare.cast(smodice_arguments(), torch.float32, compare.CPU), strict=True,
    )
)  # fmt: skip
DILO = dict(
    zip(
        ("v", "next_v", "terminal", "gamma", "beta", "residual_share", "inverse_temperature",
         "max_weight", "expert_rows"),
        compare.cast(dilo_arguments(), torch.float32, compare.CPU), strict=True,
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "bad", "error", "message"),
    [
        ("smodice", {"v": torch.zeros(2, 9).half()}, TypeError, "v: expected torch.float32 or"),
        ("smodice", {"v": torch.zeros(9)}, ValueError, r"v: expected shape \[any, any\]"),
        ("smodice", {"next_v": torch.zeros(2, 8)}, ValueError, r"next_v: expected shape \[2, 9\]"),
        ("smodice", {"next_v": torch.zeros(9, 2).T}, ValueError, "next_v: expected a contiguous"),
        ("smodice", {"reward": torch.zeros(2, 9).int()}, TypeError, "reward: expected torch.float"),
        ("smodice", {"terminal": torch.zeros(2, 1)}, ValueError, "terminal: expected shape"),
        ("smodice", {"initial_v": torch.zeros(3, 4)}, ValueError, "initial_v: expected shape"),
        ("smodice", {"initial_v": torch.zeros(2, 0)}, ValueError, "at least one row and one start"),
        ("smodice", {"gamma": torch.zeros(2)}, ValueError, r"gamma: expected shape \[2, 1\]"),
        ("smodice", {"max_weight": torch.zeros(2)}, ValueError, "max_weight: expected shape"),
        ("smodice", {"divergence": "js"}, ValueError, "divergence: expected one of kl, chi2"),
        ("dilo", {"v": torch.zeros(2, 9).half()}, TypeError, "v: expected torch.float32 or"),
        ("dilo", {"next_v": torch.zeros(9)}, ValueError, r"next_v: expected shape \[2, 9\]"),
        ("dilo", {"terminal": torch.zeros(9, 2).T}, ValueError, "terminal: expected a contiguous"),
        ("dilo", {"beta": torch.zeros(1, 1)}, ValueError, r"beta: expected shape \[2, 1\]"),
        ("dilo", {"residual_share": torch.zeros(2)}, ValueError, "residual_share: expected shape"),
        ("dilo", {"expert_rows": 9}, ValueError, "expert_rows: expected at least 1 and fewer"),
        ("dilo", {"expert_rows": 0}, ValueError, "expert_rows: expected at least 1 and fewer"),
    ],
)
def test_refuse_and_say_what_was_expected(
    name: str, bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = SMODICE if name == "smodice" else DILO
    compare.assert_refused(name, good, bad, error, message)


def test_refuse_another_device(cuda_device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        given = compare.cast(make(), torch.float32, cuda_device)
        with pytest.raises(ValueError, match="next_v: expected a tensor on cuda:0, found cpu"):
            OPS[name].call(given[0], given[1].cpu(), *given[2:])


def test_stream_and_replay(cuda_device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        first = compare.cast(make(), torch.float32, cuda_device)
        compare.assert_streams_and_replays(name, first, [first[0] + 1, *first[1:]])
