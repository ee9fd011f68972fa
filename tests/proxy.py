"""A proxy between a client and the server that loses connections on order, before or after the server got a message."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from types import TracebackType

TERMINATE = b"X\0\0\0\4"
"""The protocol's message by which a client says goodbye."""


class Proxy:
    """Forwards bytes, until ``lose`` tells it to cut the next connections whose client sends a certain word.

    ``lost`` counts the connections that were cut so.
    """

    def __init__(self, dsn: str) -> None:
        self._target = conninfo_to_dict(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._word, self._delivered, self._times = b"", False, 0
        self.lost = 0
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

    def lose(self, word: str, *, delivered: bool, times: int = 1) -> None:
        """Cut the next ``times`` connections that send ``word``; ``delivered``: after the server has carried it out."""
        with self._lock:
            self._word, self._delivered, self._times = word.encode(), delivered, times

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                session = _Session(self, client, self._connect())
                for direction in (session.forward, session.answer):
                    threading.Thread(target=direction, daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host") or "localhost"), int(str(self._target.get("port") or 5432))
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def fate(self, message: bytes) -> str:
        """What happens to a message: "forward", "lose", or "deliver and lose"."""
        with self._lock:
            if not self._times or self._word not in message:
                return "forward"
            self._times -= 1
            self.lost += 1
            return "deliver and lose" if self._delivered else "lose"


class _Session:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._mute = False
        self._answered = threading.Event()

    def forward(self) -> None:
        with suppress(OSError):
            while message := self._client.recv(65536):
                fate = self._proxy.fate(message)
                if fate == "forward":
                    self._server.sendall(message)
                    continue
                if fate == "deliver and lose":
                    self._mute = True
                    self._server.sendall(message + TERMINATE)
                    self._answered.wait(30)
                break
        self._hang_up()

    def answer(self) -> None:
        with suppress(OSError):
            while message := self._server.recv(65536):
                if not self._mute:
                    self._client.sendall(message)
        self._answered.set()
        self._hang_up()

    def _hang_up(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if self._answered.is_set():
                end.close()
