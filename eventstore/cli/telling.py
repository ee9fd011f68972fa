"""What commands say beside their output: one clean line each on stderr, and the log of workers."""

from __future__ import annotations

import logging
import sys
from logging import LogRecord

from eventstore.codec.showing import cleaned
from eventstore.postgres.dsn import without_passwords


def complain(message: object) -> None:
    """Say on stderr what went wrong, on one line."""
    print(f"eventstore: {cleaned(without_passwords(str(message)))}", file=sys.stderr)


class CleanFormatter(logging.Formatter):
    """A line for each record, before its traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 logging's
        return cleaned(super().formatMessage(record))


def log_to_stderr() -> None:
    """Show the library's log on stderr, unless the program has said where it goes."""
    logger = logging.getLogger("eventstore")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(CleanFormatter())
        logger.addHandler(handler)
