"""A progress bar on a terminal; elsewhere a line now and then, so that a log shows progress."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self, TextIO

from eventstore.codec.showing import cleaned

_REDRAW_SECONDS = 0.1
_LOG_SECONDS = 10.0
_BAR = 24


class Progress:
    """Shows how far some work is: ``with Progress("orders", total=100) as progress: progress.advance()``.

    Goes to stderr. On a terminal it leaves nothing behind: what came out of the work is for the caller to say. Safe for
    threads. ``total`` need not be in units of what is counted: give ``advance`` how much of it is done.
    """

    def __init__(
        self, what: str, *, total: int | None = None, unit: str = "events", stream: TextIO | None = None
    ) -> None:
        self._what = cleaned(what)
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._count = 0
        self._done: float = 0
        self._drawn = 0  # columns of what stands on the line
        self._started = time.monotonic()
        self._next = self._started + (0 if self._terminal else _LOG_SECONDS)

    def advance(self, count: int = 1, done: float | None = None) -> None:
        """Count ``count`` more. ``done``: how much of the total that was, where it is counted in something else."""
        with self._lock:
            self._count += count
            self._done += count if done is None else done
            now = time.monotonic()
            if now < self._next:
                return
            if self._terminal:
                self._next = now + _REDRAW_SECONDS
                self._draw(self._text(now, bar=True))
            else:
                self._next = now + _LOG_SECONDS
                print(self._text(now, bar=False), file=self._stream, flush=True)

    def close(self) -> None:
        """Wipe the bar off its line."""
        with self._lock:
            if self._drawn:
                self._draw("")
                self._stream.write("\r")
                self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self, text: str) -> None:
        text = text[: _columns(self._stream) - 1]  # in the last column a terminal would begin another line
        self._stream.write(f"\r{text.ljust(self._drawn)}")
        self._stream.flush()
        self._drawn = len(text)

    def _text(self, now: float, *, bar: bool) -> str:
        elapsed = now - self._started
        parts = [f"{self._count:,} {self._unit}"]
        if elapsed > 0:
            parts.append(f"{self._count / elapsed:,.0f}/s")
        if self._total:
            share = min(self._done / self._total, 1.0)
            full = round(share * _BAR)
            drawn = f"[{'=' * full}{' ' * (_BAR - full)}] " if bar else ""
            parts.insert(0, f"{drawn}{share:4.0%}")
            if share:
                parts.append(f"{_clock(elapsed * (1 - share) / share)} left")
        return f"{self._what}: {'  '.join(parts)}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
