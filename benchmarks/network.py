"""Appends over a network: what round trips cost, which a socket on the same machine hides."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

from benchmarks.appending import PEERS, THREADS, in_threads, repeated
from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import Raw
from benchmarks.contenders.textbook import Textbook
from benchmarks.measuring import Contender, Rounds, Table

MILLISECOND = 0.001


def beside_others(dsn: str, rounds: int) -> None:
    """An event, alone and from threads, and ten at once, to a new stream, with the server a millisecond away."""
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing
    from benchmarks.contenders.peer_umadb import UmaDb

    with ExitStack() as stack:
        port = stack.enter_context(_distant(partial(_connect_to_postgres, dsn), MILLISECOND))
        distant = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        uma = UmaDb(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(uma.close)
        uma.reach_through(stack.enter_context(_distant(partial(socket.create_connection, uma.address), MILLISECOND)))
        threads = stack.enter_context(ThreadPoolExecutor(THREADS))
        options = {"autocommit": True}
        pool = stack.enter_context(ConnectionPool(distant, min_size=THREADS, max_size=THREADS, kwargs=options))
        peer = Eventsourcing(distant)
        stack.callback(peer.close)
        contenders: dict[str, Any] = {
            "ours": Ours(pool),
            "raw": Raw(pool),
            "textbook": Textbook(pool),
            "eventsourcing": peer,
            "umadb": uma,
        }
        one = {name: partial(contender.append, 1) for name, contender in contenders.items()}
        ten = {name: partial(contender.append, 10) for name, contender in contenders.items()}
        works: dict[str, dict[str, Contender]] = {
            "1 event, 1 thread": {name: repeated(append, 5) for name, append in one.items()},
            f"1 event, {THREADS} threads": {name: in_threads(append, 5, threads) for name, append in one.items()},
            "10 events at once": {name: repeated(append, 5) for name, append in ten.items()},
        }
        title = "Appending over a network of 1 ms there and back: our speed as a multiple of"
        table = Table(title, "work", "raw psycopg", *PEERS)
        for what, work in works.items():
            found = Rounds(work, rounds)
            table.row(what, *(found.speed("ours", other) for other in ("raw", *PEERS)))


@contextmanager
def _distant(connect: Callable[[], socket.socket], seconds: float) -> Iterator[int]:
    """A port of this machine that leads to a server which is so many seconds away, there and back."""
    listener = socket.create_server(("127.0.0.1", 0))
    # A process of its own, which takes no time from the contenders' interpreter.
    forwarder = multiprocessing.get_context("fork").Process(target=_accept, args=(listener, connect, seconds / 2))
    forwarder.start()
    try:
        yield listener.getsockname()[1]
    finally:
        forwarder.kill()
        forwarder.join()
        listener.close()


def _connect_to_postgres(dsn: str) -> socket.socket:
    server = conninfo_to_dict(dsn)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{server['host']}/.s.PGSQL.{server['port']}")
    return connection


def _accept(listener: socket.socket, connect: Callable[[], socket.socket], delay: float) -> None:
    while True:
        near, _ = listener.accept()
        far = connect()
        for end in (near, far):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ends in ((near, far), (far, near)):
            threading.Thread(target=_forward, args=(*ends, delay), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, delay: float) -> None:
    with suppress(OSError):  # Whoever hangs up first ends both directions.
        while message := source.recv(1 << 20):
            time.sleep(delay)
            target.sendall(message)
        target.shutdown(socket.SHUT_RDWR)
