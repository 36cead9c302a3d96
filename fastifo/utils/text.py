"""Text for error messages."""

import difflib
import json
from collections.abc import Iterable
from typing import Any


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion for an unknown name: the closest known name, or a list of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    few = sorted(known)[:20]
    return "known: " + ", ".join(few) + (", ..." if len(known) > len(few) else "")


def parse_value(text: str) -> Any:
    """The value of a setting in a spec or a flag: JSON, or else the text itself."""
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except (json.JSONDecodeError, RecursionError):
        return text
