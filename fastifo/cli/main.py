"""The entry point: collects the commands, runs one, and reports errors in one line."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, cast

import tyro

from fastifo.cli.data import Data
from fastifo.cli.evaluate import Evaluate
from fastifo.cli.export import Export
from fastifo.cli.help import choice_of, notes_of
from fastifo.cli.improve import Improve
from fastifo.cli.log import Log
from fastifo.cli.names import hints, renamed
from fastifo.cli.quickstart import Quickstart
from fastifo.cli.relabel import Relabel
from fastifo.cli.report import Report
from fastifo.cli.sibench import SIBench
from fastifo.cli.study import Study
from fastifo.cli.sweep import Sweep
from fastifo.cli.train import Train
from fastifo.cli.video import Video
from fastifo.utils.progress import Lenient, say

COMMANDS: dict[str, Any] = {
    "quickstart": Quickstart,
    "train": Train,
    "relabel": Relabel,
    "evaluate": Evaluate,
    "export": Export,
    "data": Data,
    "sibench": SIBench,
    "sweep": Sweep,
    "study": Study,
    "improve": Improve,
    "report": Report,
    "video": Video,
    "log": Log,
}
DESCRIPTION = (
    "Imitation from observation: learn a policy from expert episodes without actions and "
    "background data with actions. Start with: fastifo quickstart. "
    "Help for a command: fastifo COMMAND --help. Version: fastifo --version"
)


def parse(arguments: Sequence[str]) -> Any:
    """The command that `arguments` ask for.  Help ends the process with the command's notes."""
    arguments = renamed(arguments)
    try:
        return tyro.cli(
            choice_of(COMMANDS),
            prog="fastifo",
            description=DESCRIPTION,
            args=arguments,
            config=(
                tyro.conf.CascadeSubcommandArgs,
                tyro.conf.OmitArgPrefixes,
                tyro.conf.OmitSubcommandPrefixes,
            ),
        )
    except SystemExit as error:
        notes = notes_of(arguments, COMMANDS)
        if notes and not error.code and {"-h", "--help"} & {*arguments}:
            print(f"\n{notes}")
        if error.code:
            for line in hints(arguments, COMMANDS):
                say(f"fastifo: {line}")
        raise


@contextlib.contextmanager
def lenient_stdout() -> Iterator[None]:
    """Work goes on where stdout cannot be written; exit status 2, unless its reader has ended."""
    if sys.stdout is None:
        yield
        return
    output = Lenient(sys.stdout)
    try:
        with contextlib.redirect_stdout(cast(TextIO, output)):
            yield
    finally:
        output.flush()
        if output.error is not None:  # the interpreter would try again at its end
            with contextlib.suppress(Exception):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if output.error is not None and not isinstance(output.error, BrokenPipeError):
        say(
            f"fastifo: stdout: could not be written ({output.error}); files were. Free some space, "
            "or send it elsewhere"
        )
        sys.exit(2)


@lenient_stdout()
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command.  User errors end with one line on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without this character shows another
        with contextlib.suppress(Exception):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = sys.argv[1:] if arguments is None else arguments
    if [*arguments] == ["--version"]:
        print(f"fastifo {importlib.import_module('fastifo').__version__}")
        return
    command = parse(arguments)
    try:
        command.main()
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        say("; ".join([f"fastifo: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(2)
    except KeyboardInterrupt as error:
        say(f"fastifo: {str(error) or 'stopped'}; run the same command to continue")
        sys.exit(130)
