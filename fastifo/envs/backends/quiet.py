"""Silence while libraries of environments are imported and make environments."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops warnings, log lines and notices, which say nothing about the run at hand.

    Libraries print notices on stderr when they are imported, and warn that an environment has a
    newer version. Errors are raised as ever.
    """
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
