"""What commands say beside their output: one clean line each on stderr, and the log of workers."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from logging import LogRecord
from types import FrameType

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


@contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Generator[None, None, None]:
    """A block in which Ctrl-C and SIGTERM call a function instead of ending the program."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
