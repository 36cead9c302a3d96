"""`fastifo.load`: a dataset by file or by spec."""

from pathlib import Path

from fastifo.data.dataset import Dataset
from fastifo.data.pack import load_dataset


def load(spec: str | Path, *, progress: bool = True) -> Dataset:
    """The dataset in a file that `Dataset.save` wrote, or the one a spec names.

    spec: a path, or "sibench:<env>/d=<n>[,episodes=<n>][,seed=<n>][,demos=<n>][,n_expert=<n>]
    [,bc_updates=<n>][,expert=<file>]", which is made once and cached.
    Raises FileNotFoundError, or ValueError naming what is wrong with the spec or the file.
    """
    if not isinstance(spec, str | Path):
        found = type(spec).__name__
        raise TypeError(f"dataset: expected a Dataset, a file's path or a spec, found {found}")
    text = str(spec)
    if text.startswith("sibench:"):
        from fastifo.sibench import load_sibench

        return load_sibench(text, progress=progress)
    kind, colon, _ = text.partition(":")
    if colon and kind.isalnum() and not Path(text).exists():
        raise ValueError(f"{text!r}: unknown kind of dataset {kind!r}; known: sibench, or a file")
    return load_dataset(Path(text))
