"""Text for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggestion for an unknown name: the closest known name, or a list of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    few = sorted(known)[:20]
    return "known: " + ", ".join(few) + (", ..." if len(known) > len(few) else "")
