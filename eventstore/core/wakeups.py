"""Hints that there may be something to read. Nothing rests on them: they only spare a follower its wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


class WakeUps:
    """Whom to wake when something was committed. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: tuple[Callable[[], object], ...] = ()

    def wake(self) -> None:
        """Call every waker. They must not block, and may be called although there is nothing to read."""
        for waker in self._wakers:
            waker()

    @contextmanager
    def calling(self, waker: Callable[[], object]) -> Generator[None, None, None]:
        """Have it called, as long as the block lasts."""
        with self._lock:
            self._wakers = (*self._wakers, waker)
        try:
            yield
        finally:
            with self._lock:
                kept = list(self._wakers)
                kept.remove(waker)
                self._wakers = tuple(kept)
