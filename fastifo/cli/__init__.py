"""The command line."""

from fastifo.cli.main import main

__all__ = ["main"]
