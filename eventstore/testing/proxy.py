"""A proxy between clients and the server that cuts connections on order: before or after the server got a message."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

BEFORE, AFTER, PAUSED, STOPPED = "before", "after", "paused", "stopped"
"""How to cut: the message is dropped; it is delivered; it is delivered and the backend paused meanwhile; it is
delivered to a backend that was paused before."""

_ANSWER_SECONDS = 30


def anybody(_: bytes) -> bool:
    """Every client."""
    return True


def connected_to(dsn: str) -> socket.socket:
    """A socket to the server at ``dsn``, over TCP or a Unix socket. Raises OSError if there is none."""
    target = conninfo_to_dict(dsn)
    host, port = str(target.get("host") or "localhost"), int(str(target.get("port") or 5432))
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        server.close()
        raise
    return server


@dataclass(eq=False)
class Order:
    """Which message is to be cut, and how. ``delivered`` is how it was: a pause may come after the answer."""

    how: str
    words: Sequence[bytes] = (b"",)
    """One of which the message must have."""
    whose: Callable[[bytes], bool] = anybody
    """Which clients, by their application_name."""
    skip: int = 0
    """How many such messages go through first."""
    times: int = 1
    """How many are cut then."""
    answered: bool = True
    """Whether the client is cut when the server has answered; otherwise it comes again while that is still at it."""
    passes: float = 0.0
    """Which share of the beginning of the answer the client gets."""
    pause: tuple[float, float] = (0.0, 0.0)
    """Seconds until the backend is paused, and until it continues after the client was cut."""
    client: bytes = b""
    """Who was cut."""
    delivered: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def meets(self, client: bytes, message: bytes) -> bool:
        """Whether it is for this message."""
        if not self.whose(client) or not any(word in message for word in self.words):
            return False
        self.skip -= 1
        return self.skip < 0


class Proxy:
    """Forwards bytes. Its address, ``dsn``, stays the same while the server behind it comes and goes.

    ``lost`` counts the connections that were cut by orders.
    """

    def __init__(self, dsn: str) -> None:
        self._target = dsn
        # Room for the pools that all reconnect after a crash: who finds none asks again after 1, 2, 4, 8 … seconds.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._lock = threading.Lock()
        self._order: Order | None = None
        self._sessions: set[_Session] = set()
        self.lost = 0
        self._flows = threading.Event()
        self._flows.set()
        self.dsn = make_conninfo(
            dsn, host="127.0.0.1", port=self._listener.getsockname()[1], sslmode="disable", gssencmode="disable"
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def lose(self, word: str, *, delivered: bool, times: int = 1) -> None:
        """Cut the next ``times`` connections that send ``word``; ``delivered``: after the server has carried it out."""
        with self._lock:
            self._order = Order(AFTER if delivered else BEFORE, [word.encode()], times=times)

    def cut(self, order: Order, timeout: float) -> str:
        """Have an order carried out; how it was, or "" if nobody sent such a message in time (seconds)."""
        with self._lock:
            self._order = order
        if not order.done.wait(timeout):
            with self._lock:
                if self._order is order:
                    self._order = None
                    return ""
            order.done.wait()
        return order.delivered

    def swallow(self, swallows: bool = True) -> None:
        """Pass nothing on any more, as a network does that loses every packet; or what came meanwhile, and all else."""
        if swallows:
            self._flows.clear()
        else:
            self._flows.set()

    def flows(self) -> None:
        """Return when something may be passed on."""
        self._flows.wait()

    def hang_up(self, client: bytes) -> bool:
        """Cut all connections of a client, whatever it is at; whether there were any."""
        with self._lock:
            sessions = [session for session in self._sessions if session.name == client]
        for session in sessions:
            session.shut()
        return bool(sessions)

    def order_for(self, client: bytes, message: bytes) -> Order | None:
        """The order that a message meets."""
        with self._lock:
            order = self._order
            if order is None or not order.meets(client, message):
                return None
            order.times -= 1
            if not order.times:
                self._order = None
            self.lost += 1
            return order

    def ended(self, session: _Session) -> None:
        """Forget a session."""
        with self._lock:
            self._sessions.discard(session)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    server = connected_to(self._target)
                except OSError:
                    client.close()
                    continue
                session = _Session(self, client, server)
                with self._lock:
                    self._sessions.add(session)
                for direction in (session.forward, session.answer):
                    threading.Thread(target=direction, daemon=True).start()


class _Session:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.name: bytes | None = None
        """The client's application_name, as soon as it has said it."""
        self._greeting: bytes | None = b""
        self._pid: int | None = None
        self._passes: float | None = None
        self._answered = threading.Event()
        self._halves = threading.Semaphore(1)

    def forward(self) -> None:
        """From the client to the server."""
        with suppress(OSError):
            while message := self._client.recv(65536):
                self._proxy.flows()
                if self.name is None:  # The first message, which says who it is.
                    self.name = message.partition(b"application_name\0")[2].partition(b"\0")[0]
                    order = None
                else:
                    order = self._proxy.order_for(self.name, message)
                if order is None:
                    self._server.sendall(message)
                    continue
                order.client = self.name
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
                self._proxy.flows()
                if self._greeting is not None:
                    self._read_greeting(self._greeting + message)
                if self._passes is not None:
                    self._client.sendall(message[: int(self._passes * len(message))])
                    break
                self._client.sendall(message)
        self._answered.set()
        self._end()

    def _cut(self, order: Order, message: bytes) -> None:
        if order.how == BEFORE:
            order.delivered = BEFORE
            return
        self._passes = order.passes
        stopped = order.how == STOPPED and self._stop()
        self._server.sendall(message)
        if stopped:
            order.delivered = STOPPED
        else:
            order.delivered = self._pause(order.pause[0]) if order.how == PAUSED else AFTER
        if order.delivered == AFTER and order.answered:
            self._answered.wait(_ANSWER_SECONDS)
        with suppress(OSError):  # It may be gone.
            self._client.shutdown(socket.SHUT_RDWR)
        if order.delivered in {PAUSED, STOPPED} and self._pid is not None:
            time.sleep(order.pause[1])
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)
        order.done.set()
        # The server's end stays open until the message is carried out.
        self._answered.wait(_ANSWER_SECONDS)

    def _pause(self, seconds: float) -> str:
        """Stop the backend while it is at it; PAUSED if it was."""
        time.sleep(seconds)
        if self._pid is None or self._answered.is_set() or not self._stop():
            return AFTER
        if self._answered.wait(0.005):
            os.kill(self._pid, signal.SIGCONT)
            return AFTER
        return PAUSED

    def _stop(self) -> bool:
        """Stop the backend; whether it was there."""
        try:
            if self._pid is not None:
                os.kill(self._pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        return self._pid is not None

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

    def shut(self) -> None:
        """Hang up on both."""
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _end(self) -> None:
        """Hang up; the second of the two directions to come here also lets go of the sockets."""
        self.shut()
        if not self._halves.acquire(blocking=False):
            self._client.close()
            self._server.close()
            self._proxy.ended(self)
