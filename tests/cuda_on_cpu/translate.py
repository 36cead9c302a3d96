"""Rewrites the CUDA syntax that a C++ compiler cannot read, for cuda_runtime.h of this folder."""

import re

DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w ]+?)\s+(\w+)\[\];")
SHARED = re.compile(r"__shared__\s+([^;]+);")
LAUNCH = re.compile(r"(\w+(?:<[^;]*?>)?)\s*<<<(.*?)>>>\s*\((.*?)\);", re.DOTALL)
DECLARED = re.compile(r"(\w+)\s*(?:\[.*)?$")  # the name in "double part[N]"


def translate(source: str, name: str) -> str:
    """The source as C++.  name: of the file, for the compiler's messages.

    Raises ValueError if CUDA syntax is left that this does not know.
    """
    source = DYNAMIC.sub(r"\1* const \2 = ::cuda_on_cpu::dynamic_shared<\1>();", source)
    source = SHARED.sub(_declare, source)
    source = LAUNCH.sub(r"::cuda_on_cpu::launch(\2, [&] { \1(\3); });", source)
    for syntax in ("<<<", "__shared__", "__constant__", "__managed__"):
        if syntax in source:
            raise ValueError(f"{name}: {syntax} is used in a way that translate.py does not know")
    return f'#line 1 "{name}"\n{source}'


def _declare(match: re.Match[str]) -> str:
    """A static variable that every block erases."""
    names = [DECLARED.search(part.strip()) for part in match[1].split(",")]
    calls = [
        f"::cuda_on_cpu::declare_shared(&{found[1]}, sizeof({found[1]}));"
        for found in names
        if found
    ]
    return f"static {match[1]}; {' '.join(calls)}"
