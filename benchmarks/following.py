"""Subscriptions: catching up, the way from an append to a handler, and what waiting costs."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from psycopg import Cursor

from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import _STRICT, PAGE
from benchmarks.measuring import Rounds, Table
from benchmarks.samples import new_id
from eventstore import Event, ExpectedVersion, PostgresTransaction, Projection, Subscription

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

CHUNK = 10_000
ELSEWHERE = """
import sys, time
from eventstore import *
with PostgresEventStore.connect(sys.argv[1], notify=True) as store:
    for _ in range(100):
        store.append("Elsewhere-1", [Event(event_type="Rung")], ExpectedVersion.ANY)
        print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
        time.sleep(0.03)
"""


def catching_up(pool: ConnectionPool[Any], size: int) -> None:
    """A projection that counts, beside a loop of psycopg with the same reads and writes, 10,000 events in turns."""
    ours = Ours(pool)
    ours.fill(new_id(), size)
    with pool.connection() as connection:
        connection.execute("CREATE TABLE counted (n bigint NOT NULL)")
        connection.execute("INSERT INTO counted VALUES (0)")
        connection.execute("CREATE TABLE counted_raw AS SELECT 0::bigint AS n, 0::bigint AS position")

    def project() -> None:
        handled = 0

        def count(_: Event, transaction: PostgresTransaction) -> None:
            nonlocal handled
            transaction.connection.execute("UPDATE counted SET n = n + 1")
            handled += 1
            if handled == CHUNK:
                projection.stop()

        projection = Projection(ours.store, "counted", count)
        projection.run_until_caught_up()

    def raw() -> None:
        unpack = _STRICT.unpack
        with pool.connection() as connection:
            for _ in range(CHUNK // 1000):
                with connection.transaction():
                    row = connection.execute("SELECT position FROM counted_raw FOR UPDATE").fetchone()
                    assert row is not None
                    events = Cursor(connection).execute(PAGE, row, prepare=True, binary=True).fetchall()
                    for event in events:
                        unpack(event[5])
                        connection.execute("UPDATE counted_raw SET n = n + 1")
                    if events:
                        connection.execute("UPDATE counted_raw SET position = %s", (events[-1][2],))

    found = Rounds({"ours": project, "raw": raw}, size // CHUNK - 1)
    table = Table("Catching up with a counting projection", "work", "our speed as a multiple of a loop of raw psycopg")
    table.row(f"{size:,} events, one UPDATE each", found.speed("ours", "raw"))


def latency(pool: ConnectionPool[Any], dsn: str) -> None:
    """From the return of an append to the call of the handler."""
    store = Ours(pool).store
    called: list[float] = []
    rung = threading.Event()

    def handle(_: Event) -> None:
        called.append(time.clock_gettime(time.CLOCK_MONOTONIC))
        rung.set()

    worker = Subscription(store, "latency", handle, event_types=["Rung"], poll_interval=60)
    worker.run_until_caught_up()
    thread = threading.Thread(target=worker.run)
    thread.start()
    returned: list[float] = []
    for _ in range(100):
        rung.clear()
        store.append("Here-1", [Event(event_type="Rung")], ExpectedVersion.ANY)
        returned.append(time.clock_gettime(time.CLOCK_MONOTONIC))
        rung.wait(10)
        time.sleep(0.01)  # Until it waits again.
    here = [after - before for before, after in zip(returned, called, strict=True)]
    called.clear()
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, dsn], capture_output=True, text=True, check=True)
    worker.wait_until_processed()
    worker.stop()
    thread.join()
    elsewhere = [after - float(before) for before, after in zip(done.stdout.split(), called, strict=True)]
    table = Table("From the return of an append to the handler", "where", "median, ms", "95th percentile, ms")
    for where, found in (("the same process", here), ("another process, notify=True", elsewhere)):
        table.row(where, f"{statistics.median(found) * 1e3:.1f}", f"{statistics.quantiles(found, n=20)[-1] * 1e3:.1f}")


def waiting(pool: ConnectionPool[Any], wait: float) -> None:
    """The processor time of ten subscriptions that have nothing to do."""
    store = Ours(pool).store
    workers = [Subscription(store, f"idle-{number}", print, event_types=["Never"]) for number in range(10)]
    for worker in workers:
        worker.run_until_caught_up()
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    time.sleep(1)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(wait)
    after = resource.getrusage(resource.RUSAGE_SELF)
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = Table("Ten subscriptions that wait", "what", "value")
    table.row("processor time of their process, of one core", f"{used / wait:.1%}")
    table.row("looks a second", "20")
