"""The floors of the package: which folder may import from which."""

import ast
from collections.abc import Iterator
from pathlib import Path

# From the top floor to the ground; a module may import from its own floor and from those below.
FLOORS = (
    "cli",
    "report",
    "studies",
    "benchmarks",
    "engine",
    "envs",
    "algos",
    "data",
    "nn",
    "ops",
    "losses",
    "utils",
)
ROOF = ("__init__", "__main__", "callbacks")  # public names; they may import from every floor
GROUND = ("_C",)  # the compiled core; every floor may import it


def modules(package: Path) -> dict[str, Path]:
    """Dotted name, without the package's own, of every source file below `package`."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        names[".".join(parts)] = path
    return names


def imports(path: Path, package: str, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the module's full name"
            base = node.module or ""
            wanted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in wanted:
            if name.partition(".")[0] == package:
                yield _module_of(name.partition(".")[2], known)


def _module_of(name: str, known: dict[str, Path]) -> str:
    """The longest module that `name` starts with; the rest is an attribute."""
    while name and name not in known and name not in GROUND:
        name = name.rpartition(".")[0]
    return name or "__init__"


def floor(module: str) -> int:
    """Height of a module's floor: 0 is the top.  Raises ValueError for an unknown folder."""
    folder = module.partition(".")[0]
    if folder in ROOF:
        return -1
    if folder in GROUND:
        return len(FLOORS)
    if folder not in FLOORS:
        raise ValueError(f"{module}: expected a module in one of {', '.join(FLOORS)}")
    return FLOORS.index(folder)


def upward_imports(package: Path) -> list[str]:
    """Every import from a floor above, as "importing file -> imported file"."""
    known = modules(package)
    upward = []
    for module, path in known.items():
        for target in imports(path, package.name, known):
            if floor(target) < floor(module):
                above = known.get(target, package / target)
                upward.append(f"{path.relative_to(package)} -> {above.relative_to(package)}")
    return upward


def import_cycles(package: Path) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    known = modules(package)
    edges = {
        module: {t for t in imports(path, package.name, known) if t in known and t != module}
        for module, path in known.items()
    }
    reached = {module: _reachable(module, edges) for module in edges}
    cycles = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in edges
        if module in reached[module]
    }
    return [list(cycle) for cycle in sorted(cycles)]


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Modules that `start` imports, directly or through others."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for target in edges[waiting.pop()] - reached:
            reached.add(target)
            waiting.append(target)
    return reached
