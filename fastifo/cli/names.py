"""Renamed flags, and suggestions for unknown ones."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fastifo.algos import DAGGER_HINT, is_dagger
from fastifo.cli.methods import METHODS
from fastifo.utils.text import did_you_mean

# Command -> flags that still work but are not in its help, and what they are called now.
FORMER: dict[str, dict[str, str]] = {
    "quickstart": {
        "--env": "--env-id",
        "--hidden": "--hidden-sizes",
        "--eval-episodes": "--episodes",
    },
    "evaluate": {"--eval-episodes": "--episodes"},
    "sibench": {"--env": "--env-id", "--expert": "--policy"},
    "study": {"--evaluation-episodes": "--eval-episodes"},
}


def renamed(arguments: Sequence[str]) -> list[str]:
    """The arguments with former flags replaced by today's."""
    former = FORMER.get(arguments[0], {}) if arguments else {}
    words: list[str] = []
    repeats = False  # the former --hidden was the width of both layers
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        if flag not in former:
            words += [argument] * (1 + repeats)
            repeats = False
            continue
        words += [former[flag], *([value] if equals else [])]
        repeats = flag == "--hidden" and not equals
        words += [value] * (flag == "--hidden" and bool(equals))
    return words


def hints(arguments: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """A line for an unknown command, or for each unknown flag that has a likely meaning."""
    known: set[str] = set()
    place = 0  # where a command may stand
    for number, word in enumerate(arguments):
        if word in commands:
            command, place = commands[word], number + 1
            known |= _flags(command)
            commands = getattr(command, "commands", {})
        elif number == place and not word.startswith("-") and not {*arguments} & {*commands}:
            if commands and (line := _command_of(word, commands)):
                return [f"{word}: {line}"]
            hint = did_you_mean(word, commands)
            if hint.startswith("did you mean"):  # flags of an unknown command are not known
                return [f"{word}: {hint}".replace("'", "")]
    lines = []
    for word in arguments:
        name = word.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        if word.startswith("--") and name not in {*known, "help"}:
            hint = did_you_mean(name, known)
            if hint.startswith("did you mean"):
                lines.append(f"{word.partition('=')[0]}: {_as_flag(hint)}")
    return lines


def _command_of(word: str, commands: Mapping[str, Any]) -> str:
    """What runs an algorithm that stands where `commands` do not have it; "" for other words."""
    if is_dagger(word):
        return DAGGER_HINT
    names = {_plain(name): name for name in METHODS}
    name = names.get(_plain(word))
    if name is None or name in commands:
        return ""
    return f"is an algorithm; run it with fastifo train {name}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _as_flag(hint: str) -> str:
    _, name, _ = hint.split("'")
    return f"did you mean --{name.replace('_', '-')}?"


def _flags(command: Any) -> set[str]:
    """Names of a command's fields, and of the fields of fields that are dataclasses."""
    names: set[str] = set()
    for field in dataclasses.fields(command):
        kind = getattr(field.type, "__origin__", field.type)
        names |= _flags(kind) if dataclasses.is_dataclass(kind) else {field.name}
    return names
