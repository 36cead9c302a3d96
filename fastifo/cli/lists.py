"""Flags that take several values, separated by spaces or commas: --sizes 1 10 and --sizes 1,10."""

from collections.abc import Callable
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec


def _values(words: list[str], kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """The values of a list, from the words that follow its flag."""
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    try:
        return tuple(map(kind, parts))
    except ValueError:
        raise ValueError(
            f"expected numbers such as 1 10 or 1,10, found {' '.join(words)}"
        ) from None


def _seeds(words: list[str]) -> tuple[int, ...]:
    """Seeds; a single number above 0 needs a comma, because it could be a number of seeds."""
    seeds = _values(words, int)
    if len(words) == 1 and len(seeds) == 1 and seeds[0] > 0 and "," not in words[0]:
        (seed,) = seeds
        several = " ".join(map(str, range(seed))) if seed <= 4 else f"0 1 ... {seed - 1}"
        raise ValueError(
            f"{seed} could be a seed or a number of seeds; write --seeds {several} for {seed} "
            f"seed{'s' * (seed > 1)}, or --seeds {seed}, (with a comma) for seed {seed} alone"
        )
    return seeds


def _spec(parse: Callable[[list[str]], tuple[Any, ...]], name: str) -> Any:
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[{name} [{name} ...]]",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda values: list(map(str, values)),
    )


Ints = Annotated[tuple[int, ...], _spec(lambda words: _values(words, int), "INT")]
Floats = Annotated[tuple[float, ...], _spec(lambda words: _values(words, float), "FLOAT")]
Texts = Annotated[tuple[str, ...], _spec(lambda words: _values(words, str), "STR")]
Seeds = Annotated[tuple[int, ...], _spec(_seeds, "INT")]
LISTS: dict[Any, Any] = {int: Ints, float: Floats, str: Texts}  # by the type of an entry
