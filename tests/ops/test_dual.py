"""`smodice` and `dilo` equal hand-computed losses and their references; refuse bad arguments."""

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
    """All arguments of `smodice`, random; a fifth of the rows are terminal."""
    terminal = (numbers(4, members, rows) > 0.8).double()
    gamma, cap = 0.5 + 0.4 * numbers(5, members, 1).sigmoid(), 1 + numbers(6, members, 1).exp()
    temperature = 0.5 + numbers(7, members, 1).exp()
    return [
        numbers(0, members, rows), numbers(1, members, rows), numbers(2, members, starts),
        numbers(3, members, rows), terminal, gamma, temperature, cap, divergence, absorbing,
        normalizes,
    ]  # fmt: skip


def dilo_arguments(members: int = 2, rows: int = 9, expert_rows: int = 4) -> list[Any]:
    """All arguments of `dilo`, random; a fifth of the rows are terminal."""
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
    inputs = smodice_arguments(members, rows, starts, divergence)
    compare.assert_equals_reference("smodice", inputs, device, scale=10)


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
    compare.use_instruction_set(isa, monkeypatch)
    inputs = smodice_arguments(3, 37, 5, divergence, absorbing, normalizes)
    compare.assert_equals_reference("smodice", inputs, compare.CPU, scale=10)
    compare.assert_equals_reference("dilo", dilo_arguments(3, 37, 11), compare.CPU, scale=10)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["kl", "chi2"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equal_the_references_for_any_shape(
    members: int, rows: int, starts: int, divergence: str
) -> None:
    inputs = smodice_arguments(members, rows, starts, divergence)
    compare.assert_equals_reference("smodice", inputs, compare.CPU, scale=10)
    inputs = dilo_arguments(members, rows + starts, rows)
    compare.assert_equals_reference("dilo", inputs, compare.CPU, scale=10)


@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_smodices_gradients_pass_finite_differences(divergence: str) -> None:
    *leaves, reward, terminal, gamma, temperature, cap, _, _, _ = smodice_arguments()
    constants = (reward, terminal, gamma, temperature, cap, divergence, True, True)
    compare.assert_gradients_equal_finite_differences("smodice", leaves, *constants)


def test_dilos_gradients_pass_finite_differences() -> None:
    v, next_v, *constants = dilo_arguments()
    compare.assert_gradients_equal_finite_differences("dilo", [v, next_v], *constants)


def smodice_of_delta(
    delta: list[float], divergence: str, cap: float = math.inf, temperature: float = 1.0
) -> tuple[Tensor, ...]:
    """SMODICE's outputs at gamma 0 and v 0, where delta is the reward; weights not normalized."""
    reward = torch.tensor([delta], dtype=torch.float64)
    zero, gamma = torch.zeros_like(reward), torch.zeros(1, 1).double()
    temperature_column = torch.full_like(gamma, temperature)
    outputs: tuple[Tensor, ...] = smodice(
        zero, zero, zero[:, :1], reward, zero, gamma, temperature_column,
        torch.full_like(gamma, cap), divergence, False, False,
    )  # fmt: skip
    return outputs


def test_chi2_weights_are_one_plus_delta_and_never_negative() -> None:
    loss, *_, weight, statistics = smodice_of_delta([-2.0, -1.0, 0.0, 1.0], "chi2")
    assert float(loss) == pytest.approx((0 - 0.5 + 0 + 1.5) / 4)
    assert weight[0].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert statistics[0].tolist() == pytest.approx([-0.5, math.sqrt(1.25), 0.75, 0.0])


def test_kl_weights_are_exponential_up_to_the_cap() -> None:
    loss, *_, weight, statistics = smodice_of_delta([0.0, 1.0, 3.0], "kl", cap=5.0)
    assert float(loss) == pytest.approx(math.log((1 + math.e + math.exp(3)) / 3))
    assert weight[0].tolist() == pytest.approx([1.0, math.e, 5.0])
    assert float(statistics[0, 3]) == pytest.approx(1 / 3)


def test_the_temperature_divides_delta_in_weights_and_multiplies_the_cost() -> None:
    loss, *_, weight, statistics = smodice_of_delta([0.0, 1.0, 3.0], "kl", temperature=2.0)
    assert float(loss) == pytest.approx(2 * math.log((1 + math.exp(0.5) + math.exp(1.5)) / 3))
    assert weight[0].tolist() == pytest.approx([1.0, math.exp(0.5), math.exp(1.5)])
    assert float(statistics[0, 0]) == pytest.approx(4 / 3)
    loss, *_, weight, _ = smodice_of_delta([-4.0, 1.0], "chi2", temperature=2.0)
    assert float(loss) == pytest.approx((-4 + 16 / 4 + 1 + 1 / 4) / 2)
    assert weight[0].tolist() == [0.0, 1.5]


def test_kl_loss_is_invariant_to_a_constant_in_v_without_terminals() -> None:
    inputs = smodice_arguments()
    inputs[4] = torch.zeros_like(inputs[4])
    moved = [inputs[0] + 3, inputs[1] + 3, inputs[2] + 3, *inputs[3:]]
    torch.testing.assert_close(smodice(*inputs)[0], smodice(*moved)[0])


def test_kl_gradient_in_next_v_is_gamma_times_the_softmax() -> None:
    inputs = smodice_arguments()
    inputs[4] = torch.zeros_like(inputs[4])
    v, next_v, _, reward, _, gamma, temperature = inputs[:7]
    expected = gamma * ((reward + gamma * next_v - v) / temperature).softmax(1)
    torch.testing.assert_close(smodice(*inputs)[2], expected)


def test_kl_of_huge_errors_is_finite(device: torch.device) -> None:
    inputs = compare.cast(smodice_arguments(), torch.float32, device)
    inputs[3] = inputs[3] * 1e4
    assert all(bool(tensor.isfinite().all()) for tensor in smodice(*inputs))


@pytest.mark.parametrize(
    ("y", "conjugate"), [(-3, -1), (-2, -1), (-1, -0.75), (0, 0), (1, 1.25), (2, 3)]
)
def test_dilos_conjugate_is_rectified_below_minus_two(y: float, conjugate: float) -> None:
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    v = torch.tensor([[-float(y), 0.0]], dtype=torch.float64)
    zeros = torch.zeros_like(v)
    # At a residual share and beta of 1 the loss is the expert's conjugate.
    loss, gradient, *_ = dilo(v, zeros, zeros, one, one, one, zero, one, 1)
    assert float(loss) == pytest.approx(conjugate)
    assert float(gradient[0, 0]) == pytest.approx(-max(y / 2 + 1, 0))


def test_dilo_weights_all_rows_equally_at_inverse_temperature_zero() -> None:
    inputs = dilo_arguments()
    inputs[6] = torch.zeros_like(inputs[6])
    assert torch.equal(dilo(*inputs)[3], torch.ones(2, 5).double())


def test_nan_reaches_the_losses(device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        inputs = compare.cast(make(), torch.float32, device)
        inputs[0][1, -1] = math.nan
        loss, gradient, *_ = OPS[name].call(*inputs)
        assert loss.isnan().tolist() == [False, True]
        assert bool(gradient[1, -1].isnan())


def test_bits_depend_on_neither_threads_nor_member_order() -> None:
    for divergence in ("kl", "chi2"):
        inputs = smodice_arguments(7, 20_000, 50, divergence)
        compare.assert_independent_of_member_order_and_threads(
            "smodice", compare.cast(inputs, torch.float32, compare.CPU), 7
        )
    inputs = compare.cast(dilo_arguments(7, 20_000, 9_000), torch.float32, compare.CPU)
    compare.assert_independent_of_member_order_and_threads("dilo", inputs, 7)


def test_pass_opcheck(device: torch.device) -> None:
    for divergence in ("kl", "chi2"):
        inputs = compare.cast(smodice_arguments(divergence=divergence), torch.float32, device)
        torch.library.opcheck(OPS["smodice"].overload, inputs)
    inputs = compare.cast(dilo_arguments(), torch.float32, device)
    torch.library.opcheck(OPS["dilo"].overload, inputs)


SMODICE = dict(
    zip(
        ("v", "next_v", "initial_v", "reward", "terminal", "gamma", "temperature", "max_weight",
         "divergence", "absorbing", "normalizes"),
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
        ("smodice", {"temperature": torch.ones(2)}, ValueError, "temperature: expected shape"),
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
def test_refuse_a_bad_argument_and_say_what_was_expected(
    name: str, bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = SMODICE if name == "smodice" else DILO
    compare.assert_refused(name, good, bad, error, message)


def test_refuse_tensors_on_different_devices(cuda_device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        inputs = compare.cast(make(), torch.float32, cuda_device)
        with pytest.raises(ValueError, match="next_v: expected a tensor on cuda:0, found cpu"):
            OPS[name].call(inputs[0], inputs[1].cpu(), *inputs[2:])


def test_run_on_side_streams_and_in_replayed_graphs(cuda_device: torch.device) -> None:
    for name, make in (("smodice", smodice_arguments), ("dilo", dilo_arguments)):
        first = compare.cast(make(), torch.float32, cuda_device)
        compare.assert_streams_and_replays(name, first, [first[0] + 1, *first[1:]])
