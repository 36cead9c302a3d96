from typing import Any

has_cuda: bool
isas: tuple[str, ...]  # instruction sets that this machine has, best first; a submodule each
source_digest: str  # of the files of csrc (CMakeLists.txt)

def __getattr__(name: str) -> Any: ...
