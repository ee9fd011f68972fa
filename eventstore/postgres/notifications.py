"""Hints from one process to another, by NOTIFY: after the commits, coalesced, never in an appending transaction.

A NOTIFY makes commits wait for each other, so that one in every append would slow all writers down. Here a process
sends at most one each NOTIFY_SECONDS, whatever it appends. Nothing rests on them: followers look anyway.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from eventstore.core.deadlines import Deadline
from eventstore.core.wakeups import WakeUps
from eventstore.errors import EventStoreError
from eventstore.postgres._forks import Forkable, tell_after_forks
from eventstore.postgres.statements import Statements

NOTIFY_SECONDS = 0.005
"""Between one notification and the next. At 100 appends a second a handler in another process is called 3 ms after the
append then, and after 8 ms with 0.02; four threads that append as fast as they can notice no difference (1.04)."""
IDLE_SECONDS = 5.0
"""After so long without an append the notifying thread ends; the next append starts another."""
CHECK_SECONDS = 30.0
"""After so long without a notification the listening connection is tried."""
RECONNECT_SECONDS = 1.0
LEAST_CONNECT_SECONDS = 2
"""libpq takes a shorter connect_timeout for this one."""

_BY_SCHEMA: dict[str, WakeUps] = {}
"""Of all stores of this process in schemas of one name: a hint too many costs one look."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to get a connection of one's own to where a pool's connections go."""

    conninfo: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, pool: Any) -> Server | None:
        """None if only a coroutine could find out."""
        if iscoroutinefunction(pool.conninfo) or iscoroutinefunction(pool.kwargs):
            return None
        return cls(_told(pool.conninfo) or "", _told(pool.kwargs) or {})

    def connect(self) -> Connection[Any]:
        """Raises psycopg.Error."""
        return psycopg.connect(self.conninfo, **self.options_of_one())

    def options_of_one(self, deadline: Deadline | None = None) -> dict[str, Any]:
        """The options of one connection, which is to be made before a deadline; two seconds are the least."""
        options: dict[str, Any] = {**self.options, "autocommit": True, "row_factory": tuple_row}
        if deadline is not None and deadline.timeout is not None:
            said = options.get("connect_timeout") or conninfo_to_dict(self.conninfo).get("connect_timeout")
            seconds = int(said) if said and str(said).isdecimal() else 0
            left = max(math.ceil(deadline.left()), LEAST_CONNECT_SECONDS)
            options["connect_timeout"] = min(seconds or left, left)
        return options


def _told(value: Any) -> Any:
    """A parameter of a pool: itself, or what a function gives."""
    return value() if callable(value) else value


class Announcements:
    """What a store announces to the subscriptions of this process, and of others, and what it hears from those."""

    def __init__(self, server: Callable[[], Server | None], statements: Statements, *, notify: bool) -> None:
        self.wakeups = _BY_SCHEMA.setdefault(statements.schema, WakeUps())
        self._server = server
        self._statements = statements
        self._notifier = _Notifier(server, statements) if notify else None
        self._lock = threading.Lock()
        self._listeners = 0
        self._listening: _Listening | None = None

    def announce(self) -> None:
        """Returns at once, and raises nothing."""
        self.wakeups.wake()
        if self._notifier:
            self._notifier.announce()

    @contextmanager
    def listening(self) -> Generator[None, None, None]:
        """Hears others as long as the block lasts, or that of another user."""
        with self._lock:
            self._listeners += 1
            server = self._server() if self._listening is None else None
            if server is not None:
                self._listening = _Listening(server, self._statements, self.wakeups)
        try:
            yield
        finally:
            with self._lock:
                self._listeners -= 1
                if not self._listeners and self._listening is not None:
                    self._listening.end()
                    self._listening = None


class _Notifier(Forkable):
    """A thread with a connection of its own, both of which are there only while there is something to say."""

    def __init__(self, server: Callable[[], Server | None], statements: Statements) -> None:
        self._server = server
        self._notification = statements.notification
        self.after_fork()
        tell_after_forks(self)

    def after_fork(self) -> None:
        """The parent's thread is not here, and whatever that held is not held."""
        self._running = False
        self._lock = threading.Lock()
        self._wanted = threading.Event()

    def announce(self) -> None:
        self._wanted.set()
        if self._running:
            return
        with self._lock:
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="eventstore-notifier", daemon=True).start()

    def _run(self) -> None:
        while True:
            with suppress(psycopg.Error, EventStoreError):  # Nobody hears it then: followers look anyway.
                server = self._server()
                if server is None:
                    return
                with server.connect() as connection:
                    self._notify(connection)
            with self._lock:
                self._running = False  # First: who announces something from here on finds no thread, or is seen below.
                if not self._wanted.is_set():
                    return
                self._running = True
            time.sleep(RECONNECT_SECONDS)

    def _notify(self, connection: Connection[Any]) -> None:
        """Until there is nothing more to say for a while."""
        while self._wanted.wait(IDLE_SECONDS):
            self._wanted.clear()
            connection.execute(self._notification)
            time.sleep(NOTIFY_SECONDS)


class _Listening:
    """A thread with a connection of its own."""

    def __init__(self, server: Server, statements: Statements, wakeups: WakeUps) -> None:
        self._server = server
        self._statements = statements
        self._wakeups = wakeups
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="eventstore-listener", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Returns when the connection is closed, unless it is just being opened to a server that does not answer."""
        with self._end:
            self._end.send(b".")
            self._thread.join(RECONNECT_SECONDS)

    def _run(self) -> None:
        with self._ending:
            while True:
                with suppress(psycopg.Error), self._server.connect() as connection:
                    if self._listen(connection):
                        return
                if select.select([self._ending], [], [], RECONNECT_SECONDS)[0]:
                    return

    def _listen(self, connection: Connection[Any]) -> bool:
        """Until the end, which it returns, or until the connection breaks."""
        for (channel,) in connection.execute(self._statements.channel).fetchall():
            connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
        self._wakeups.wake()  # For what was announced before.
        while True:
            readable = select.select([connection.fileno(), self._ending.fileno()], [], [], CHECK_SECONDS)[0]
            if self._ending.fileno() in readable:
                return True
            if not readable:
                connection.execute("SELECT 1")
            elif list(connection.notifies(timeout=0)):
                self._wakeups.wake()
