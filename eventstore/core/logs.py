"""The library's log. What a handler raised is in it with a traceback, of which no line can pass for a record."""

from __future__ import annotations

import logging
import traceback

from eventstore.codec.showing import cleaned

log = logging.getLogger("eventstore")


def _clean_traceback(record: logging.LogRecord) -> bool:
    """Let formatters find the traceback's text ready: an error's own text may hold line ends and escape sequences."""
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        lines = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n").split("\n")
        record.exc_text = "\n".join(f"    {cleaned(line)}" for line in lines)
    return True


log.addFilter(_clean_traceback)
