"""Help texts. The first paragraph of a command's docstring is its line in a list of commands.

The other paragraphs, with an example, are notes that are printed below the command's help.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

import tyro


def summary(documented: Any) -> str:
    """The first paragraph of the docstring of a command, class or module."""
    return (inspect.getdoc(documented) or "").partition("\n\n")[0]


def notes(command: type) -> str:
    """The docstring of a command without its first paragraph."""
    return (inspect.getdoc(command) or "").partition("\n\n")[2]


def notes_of(arguments: Sequence[str], commands: Mapping[str, Any]) -> str:
    """Notes of every command and subcommand that `arguments` name, in their order."""
    paragraphs = []
    for word in arguments:
        if word in commands:
            command = commands[word]
            paragraphs.append(notes(command))
            commands = getattr(command, "commands", {})
    return "\n\n".join(text for text in paragraphs if text)


def choice_of(commands: Mapping[str, Any]) -> Any:
    """A type for tyro: one subcommand for each entry of `commands`."""
    return Union[  # noqa: UP007
        tuple(
            Annotated[command, tyro.conf.subcommand(name, description=summary(command))]
            for name, command in commands.items()
        )
    ]


def make_group(name: str, doc: str, commands: Mapping[str, Any]) -> type:
    """A command that only runs one of `commands`.  doc: its docstring."""
    action = Annotated[choice_of(commands), tyro.conf.arg(help="What to do.")]  # type: ignore[valid-type]
    namespace = {
        "__doc__": doc,
        "commands": commands,
        "main": lambda group: group.action.main(),
    }
    return dataclasses.make_dataclass(name, [("action", action)], frozen=True, namespace=namespace)
