"""The faults, by name, and how each is delivered. One counts only where it is known to have happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import psycopg

from eventstore.errors import StoreUnavailable
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing.campaign.proxy import AFTER, AGAIN, BEFORE, PAUSED, Proxy

TERMINATE = "backend terminated"
KILL_BACKEND = "backend killed"
PAUSE = "backend paused"
RESTART = "immediate restart"
KILL_SERVER = "postmaster killed"
CUT_BEFORE = "cut before the message"
CUT_AFTER = "cut after the message"
CUT_PAUSED = "paused in the append, and cut"
CUT_AGAIN = "cut after the message, and again"
KILL_WRITER = "writer killed"
KILL_READER = "reader killed"
HELD_COMMITTED = "held open, committed"
HELD_ROLLED_BACK = "held open, rolled back"
UNRELATED = "unrelated transaction open"

ON_TURN = {
    TERMINATE: 4,
    PAUSE: 3,
    CUT_BEFORE: 3,
    CUT_AFTER: 3,
    CUT_PAUSED: 3,
    CUT_AGAIN: 3,
    KILL_WRITER: 1,
    KILL_READER: 1,
    KILL_BACKEND: 1,
    RESTART: 1,
    KILL_SERVER: 1,
}
"""How often each is delivered while every other is delivered as often as it says."""
ALL_THE_WHILE = (HELD_COMMITTED, HELD_ROLLED_BACK, UNRELATED)
_CUTS = {CUT_BEFORE: BEFORE, CUT_AFTER: AFTER, CUT_PAUSED: PAUSED, CUT_AGAIN: AGAIN}

_UP_SECONDS = 60
_TARGET_SECONDS = 3
_PAUSES = (0.05, 0.3)
# First those that write, flush or commit just now, then those that do anything.
_TARGET = """
    SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'campaign-%'
    ORDER BY state = 'active' AND (wait_event_type IN ('IO', 'LWLock') OR query = 'COMMIT') DESC, state = 'active' DESC,
        random()
    LIMIT 1
    """


class Faults:
    """Delivers faults, one at a time. ``kill`` ends a worker of a role and starts it again."""

    def __init__(self, server: EmbeddedServer, proxy: Proxy, random: Random, kill: Callable[[str], bool]) -> None:
        self._server = server
        self._proxy = proxy
        self._random = random
        self._admin: psycopg.Connection[Any] | None = None
        self._ways: dict[str, Callable[[], bool]] = {
            TERMINATE: self._terminate,
            PAUSE: self._pause,
            KILL_BACKEND: self._kill_backend,
            RESTART: self._restart,
            KILL_SERVER: self._kill_server,
            KILL_WRITER: lambda: kill("writer"),
            KILL_READER: lambda: kill("reader"),
        }

    def deliver(self, kind: str) -> str:
        """Deliver a fault, and return what it has become; "" if nothing has happened."""
        if kind in _CUTS:
            cut = self._proxy.cut(_CUTS[kind], _TARGET_SECONDS)
            return next((other for other, how in _CUTS.items() if how == cut), "")
        return kind if self._ways[kind]() else ""

    def query(self, statement: str) -> Any:
        """The first value that the server answers, as soon as it is up."""
        deadline = time.monotonic() + _UP_SECONDS
        while True:
            try:
                if self._admin is None:
                    self._admin = psycopg.connect(self._server.dsn, autocommit=True, application_name="driver")
                row = self._admin.execute(statement.encode()).fetchone()
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return row and row[0]

    def close(self) -> None:
        """Let go of the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _target(self) -> int | None:
        deadline = time.monotonic() + _TARGET_SECONDS
        pid: int | None
        while (pid := self.query(_TARGET)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return pid

    def _terminate(self) -> bool:
        pid = self._target()
        return pid is not None and self.query(f"SELECT pg_terminate_backend({pid})") is True

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
        """The server ends all others, and then starts anew by itself."""
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
