"""The faults, by name, and how each is delivered. One counts only where it is known to have happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import psycopg

from eventstore.errors import StoreUnavailable
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing.campaign.appends import AHEAD, MARK
from eventstore.testing.campaign.followers import MODEL
from eventstore.testing.proxy import AFTER, BEFORE, PAUSED, STOPPED, Order, Proxy

TERMINATE = "backend terminated"
KILL_BACKEND = "backend killed"
PAUSE = "backend paused"
RESTART = "immediate restart"
KILL_SERVER = "postmaster killed"
CUT_BEFORE = "cut before the message"
CUT_AFTER = "cut after the message"
CUT_PAUSED = "paused in the append, and cut"
CUT_STOPPED = "stopped before the append, and cut"
CUT_AGAIN = "cut after the message, and again"
CUT_READER = "reader cut"
CUT_HELD = "held open, cut"
KILL_WRITER = "writer killed"
KILL_READER = "reader killed"
KILL_FOLLOWER = "follower killed"
INTERRUPT = "writer interrupted"
CANCEL = "statement cancelled"
READ_ONLY = "read-only for a while"
LOCK_MODEL = "read model locked"
HELD_COMMITTED = "held open, committed"
HELD_ROLLED_BACK = "held open, rolled back"
UNRELATED = "unrelated transaction open"

ON_TURN = {
    TERMINATE: 4,
    PAUSE: 3,
    CUT_BEFORE: 3,
    CUT_AFTER: 3,
    CUT_PAUSED: 3,
    CUT_STOPPED: 2,
    CUT_AGAIN: 3,
    CUT_READER: 2,
    CUT_HELD: 1,
    KILL_WRITER: 1,
    KILL_READER: 1,
    KILL_FOLLOWER: 1,
    INTERRUPT: 3,
    CANCEL: 3,
    READ_ONLY: 1,
    LOCK_MODEL: 1,
    KILL_BACKEND: 1,
    RESTART: 1,
    KILL_SERVER: 1,
}
"""How often each is delivered while every other is delivered as often as it says."""
ALL_THE_WHILE = (HELD_COMMITTED, HELD_ROLLED_BACK, UNRELATED)
_CUTS = {CUT_BEFORE: BEFORE, CUT_AFTER: AFTER, CUT_PAUSED: PAUSED, CUT_STOPPED: STOPPED, CUT_AGAIN: AFTER}
_CUT = {BEFORE: CUT_BEFORE, AFTER: CUT_AFTER, PAUSED: CUT_PAUSED, STOPPED: CUT_STOPPED}
_COMMIT = (b"COMMIT\0",)
_ANY_APPEND = (MARK.encode(), *_COMMIT)
"""What may end in a commit: a message that carries events, or a COMMIT."""

_UP_SECONDS = 60
_TARGET_SECONDS = 3
_SOON_SECONDS = 2
"""After a first cut, how long the client has to come again."""
_PAUSES = (0.05, 0.3)
_MOODS = (0.3, 1.0)
_PAUSES_OF_CUT = (0.1, 0.5)
# First those that write, flush or commit just now, then those that do anything.
_TARGET = """
    SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'campaign-%'
    ORDER BY state = 'active' AND (wait_event_type IN ('IO', 'LWLock') OR query = 'COMMIT') DESC, state = 'active' DESC,
        random()
    LIMIT 1
    """
_LEFT_OPEN = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name LIKE 'campaign-writer-%' AND state LIKE 'idle in transaction%'
        AND state_change < clock_timestamp() - interval '3 seconds'
    """
