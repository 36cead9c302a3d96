from collections.abc import Callable

has_cuda: bool
ops: tuple[str, ...]

def __getattr__(name: str) -> Callable[..., None]: ...
