"""The library's log. What a handler raised is in it with a traceback, of which no line can pass for a record.

Each record has what its message names as attributes as well, by ``extra``: docs/seeing.md lists them.
"""

from __future__ import annotations

import logging
import traceback

from eventstore.codec.showing import cleaned


def _clean_traceback(record: logging.LogRecord) -> bool:
    """Let formatters find the traceback's text ready: an error's own text may hold line ends and escape sequences."""
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        lines = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n").split("\n")
        record.exc_text = "\n".join(f"    {cleaned(line)}" for line in lines)
    return True


def _logger(name: str) -> logging.Logger:
    log = logging.getLogger(f"eventstore.{name}")
    log.addFilter(_clean_traceback)  # One of a logger above does not see what comes from here.
    return log


store_log = _logger("store")
"""Connections, retries, and how far the log may be read."""
repository_log = _logger("repository")
"""Snapshots and cached aggregates."""
subscription_log = _logger("subscription")
"""Handlers, workers and rebuilds."""
