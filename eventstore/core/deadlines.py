"""How long a call may take: one budget for its attempts, its waits for connections and its statements together."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from weakref import ref

from eventstore.errors import InvalidArgument

DEFAULT_TIMEOUT = 60.0
"""Seconds that a call may take: more than a failover does."""


class Deadline:
    """When a call has to end, by the monotonic clock. ``timeout`` is its budget in seconds, None if there is none."""

    __slots__ = ("__weakref__", "_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = math.inf if timeout is None else time.monotonic() + timeout

    def left(self) -> float:
        """The seconds that are left, at least 0; without a deadline, infinitely many."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._end


NO_DEADLINE = Deadline(None)
_CURRENT: ContextVar[ref[Deadline] | None] = ContextVar("eventstore_deadline", default=None)
"""A weak reference: an interrupt can keep a block from being left, and nobody would reset what it had set. The deadline
of such a block is gone with the block, whatever became of it."""


def current() -> Deadline | None:
    """The deadline of the call that this thread or task is in; None outside of any."""
    found = _CURRENT.get()
    return None if found is None else found()


class within:  # noqa: N801 reads as what it does
    """Give what the block does this many seconds, or what is left to the call that it is a part of."""

    __slots__ = ("_deadline", "_timeout", "_token")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline: Deadline | None = None
        self._token: Token[ref[Deadline] | None] | None = None

    def __enter__(self) -> None:
        if current() is None:
            self._deadline = Deadline(self._timeout)
            self._token = _CURRENT.set(ref(self._deadline))

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)


@contextmanager
def afterwards(seconds: float) -> Generator[None, None, None]:
    """Give what the block does so many seconds of its own, after the call's deadline has passed."""
    deadline = Deadline(seconds)
    token = _CURRENT.set(ref(deadline))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def checked_timeout(timeout: object, name: str = "timeout") -> float | None:
    """Return a number of seconds above 0, or None; raise InvalidArgument for anything else."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise InvalidArgument(f"{name} must be a number of seconds above 0, or None for no bound, not {timeout!r}")
    return float(timeout)
