"""A dataset in words: what its summary says of its parts."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.frames import Frames
from fastifo.utils.text import number_texts


def notes_of(info: Mapping[str, Any], part: str = "") -> list[str]:
    """The notes in a dataset's `info`, and in those of the datasets that it was made from."""
    notes = info.get("notes")
    lines = [f"{part}{k}: {v}" for k, v in notes.items()] if isinstance(notes, Mapping) else []
    for name, prefix in (("expert", "expert, "), ("background", "background, "), ("of", "")):
        inner = info.get(name)
        if isinstance(inner, Mapping):
            lines += notes_of(inner, part + prefix)
    return lines


def bounds_text(low: Tensor | None, high: Tensor | None) -> str:
    """The bounds of the actions, each pair once; empty without bounds."""
    if low is None or high is None:
        return ""
    pairs = list(dict.fromkeys(zip(low.tolist(), high.tolist(), strict=True)))
    text = ", ".join(f"{a:g} to {b:g}" for a, b in pairs[:4])
    return f" from {text}{', ...' if len(pairs) > 4 else ''}"


def cameras_text(images: Mapping[str, Frames]) -> str:
    """Each camera with the size of its frames."""
    sizes = {camera: " x ".join(map(str, frames.size)) for camera, frames in images.items()}
    return ", ".join(f"{camera} {size}" for camera, size in sizes.items())


def episodes_text(episodes: Episodes) -> str:
    """Numbers of episodes and transitions, lengths, ends and returns."""
    length = episodes.lengths.double()
    text = (
        f"{episodes.counts()}, "
        f"length {length.mean():.0f} ({int(length.min())} to {int(length.max())}), "
        f"{int(episodes.terminal.sum())} terminal, {int(episodes.timeout.sum())} timeout"
    )
    returns = episodes.returns()
    if returns is not None:
        spread = returns.std(correction=0)
        mean, deviation = number_texts([float(returns.mean()), float(spread)])
        text += f", return {mean} ± {deviation}"
    return text + ("" if episodes.action is not None else ", no actions")
