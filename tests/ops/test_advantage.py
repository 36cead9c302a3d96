"""`advantage` equals hand-computed targets and weights and its reference; refuses bad arguments."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, advantage
from ops import compare


def arguments(
    members: int = 2,
    rows: int = 12,
    groups: int = 2,
    policy_rows: int = 6,
    *,
    expectile: bool = False,
    policy_next: bool = False,
    absorbing: bool = True,
    policy_absorbing: bool = True,
) -> list[Any]:
    """All arguments of `advantage`, random; a fifth of the rows are terminal, some weights capped.

    policy_next: whether the policy has a next value that differs from the value loss's.
    """
    g = torch.Generator().manual_seed(members + 10 * rows + policy_rows)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def unit(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    return [
        numbers(members, rows), numbers(members, rows),
        numbers(members, policy_rows) if policy_next else None,
        numbers(members, groups), (unit(members, rows) < 0.2).double(), unit(members, groups),
        0.5 + 0.4 * unit(members, 1), 0.3 + unit(members, 1), 1 + 20 * unit(members, 1),
        0.1 + 0.8 * unit(members, 1) if expectile else None,
        absorbing, policy_absorbing, policy_rows,
    ]  # fmt: skip


def single_member(
    v: list[float], next_v: list[float], reward: list[float], terminal: list[float], **changes: Any
) -> tuple[Tensor, ...]:
    """Outputs for one member at gamma 0.9 and temperature 1, where all rows are the policy's."""

    def row(values: list[float]) -> Tensor:
        return torch.tensor([values], dtype=torch.float64)

    fields: dict[str, Any] = {
        "v": row(v), "next_v": row(next_v), "policy_next_v": None, "reward": row(reward),
        "terminal": row(terminal), "share": row([1.0]), "gamma": row([0.9]),
        "temperature": row([1.0]), "max_weight": row([math.inf]), "expectile": None,
        "absorbing": True, "policy_absorbing": True, "policy_rows": len(v),
    }  # fmt: skip
    outputs: tuple[Tensor, ...] = advantage(**(fields | changes))
    return outputs


SHAPES = [(1, 1, 1), (4, 2, 0), (6, 3, 2), (512, 2, 256), (33, 33, 33), (20_000, 2, 5_000)]


@pytest.mark.parametrize("members", [0, 1, 7])
@pytest.mark.parametrize(("rows", "groups", "policy_rows"), SHAPES)
@pytest.mark.parametrize("expectile", [False, True])
def test_equals_the_reference(
    members: int, rows: int, groups: int, policy_rows: int, expectile: bool, device: torch.device
) -> None:
    inputs = arguments(members, rows, groups, policy_rows, expectile=expectile)
    # It sums thousands of float32 numbers of magnitude 10 and more.
    compare.assert_equals_reference("advantage", inputs, device, scale=30)


@pytest.mark.parametrize("isa", _C.isas)
@pytest.mark.parametrize("policy_next", [False, True])
@pytest.mark.parametrize("absorbing", [(True, True), (True, False), (False, False)])
def test_every_instruction_set_and_variant_equals_the_reference(
    isa: str, policy_next: bool, absorbing: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare.use_instruction_set(isa, monkeypatch)
    inputs = arguments(
        3, 42, 6, 21, expectile=True, policy_next=policy_next,
        absorbing=absorbing[0], policy_absorbing=absorbing[1],
    )  # fmt: skip
    compare.assert_equals_reference("advantage", inputs, compare.CPU, scale=30)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 20), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_the_reference_for_any_shape(
    members: int, groups: int, rows_per_group: int, expectile: bool, policy_next: bool
) -> None:
    rows = groups * rows_per_group
    inputs = arguments(
        members, rows, groups, rows // 2, expectile=expectile, policy_next=policy_next
    )
    if rows // 2 > 0:
        compare.assert_equals_reference("advantage", inputs, compare.CPU, scale=30)


@pytest.mark.parametrize("expectile", [False, True])
def test_gradient_passes_finite_differences(expectile: bool) -> None:
    v, *constants = arguments(expectile=expectile)
    compare.assert_gradients_equal_finite_differences("advantage", [v], *constants)


def test_a_terminals_target_is_its_reward_forever_if_absorbing_and_once_otherwise() -> None:
    loss, gradient, weight, _ = single_member([2.0], [50.0], [1.0], [1.0])
    assert float(loss) == pytest.approx((10 - 2) ** 2)
    assert float(gradient) == pytest.approx(-2 * 8)
    assert float(weight) == pytest.approx(math.exp(8))
    loss, *_ = single_member([2.0], [50.0], [1.0], [1.0], absorbing=False, policy_absorbing=False)
    assert float(loss) == pytest.approx(1.0)


