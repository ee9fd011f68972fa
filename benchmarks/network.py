"""Appends over a network: what round trips cost, which a socket on the same machine hides."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from benchmarks.appending import THREADS, compare
from eventstore.testing.proxy import connected_to

MILLISECOND = 0.001


def beside_others(dsn: str, rounds: int) -> None:
    """An event, alone and from threads, and ten at once, to a new stream, with the server a millisecond away."""
    from benchmarks.contenders.peer_umadb import UmaDb

    with (
        tempfile.TemporaryDirectory() as directory,
        closing(UmaDb(Path(directory))) as uma,
        distant(partial(socket.create_connection, uma.address), MILLISECOND) as port_of_uma,
        distant(partial(connected_to, dsn), MILLISECOND) as port,
    ):
        uma.reach_through(port_of_uma)
        far = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        works = [
            ("1 event, 1 thread", 1, 5, False),
            (f"1 event, {THREADS} threads", 1, 5, True),
            ("10 events at once", 10, 5, False),
        ]
        title = "Appending over a network of 1 ms there and back: the speed as a multiple of"
        with ConnectionPool(far, min_size=THREADS, max_size=THREADS, kwargs={"autocommit": True}) as pool:
            compare(title, works, pool=pool, dsn=far, uma=uma, rounds=rounds)


@contextmanager
def distant(connect: Callable[[], socket.socket], seconds: float) -> Iterator[int]:
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
