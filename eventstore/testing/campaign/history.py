"""Histories: files of JSON lines in which every worker says what it is about to do, and what came of it.

The checker knows nothing else of the workers. A line is written by one call to the system, so it outlives the worker.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class History:
    """The file of one run of one worker. Each line has the time, on the clock that all processes share."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def write(self, what: str, **facts: Any) -> float:
        """Add a line, and return its time."""
        now = time.monotonic()
        self._file.write(json.dumps({"what": what, "t": now, **facts}, separators=(",", ":")).encode() + b"\n")
        return now

    def close(self) -> None:
        self._file.close()


def last_position(path: Path, position: int) -> int:
    """How far the reader with this history got, if it began above ``position``."""
    for line in path.read_bytes().splitlines(keepends=True):
        if b'"what":"read"' in line and line.endswith(b"\n"):  # A killed reader's last line may be cut off.
            position = json.loads(line)["events"][-1][0]
    return position
