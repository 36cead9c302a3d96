"""Which compiled loss trains a method in the native engine, and what that loss supports."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NativeLoss:
    """Declares the compiled counterpart of a learner's `update`.

    A learner sets it as `native_loss`; its subclasses inherit it unless they write their own
    `update`. A learner without one trains in torch.
    """

    name: str  # of the batch loss, as `_C.metric_names` knows it
    next_from: int = -1  # first row source whose next observations carry a gradient; -1: none
    pairs: tuple[str, ...] = ()  # nets that read an observation and its successor: scalar, policy
    embeds: bool = False  # reads distances in `embedding`, a net of the learner without gradients
    heads: tuple[str, ...] = ("binned", "deterministic")  # policy heads that it trains
    precisions: tuple[str, ...] = ("fp32", "fp32x", "bf16", "fp64")
    unsupported: tuple[str, ...] = ()  # config fields that must be 0 or False
    # Flags of the compiled plan that a string field sets: flag -> (field, value that sets it).
    flags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