@pytest.mark.parametrize("isa", _C.isas)
def test_an_absorbing_terminal_divides_by_one_minus_gamma(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: the product with the reciprocal differs in nearly half of the rows."""
    compare.use_instruction_set(isa, monkeypatch)
    reward = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros_like(reward), torch.ones(1, 1)
    gamma = torch.full((1, 1), 0.97)
    _, gradient, _, _ = advantage(
        v=zero, next_v=zero, policy_next_v=None, reward=reward, terminal=one.expand(1, 1000) + zero,
        share=1000 * one, gamma=gamma, temperature=one, max_weight=one, expectile=None,
        absorbing=True, policy_absorbing=True, policy_rows=0,
    )  # fmt: skip
    assert torch.equal(gradient, -2 * (reward / (1 - gamma)))


def test_the_deviation_of_nearly_equal_advantages_is_precise() -> None:
    noise = 1e-3 * torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
    reward = (1e6 + noise).tolist()
    _, _, _, statistics = single_member([0.0] * 1000, [0.0] * 1000, reward, [0.0] * 1000)
    # The advantages themselves carry a rounding error of 1e-10.
    assert float(statistics[0, 1]) == pytest.approx(float(noise.std(correction=0)), rel=1e-6)


def test_a_timeout_still_bootstraps() -> None:
    loss, *_ = single_member([2.0], [50.0], [1.0], [0.0])
    assert float(loss) == pytest.approx((1 + 45 - 2) ** 2)


def test_policy_and_value_loss_may_treat_terminals_differently() -> None:
    loss, _, weight, _ = single_member([2.0], [5.0], [1.0], [1.0], policy_absorbing=False)
    assert float(loss) == pytest.approx(64.0)
    assert float(weight) == pytest.approx(math.exp(-1))


def test_an_expectile_of_one_half_halves_the_square() -> None:
    values = ([0.5, 2.0], [1.0, 1.0], [0.3, -1.0], [0.0, 0.0])
    half = torch.full((1, 1), 0.5, dtype=torch.float64)
    plain, symmetric = single_member(*values), single_member(*values, expectile=half)
    torch.testing.assert_close(symmetric[0], 0.5 * plain[0])
    torch.testing.assert_close(symmetric[1], 0.5 * plain[1])


def test_iqls_advantage_is_q_minus_v() -> None:
    zero, tau = torch.zeros(1, 1).double(), torch.full((1, 1), 0.7).double()
    q = [3.0, -1.0]
    loss, gradient, weight, _ = single_member(
        [1.0, 1.0], q, q, [0.0, 0.0], gamma=zero, expectile=tau
    )
    assert float(loss) == pytest.approx((0.7 * 4 + 0.3 * 4) / 2)
    assert gradient[0].tolist() == pytest.approx([-0.7 * 2, 0.3 * 2])
    assert weight[0].tolist() == pytest.approx([math.exp(2), math.exp(-2)])


def test_weights_are_capped_and_the_capped_share_is_reported() -> None:
    cap = torch.full((1, 1), 2.0).double()
    *_, weight, statistics = single_member([0.0] * 4, [0.0] * 4, [0.0, 0.5, 1.0, 1000.0], [0.0] * 4,
                                 max_weight=cap)  # fmt: skip
    assert weight[0].tolist() == pytest.approx([1.0, math.exp(0.5), 2.0, 2.0])
    advantages = torch.tensor([0.0, 0.5, 1.0, 1000.0])
    moments = [advantages.mean(), advantages.std(correction=0), weight.mean()]
    assert statistics[0].tolist() == pytest.approx([*map(float, moments), 0.5])


def test_an_infinite_temperature_weights_all_rows_equally() -> None:
    hot = torch.full((1, 1), math.inf).double()
    assert single_member([0.0, 9.0], [0.0, 7.0], [1.0], [0.0, 0.0], temperature=hot)[
        2
    ].tolist() == [[1, 1]]


def test_the_loss_adds_each_groups_mean_times_its_share() -> None:
    share = torch.tensor([[0.25, 0.75]]).double()
    loss, gradient, *_ = single_member(
        [1.0, 3.0, 2.0, 0.0], [0.0] * 4, [0.0], [0.0] * 4, share=share
    )
    assert float(loss) == pytest.approx(0.25 * (1 + 9) / 2 + 0.75 * 4 / 2)
    assert gradient[0].tolist() == pytest.approx([0.25, 0.75, 1.5, 0.0])
    by_row = torch.tensor([[0.125, 0.125, 0.375, 0.375]]).double()
    loss_by_row = single_member([1.0, 3.0, 2.0, 0.0], [0.0] * 4, [0.0] * 4, [0.0] * 4, share=by_row)
    torch.testing.assert_close(loss_by_row[0], loss)


def test_nan_reaches_the_loss_and_the_weight(device: torch.device) -> None:
    inputs = compare.cast(arguments(), torch.float32, device)
    inputs[0][1, -1] = math.nan
    loss, gradient, weight, statistics = advantage(*inputs)
    assert loss.isnan().tolist() == [False, True]
    assert bool(gradient[1, -1].isnan())
    assert bool(weight[1, -1].isnan())
    assert bool(statistics[1, 0].isnan())


def test_bits_depend_on_neither_threads_nor_member_order() -> None:
    inputs = compare.cast(arguments(7, 20_000, 2, 5_000), torch.float32, compare.CPU)
    compare.assert_independent_of_member_order_and_threads("advantage", inputs, 7)


@pytest.mark.parametrize("expectile", [False, True])
def test_passes_opcheck(expectile: bool, device: torch.device) -> None:
    inputs = compare.cast(arguments(expectile=expectile), torch.float32, device)
    torch.library.opcheck(OPS["advantage"].overload, inputs)


GOOD = dict(
    zip(
        ("v", "next_v", "policy_next_v", "reward", "terminal", "share", "gamma", "temperature",
         "max_weight", "expectile", "absorbing", "policy_absorbing", "policy_rows"),
        compare.cast(arguments(policy_next=True, expectile=True), torch.float32, compare.CPU),
        strict=True,
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"v": torch.zeros(2, 12).half()}, TypeError, "v: expected torch.float32 or"),
        ({"v": torch.zeros(12)}, ValueError, r"v: expected shape \[any, any\], found \[12\]"),
        ({"next_v": torch.zeros(2, 11)}, ValueError, r"next_v: expected shape \[2, 12\]"),
        ({"next_v": torch.zeros(2, 12).double()}, TypeError, "next_v: expected torch.float32"),
        ({"next_v": torch.zeros(12, 2).T}, ValueError, "next_v: expected a contiguous tensor"),
        ({"policy_next_v": torch.zeros(2, 5)}, ValueError, r"policy_next_v: expected shape"),
        ({"reward": torch.zeros(2, 5)}, ValueError, "reward: expected a divisor of 12 columns"),
        ({"reward": torch.zeros(2, 0)}, ValueError, "reward: expected a divisor of 12 columns"),
        ({"share": torch.zeros(2, 24)}, ValueError, "share: expected a divisor of 12 columns"),
        ({"terminal": torch.zeros(2, 12).bool()}, TypeError, "terminal: expected torch.float32"),
        ({"gamma": torch.zeros(2)}, ValueError, r"gamma: expected shape \[2, 1\], found \[2\]"),
        ({"temperature": torch.zeros(1, 1)}, ValueError, r"temperature: expected shape \[2, 1\]"),
        ({"max_weight": torch.zeros(2, 2)}, ValueError, r"max_weight: expected shape \[2, 1\]"),
        ({"expectile": torch.zeros(2)}, ValueError, r"expectile: expected shape \[2, 1\]"),
        ({"policy_rows": 13}, ValueError, "policy_rows: expected 0 to 12, found 13"),
        ({"policy_rows": -1}, ValueError, "policy_rows: expected 0 to 12, found -1"),
    ],
)
def test_refuses_a_bad_argument_and_says_what_was_expected(
    bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    compare.assert_refused("advantage", GOOD, bad, error, message)


def test_refuses_tensors_on_different_devices(cuda_device: torch.device) -> None:
    inputs = compare.cast(arguments(), torch.float32, cuda_device)
    with pytest.raises(ValueError, match="next_v: expected a tensor on cuda:0, found cpu"):
        advantage(inputs[0], inputs[1].cpu(), *inputs[2:])


def test_runs_on_side_streams_and_in_replayed_graphs(cuda_device: torch.device) -> None:
    first = compare.cast(arguments(), torch.float32, cuda_device)
    second = [first[0] + 1, *first[1:]]
    compare.assert_streams_and_replays("advantage", first, second)
