"""A cache of generated datasets; it affects speed, never results."""

from collections.abc import Callable

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.utils.folders import cache_folder
from fastifo.utils.progress import warn


def cached_dataset(name: str, make: Callable[[], Dataset]) -> Dataset:
    """The cached dataset; if there is none, it is generated and cached if possible.

    Warns if the cache cannot be written.  Raises ValueError for a damaged file.
    """
    name = name.replace("/", "-")  # of the environment's id
    try:
        path = cache_folder() / name
        exists = path.is_file()
    except OSError:  # no home folder, or no permission to look into it
        path, exists = None, False
    if path is not None and exists:
        try:
            return load_dataset(path)
        except ValueError as error:
            raise ValueError(f"{error} (delete this file and try again)") from None
    dataset = make()
    try:
        dataset.save(cache_folder() / name)
    except OSError as error:
        warn(f"the dataset could not be cached: {error.strerror or error}")
    return dataset
