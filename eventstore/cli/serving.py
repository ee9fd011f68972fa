"""``eventstore server``: a PostgreSQL for development in the foreground, with its data in a directory."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from psycopg import pq

from eventstore.errors import StoreUnavailable
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from types import FrameType

_SECONDS_BETWEEN_LOOKS = 1


def run(directory: Path) -> int:
    """Run a server on the data in a directory until Ctrl-C or SIGTERM.

    Raises StoreUnavailable in one line if the server does not come up, or if it ends by itself.
    """
    signals: SimpleQueue[int] = SimpleQueue()  # Its put() may be called in a handler, whatever that interrupts.

    def handle(number: int, _frame: FrameType | None) -> None:
        signals.put(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _started(directory) as server:
            print(f"PostgreSQL {server.version} runs on {directory}; Ctrl-C ends it", file=sys.stderr)
            print(f"export EVENTSTORE_DSN={shlex.quote(server.dsn)}", flush=True)
            _wait(server, signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _started(directory: Path) -> EmbeddedServer:
    try:
        return EmbeddedServer(directory).start()
    except StoreUnavailable as error:
        lines = str(error).splitlines()
        if len(lines) == 1:
            raise
        # PostgreSQL says in several lines why it gave up; the reason is the last one that complains.
        complaints = [line for line in lines if re.search(r"FATAL:|error:", line)] or lines[:1]
        advice = [line for line in lines if line.startswith("Started by root")]
        reason = re.sub(r"^.*?(FATAL|error):\s*", "", complaints[-1])
        words = " ".join([f"PostgreSQL could not be started: {reason}.", *advice, f"See {directory / 'server.log'}"])
        raise StoreUnavailable(words) from error


def _wait(server: EmbeddedServer, signals: SimpleQueue[int]) -> None:
    while True:
        try:
            signals.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except Empty:
            if pq.PGconn.ping(server.dsn.encode()) == pq.Ping.NO_RESPONSE:
                raise StoreUnavailable(f"PostgreSQL (process {server.pid}) has ended by itself") from None
        else:
            return
