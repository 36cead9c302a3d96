"""Silences libraries: simulators that are imported or create environments, exporters."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses warnings, log lines and notices that do not concern the run.

    Libraries print notices on stderr when they are imported, and warn that an environment has a
    newer version. Errors are still raised.
    """
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