_HOLDING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'campaign-holder' AND state = 'idle in transaction' AND backend_xid IS NOT NULL
    """


class Faults:
    """Delivers faults, one at a time. ``kill`` ends a worker of a role and starts it again; ``interrupt`` a call.

    ``commits``: the share of cuts that wait for a COMMIT, which is rarer than other messages and more delicate.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        proxy: Proxy,
        random: Random,
        *,
        kill: Callable[[str], bool],
        interrupt: Callable[[], bool],
        commits: float,
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._random = random
        self._commits = commits
        self._admin: psycopg.Connection[Any] | None = None
        self._ways: dict[str, Callable[[], bool]] = {
            TERMINATE: self._terminate,
            PAUSE: self._pause,
            KILL_BACKEND: self._kill_backend,
            RESTART: self._restart,
            KILL_SERVER: self._kill_server,
            KILL_WRITER: lambda: kill("writer"),
            KILL_READER: lambda: kill("reader"),
            KILL_FOLLOWER: lambda: kill("follower"),
            INTERRUPT: interrupt,
            CANCEL: self._cancel,
            READ_ONLY: self._read_only,
            LOCK_MODEL: self._lock_model,
            CUT_READER: self._cut_reader,
            CUT_HELD: self._cut_held,
        }

    def deliver(self, kind: str) -> str:
        """Deliver a fault, and return what it has become; "" if nothing has happened."""
        if kind in _CUTS:
            return self._cut(kind)
        return kind if self._ways[kind]() else ""

    def query(self, statement: str) -> Any:
        """The first value that the server answers, as soon as it is up."""
        row = self._execute(statement).fetchone()
        return row and row[0]

    def _execute(self, statement: str) -> psycopg.Cursor[Any]:
        """Have a statement carried out as soon as the server is up and has a connection to spare."""
        deadline = time.monotonic() + _UP_SECONDS
        while True:
            try:
                if self._admin is None:
                    self._admin = psycopg.connect(self._server.dsn, autocommit=True, application_name="driver")
                return self._admin.execute(statement.encode())
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def left_open(self) -> int:
        """How many sessions of writers are idle in a transaction, and have been for longer than a writer is."""
        count: int = self.query(_LEFT_OPEN)
        return count

    def close(self) -> None:
        """Let go of the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _cut(self, kind: str) -> str:
        words: Sequence[bytes] = _COMMIT if self._random.random() < self._commits else _ANY_APPEND
        if kind == CUT_STOPPED:
            words = (AHEAD.encode(),)
        first = Order(
            _CUTS[kind],
            words,
            answered=self._random.random() < 0.5,
            passes=self._random.choice((0.0, 0.0, 0.5, 0.9)),
            pause=(self._random.choice((0, 0, 0.0002, 0.0005, 0.001)), self._random.uniform(*_PAUSES_OF_CUT)),
        )
        cut = self._proxy.cut(first, _TARGET_SECONDS)
        if cut and kind == CUT_AGAIN:
            again = Order(BEFORE, whose=first.client.__eq__, skip=self._random.randrange(5))
            return CUT_AGAIN if self._proxy.cut(again, _SOON_SECONDS) else CUT_AFTER
        return _CUT.get(cut, "")

    def _cut_reader(self) -> bool:
        order = Order(
            self._random.choice((BEFORE, AFTER, AFTER)),
            whose=lambda client: client.startswith(b"campaign-reader-"),
            passes=self._random.random(),
        )
        return bool(self._proxy.cut(order, _TARGET_SECONDS))

    def _cut_held(self) -> bool:
        deadline = time.monotonic() + _TARGET_SECONDS
        while not self.query(_HOLDING):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return self._proxy.hang_up(b"campaign-holder")

    def _target(self) -> int | None:
        deadline = time.monotonic() + _TARGET_SECONDS
        pid: int | None
        while (pid := self.query(_TARGET)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return pid

    def _terminate(self) -> bool:
        pid = self._target()
        return pid is not None and self.query(f"SELECT pg_terminate_backend({pid})") is True

    def _cancel(self) -> bool:
        pid = self._target()
        return pid is not None and self.query(f"SELECT pg_cancel_backend({pid})") is True

    def _read_only(self) -> bool:
        """As while the server is switched over: no transaction that begins may write."""
        self._set_read_only("on")
        try:
            return self._is_read_only() and self._wait(_MOODS)
        finally:
            self._set_read_only("off")

    def _is_read_only(self) -> bool:
        """Whether the server has read its new settings, which sessions do one after the other."""
        deadline = time.monotonic() + _TARGET_SECONDS
        while self.query("SHOW default_transaction_read_only") != "on":
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _set_read_only(self, value: str) -> None:
        self._execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self._execute("SELECT pg_reload_conf()")

    def _lock_model(self) -> bool:
        """Lock the table of the projection, as for a migration: its handler's statements are refused."""
        try:
            self._execute(f"BEGIN; LOCK TABLE {MODEL} IN EXCLUSIVE MODE")
            return self._wait(_MOODS)
        finally:
            self.close()

    def _wait(self, seconds: tuple[float, float]) -> bool:
        time.sleep(self._random.uniform(*seconds))
        return True

    def _signal(self, pid: int | None, number: int) -> bool:
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _pause(self) -> bool:
        pid = self._target()
        try:
            paused = self._signal(pid, signal.SIGSTOP)
            # No queries now: it may hold a lock that they need.
            time.sleep(self._random.uniform(*_PAUSES))
        finally:
            self._signal(pid, signal.SIGCONT)
        return paused

    def _kill_backend(self) -> bool:
        killed = self._signal(self._target(), signal.SIGKILL)
        if killed:
            self._wait_for_end_of_session()
        return killed

    def _wait_for_end_of_session(self) -> None:
        """The server ends all others, and then restarts by itself."""
        deadline = time.monotonic() + _TARGET_SECONDS
        with suppress(psycopg.OperationalError):
            while self._admin is not None and time.monotonic() < deadline:
                self._admin.execute("SELECT pg_sleep(0.01)")
        self.query("SELECT 1")

    def _restart(self) -> bool:
        before = self._server.pid
        self._bring_up()
        return self._server.pid != before

    def _kill_server(self) -> bool:
        killed = self._signal(self._server.pid, signal.SIGKILL)
        self._bring_up()
        return killed

    def _bring_up(self) -> None:
        """Restart; again while backends of a killed server are still leaving."""
        deadline = time.monotonic() + _UP_SECONDS
        while True:
            try:
                self._server.restart("immediate")
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                break
        self.query("SELECT 1")
