"""A proxy between clients and the server that cuts connections on order: before, or after the server got an append.

"Append" is here any message that may end in a commit: one that carries events, or a COMMIT.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eventstore.testing.campaign.appends import MARK

BEFORE, AFTER, PAUSED, AGAIN = "before", "after", "paused", "again"
"""How to cut: the message is dropped; it is delivered; it is delivered and the backend paused meanwhile; it is
delivered, and the client is cut again while it finds out what became of it."""

_COMMIT = (b"COMMIT\0",)
_ANY_APPEND = (MARK.encode(), *_COMMIT)
_ANSWER_SECONDS = 30
_PAUSES = (0.1, 0.5)
_SOON_SECONDS = 2
"""After a first cut, how long the client has to come again."""


class _Order:
    def __init__(self, how: str, words: Sequence[bytes], *, client: bytes = b"", skip: int = 0) -> None:
        self.how = how
        self.words = words
        """One of which a message must have."""
        self.client = client
        """Whose messages; otherwise anybody's."""
        self.skip = skip
        """How many of them go through first."""
        self.done = threading.Event()
        self.delivered = ""

    def meets(self, client: bytes, message: bytes) -> bool:
        """Whether it is for this message."""
        if self.client not in {b"", client} or not any(word in message for word in self.words):
            return False
        self.skip -= 1
        return self.skip < 0


class Proxy:
    """Forwards bytes. Its address stays the same while the server behind it comes and goes.

    ``commits``: the share of orders that wait for a COMMIT, which is rarer than other messages and more delicate.
    """

    def __init__(self, dsn: str, random: Random, commits: float) -> None:
        self._directory = str(conninfo_to_dict(dsn)["host"])
        self.random = random
        self._commits = commits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._order: _Order | None = None
        self.dsn = make_conninfo(
            dsn, host="127.0.0.1", port=self._listener.getsockname()[1], sslmode="disable", gssencmode="disable"
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self, how: str, timeout: float) -> str:
        """Cut the next connection that sends an append.

        Returns how that was: a pause can come too late, when the server has answered. "" if nobody sent one in time.
        """
        words = _COMMIT if self.random.random() < self._commits else _ANY_APPEND
        first = _Order(AFTER if how == AGAIN else how, words)
        delivered = self._carry_out(first, timeout)
        if how == AGAIN and first.client:
            again = _Order(BEFORE, [b""], client=first.client, skip=self.random.randrange(5))
            return AGAIN if self._carry_out(again, _SOON_SECONDS) else AFTER
        return delivered

    def _carry_out(self, order: _Order, timeout: float) -> str:
        with self._lock:
            self._order = order
        if not order.done.wait(timeout):
            with self._lock:
                if self._order is order:
                    self._order = None
                    return ""
            order.done.wait()
        return order.delivered

    def order_for(self, client: bytes, message: bytes) -> _Order | None:
        """The order that a message meets, which is for nobody else then."""
        with self._lock:
            order = self._order
            if order is None or not order.meets(client, message):
                return None
            self._order = None
            return order

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(f"{self._directory}/.s.PGSQL.5432")
                except OSError:
                    client.close()
                    server.close()
                    continue
                session = _Session(self, client, server)
                for direction in (session.forward, session.answer):
                    threading.Thread(target=direction, daemon=True).start()


class _Session:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._name = b""
        """The client's application_name, which is the worker's."""
        self._greeting: bytes | None = b""
        self._pid: int | None = None
        self._mute = False
        self._answered = threading.Event()
        self._halves = threading.Semaphore(1)

    def forward(self) -> None:
        """From the client to the server."""
        with suppress(OSError):
            while message := self._client.recv(65536):
                if not self._name:  # The first message, which says who it is.
                    self._name = message.partition(b"application_name\0")[2].partition(b"\0")[0]
                    order = None
                else:
                    order = self._proxy.order_for(self._name, message)
                if order is None:
                    self._server.sendall(message)
                    continue
                try:
                    self._cut(order, message)
                finally:
                    order.done.set()
                break
        self._end()

    def answer(self) -> None:
        """From the server to the client."""
        with suppress(OSError):
            while message := self._server.recv(65536):
                if self._greeting is not None:
                    self._read_greeting(self._greeting + message)
                if self._mute:
                    break
                self._client.sendall(message)
        self._answered.set()
        self._end()

    def _cut(self, order: _Order, message: bytes) -> None:
        order.client = self._name
        if order.how == BEFORE:
            order.delivered = BEFORE
            return
        self._mute = True
        self._server.sendall(message)
        order.delivered = self._pause() if order.how == PAUSED else AFTER
        if order.delivered == AFTER and self._proxy.random.random() < 0.5:
            self._answered.wait(1)  # Otherwise the client comes again while the server is still at it.
        self._client.shutdown(socket.SHUT_RDWR)
        if order.delivered == PAUSED and self._pid is not None:
            time.sleep(self._proxy.random.uniform(*_PAUSES))
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)
        order.done.set()
        # The server's end stays open until the message is carried out.
        self._answered.wait(_ANSWER_SECONDS)

    def _pause(self) -> str:
        """Stop the backend while it is at it; PAUSED if it was."""
        time.sleep(self._proxy.random.choice((0, 0, 0.0002, 0.0005, 0.001)))
        if self._pid is None or self._answered.is_set():
            return AFTER
        try:
            os.kill(self._pid, signal.SIGSTOP)
        except ProcessLookupError:
            return AFTER
        if self._answered.wait(0.005):
            os.kill(self._pid, signal.SIGCONT)
            return AFTER
        return PAUSED

    def _read_greeting(self, greeting: bytes) -> None:
        """Find the backend's process id in what the server says first: messages of a type, a length, and a body."""
        self._greeting = greeting
        at = 0
        while at + 9 <= len(greeting):
            kind, length = greeting[at : at + 1], struct.unpack_from("!I", greeting, at + 1)[0]
            if kind == b"K":
                self._pid = struct.unpack_from("!I", greeting, at + 5)[0]
            if kind in b"KE":
                self._greeting = None
                return
            at += 1 + length

    def _end(self) -> None:
        """Hang up; the second of the two directions to come here also lets go of the sockets."""
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if not self._halves.acquire(blocking=False):
            self._client.close()
            self._server.close()
