"""The argument parser of all benchmarks: help shows the module's docstring and the defaults."""

from __future__ import annotations

import argparse


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, ""):  # nothing that helps to read
            return action.help
        return super()._get_help_string(action)


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m <module>`.

    module: such as "bench.train".  description: the module's docstring, shown as it is.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=_HelpFormatter
    )
