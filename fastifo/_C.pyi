from typing import Any

has_cuda: bool
isas: tuple[str, ...]  # instruction sets that this machine has, best first; a submodule each

def __getattr__(name: str) -> Any: ...
