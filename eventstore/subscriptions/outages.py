"""What an error of the server means to a follower, by its SQLSTATE: whose it is, and whether it passes. No I/O.

A handler's own slowness counts against the event. What the server is in no mood for passes, and is waited for as a lost
connection is. What it will refuse again ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from eventstore.codec.showing import cleaned
from eventstore.core.logs import subscription_log as _log
from eventstore.core.requests import Operation, Request, ask
from eventstore.core.subscription_requests import InRecovery
from eventstore.errors import AppendOutcomeUnknown, StoreRefused, StoreUnavailable

FIRST_DELAY, LAST_DELAY = 0.1, 10.0
"""Seconds before an event, or a store that can't be reached, is retried; twice as many each time."""
OLD_SECONDS = 1.0
"""After so long what is known of the log is asked again: after a failover that lost events it is another log."""
INTERNAL_TRIES = 10
"""Times that an internal error of the server is waited for: Citus means passing trouble by it, others do not."""

_OUT_OF_TIME = {"25P03", "25P04", "57P05", "57014"}
"""idle_in_transaction_session_timeout, transaction_timeout, idle_session_timeout, query_canceled."""
_PASSING_CLASSES = {"08", "40", "53"}
"""Connections, rolled back transactions, resources."""
_READ_ONLY = "25006"
_PASSING = {_READ_ONLY, "55P03", "57P01", "57P02", "57P03"}
"""As well: lock_not_available, and a server that shuts down or starts."""
_LASTING_CLASSES = {"0A", "28", "3D", "3F", "42", "XX"}
"""Not supported, logins, databases, schemas, syntax and privileges; internal errors."""

MAX_ERROR = 2000
"""Characters of an error's text that are kept."""


@dataclass(frozen=True, slots=True)
class Rest(Request[None]):
    """Continue when the subscription is stopped, or so many seconds later."""

    seconds: float


def sqlstate_of(error: BaseException | None) -> str | None:
    """The server's code, of an error or of what it was raised from: an ORM has errors of its own."""
    while error is not None:
        sqlstate = getattr(error, "sqlstate", None)
        if isinstance(sqlstate, str):
            return sqlstate
        error = error.__cause__
    return None


def took_too_long(error: Exception) -> bool:
    """Whether the server has ended a session or a statement because of the time that it took."""
    return sqlstate_of(error) in _OUT_OF_TIME


def passes(error: Exception) -> bool:
    """Whether the server, or another one that a handler uses, would not do now what it may do later."""
    sqlstate = sqlstate_of(error)
    if sqlstate is None:
        return isinstance(error, StoreUnavailable)
    return sqlstate in _PASSING or sqlstate[:2] in _PASSING_CLASSES


def lasts(error: Exception) -> bool:
    """Whether the server will refuse the same again, whatever the event."""
    sqlstate = sqlstate_of(error)
    return sqlstate is not None and sqlstate[:2] in _LASTING_CLASSES


def error_text(error: Exception) -> str:
    """An error as it is kept: text that PostgreSQL takes, and not too much of it."""
    text = f"{type(error).__name__}: {error}"[:MAX_ERROR].replace("\0", "\\0")
    return text.encode(errors="backslashreplace").decode()


class Slowest:
    """The event of a batch whose handling took longest: a session that was ended for its time was ended for that."""

    def __init__(self) -> None:
        self.position = 0
        self._seconds = -1.0

    @contextmanager
    def timed(self, position: int) -> Generator[None, None, None]:
        """Measure one."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            if seconds > self._seconds:
                self.position, self._seconds = position, seconds


class Patience:
    """The waits of one follower for a store that can't be reached, longer and longer until it can."""

    def __init__(self, what: str, name: str) -> None:
        """``what`` is at work on the subscription ``name``."""
        self._what, self._name = f"{what} {cleaned(name)}", name
        self.reset()

    def reset(self) -> None:
        """Note that the store works."""
        self._delay = FIRST_DELAY
        self._internal = 0

    def wait(self, error: StoreUnavailable | AppendOutcomeUnknown) -> Operation[None]:
        """Wait. Raises StoreRefused where that is in vain."""
        sqlstate = sqlstate_of(error) or ""
        if sqlstate.startswith("XX"):
            self._internal += 1
        if self._internal >= INTERNAL_TRIES:
            raise StoreRefused(f"{error} (tried {INTERNAL_TRIES} times)", sqlstate=sqlstate) from error
        if sqlstate == _READ_ONLY and (yield from self._in_recovery()):
            raise StoreRefused(
                f"{error}: the server is a standby, and a subscription has to write its checkpoint. Let the DSN lead "
                "to the primary, for example with target_session_attrs=read-write",
                sqlstate=sqlstate,
            ) from error
        _log.warning(
            "%s: %s; it resumes in %.1f s",
            self._what,
            cleaned(str(error)),
            self._delay,
            extra={"subscription": self._name, "sqlstate": sqlstate, "delay": self._delay},
        )
        yield from ask(Rest(self._delay))
        self._delay = min(self._delay * 2, LAST_DELAY)

    def _in_recovery(self) -> Operation[bool]:
        try:
            return (yield from ask(InRecovery()))
        except StoreUnavailable:
            return False
