"""Gathers a batch from flat columns by index and encodes the observations in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from fastifo.ops import registry
from fastifo.ops.registry import expect, expect_float, is_like, kernel_name, op


def gather_reference(
    index: Tensor,
    row: Tensor,
    obs: Tensor,
    scale: Tensor,
    mean: Tensor | None,
    deviation: Tensor | None,
    steps: int,
    columns: list[Tensor],
    member_columns: list[Tensor],
) -> list[Tensor]:
    """`gather` in plain torch. The tests compare the kernels with it."""
    successive = row[index] + torch.arange(steps, device=row.device).view(-1, 1, 1)
    x = obs[successive]  # [steps, P, B, D]
    if mean is not None and deviation is not None:
        x = (x - mean) / deviation
    if scale.numel() > 0:
        x = torch.tanh(x.unsqueeze(-1) * scale).flatten(-2)
    shared = [column[index] for column in columns]
    member = torch.arange(len(index), device=index.device).unsqueeze(1)
    return [x, *shared, *(column[member, index] for column in member_columns)]


def _fake(
    index: Tensor,
    row: Tensor,
    obs: Tensor,
    scale: Tensor,
    mean: Tensor | None,
    deviation: Tensor | None,
    steps: int,
    columns: list[Tensor],
    member_columns: list[Tensor],
) -> list[Tensor]:
    width = obs.shape[1] * max(1, scale.shape[0])
    out = [obs.new_empty((steps, *index.shape, width))]
    out += [obs.new_empty((*index.shape, *column.shape[1:])) for column in columns]
    return out + [obs.new_empty((*index.shape, *column.shape[2:])) for column in member_columns]


def _expect_columns(
    columns: list[Tensor], rows: int, dtype: torch.dtype, device: torch.device
) -> None:
    for index, column in enumerate(columns):
        if column.ndim not in (1, 2):
            raise ValueError(
                f"columns[{index}]: expected shape [N] or [N, A], found {list(column.shape)}."
            )
        expect(f"columns[{index}]", column, dtype, (rows, *column.shape[1:]), device)


def _expect_member_columns(
    columns: list[Tensor], rows: int, dtype: torch.dtype, device: torch.device
) -> int | None:
    """Returns the number of members, which all columns must share; None without columns."""
    members: int | None = None
    for index, column in enumerate(columns):
        if column.ndim not in (2, 3):
            raise ValueError(
                f"member_columns[{index}]: expected shape [P, N] or [P, N, A], found "
                f"{list(column.shape)}."
            )
        shape = (members, rows, *column.shape[2:])
        expect(f"member_columns[{index}]", column, dtype, shape, device)
        members = column.shape[0]
    return members


class Gatherer:
    """`gather` for fixed columns: checks all arguments once and only the index at each call.

    The kernel keeps raw pointers, so the columns must stay where they are; this object holds
    references to them.
    """

    def __init__(
        self,
        row: Tensor,
        obs: Tensor,
        scale: Tensor,
        mean: Tensor | None,
        deviation: Tensor | None,
        steps: int,
        columns: list[Tensor],
        member_columns: list[Tensor],
        *,
        reuses: bool = False,
    ) -> None:
        """Takes the arguments of `gather` and raises the same errors.

        reuses: whether calls with an index of the same shape return the same tensors, overwritten.
        """
        self.reuses = reuses
        self.shape: tuple[int, ...] = ()  # of the index that `out` was allocated for
        self.out: list[Tensor] = []
        self.arguments: tuple[int | list[int], ...] = ()  # the kernel's, after the index
        self.device = obs.device
        expect("row", row, torch.int64, (None,), self.device)  # [N]
        dtype = expect_float("obs", obs, (None, None))  # [M, D]
        expect("scale", scale, dtype, (None,), self.device)  # [S]
        for name, statistic in (("mean", mean), ("deviation", deviation)):
            if statistic is not None:
                expect(name, statistic, dtype, (obs.shape[1],), self.device)
        if (mean is None) != (deviation is None):
            raise ValueError("deviation: expected it together with mean, found only one of them.")
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, found {steps}.")
        _expect_columns(columns, row.shape[0], dtype, self.device)
        self.members = _expect_member_columns(member_columns, row.shape[0], dtype, self.device)
        self.kernel = registry.kernel(kernel_name("gather", obs), self.device)
        self.obs = obs
        self.tensors = (row, obs, scale, mean, deviation, *columns, *member_columns)
        self.sources = [0 if tensor is None else tensor.data_ptr() for tensor in self.tensors[:5]]
        self.width, self.scales, self.steps = obs.shape[1], scale.shape[0], steps
        # For each column: its pointer, the shape of one row, and the elements between members.
        self.columns = [(column.data_ptr(), column.shape[1:], 0) for column in columns]
        self.columns += [
            (c.data_ptr(), c.shape[2:], row.shape[0] * c.shape[2:].numel()) for c in member_columns
        ]

    def __call__(self, index: Tensor) -> list[Tensor]:
        """Gathers the rows of `index`, int64 [P, B]; returns and raises what `gather` does."""
        if not (self.reuses and is_like(index, torch.int64, self.shape, self.device)):
            expect("index", index, torch.int64, (self.members, None), self.device)
            self._allocate(index.shape)
        self.kernel(index.data_ptr(), *self.arguments)
        return self.out

    def _allocate(self, shape: torch.Size) -> None:
        """Allocates the outputs for an index of this shape and collects the kernel's arguments."""
        members, size = shape
        width = self.width * max(1, self.scales)
        out = [self.obs.new_empty((self.steps, members, size, width))]
        plan: list[int] = []  # source, target, elements in a row, elements between members
        for source, tail, stride in self.columns:
            out.append(self.obs.new_empty((members, size, *tail)))
            plan += [source, out[-1].data_ptr(), tail.numel(), stride]
        self.shape, self.out = tuple(shape), out
        self.arguments = (
            *self.sources, out[0].data_ptr(), members, size, self.width, self.scales, self.steps,
            plan,
        )  # fmt: skip


@op(
    "gather(Tensor index, Tensor row, Tensor obs, Tensor scale, Tensor? mean, Tensor? deviation,"
    " int steps, Tensor[] columns, Tensor[] member_columns) -> Tensor[]",
    reference=gather_reference,
    fake=_fake,
)
def gather(
    index: Tensor,
    row: Tensor,
    obs: Tensor,
    scale: Tensor,
    mean: Tensor | None,
    deviation: Tensor | None,
    steps: int,
    columns: list[Tensor],
    member_columns: list[Tensor],
) -> list[Tensor]:
    """Encoded observations of `steps` successive time steps, then the rows of every column.

    index: transitions, int64 [P, B]; an index out of range is undefined behaviour.  row: the
    observation each transition starts from, int64 [N].  obs: [M, D]; `row + steps - 1` must be
    below M.  scale: [S]; an observation x is encoded as tanh(scale * x), feature-major, with width
    D * S, or left unchanged, with width D, if S is 0.  mean, deviation: [D], to standardise the
    observations before that, or None.  columns: [N] or [N, A] each.  member_columns: [P, N] or
    [P, N, A] each.  All floats have one dtype, float32 or float64.
    Returns the observations [steps, P, B, width], then [P, B] or [P, B, A] for each column and each
    member column.
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    gatherer = Gatherer(row, obs, scale, mean, deviation, steps, columns, member_columns)
    return gatherer(index)
