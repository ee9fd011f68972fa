"""Workers in processes of their own, killed at random moments: nothing is missed, nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import PATIENCE

from eventstore import PostgresEventStore, Subscription

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

WORKERS, WRITERS = 4, 4
FULL = os.environ.get("EVENTSTORE_TEST_CAMPAIGN") == "full"
KILLS, SECONDS = (50, 25.0) if FULL else (8, 4.0)

WRITER = """
import sys, time
from eventstore import Event, ExpectedVersion, PostgresEventStore
dsn, schema, me, seconds = sys.argv[1:]
store = PostgresEventStore.connect(dsn, schema, notify=True)
end = time.monotonic() + float(seconds)
number = 0
while time.monotonic() < end:
    store.append(f"s{me}-{number % 7}", [Event(event_type="T") for _ in range(3)], ExpectedVersion.ANY)
    number += 1
    time.sleep(0.005)
"""
WORKER = """
import sys
from eventstore import PostgresEventStore, Projection
dsn, schema = sys.argv[1:]

def handle(event, transaction):
    transaction.connection.execute(
        f'INSERT INTO "{schema}".handled (stream_id, version, position) VALUES (%s, %s, %s)',
        (event.stream_id, event.version, event.position))
    transaction.connection.execute(
        f'INSERT INTO "{schema}".counter VALUES (%s, 1) ON CONFLICT (stream_id) DO UPDATE SET n = counter.n + 1',
        (event.stream_id,))

store = PostgresEventStore.connect(dsn, schema)
Projection(store, "handled", handle, partitions=8, batch_size=50, poll_interval=0.1).run()
"""


@pytest.mark.skipif(
    "EVENTSTORE_TEST_PG" in os.environ,
    reason="once is enough: it takes seconds of both processors, whatever the server",
)
def test_killed_workers_miss_nothing_and_double_nothing(pool: ConnectionPool, dsn: str, schema: str) -> None:
    with pool.connection() as connection:
        connection.execute(
            f'CREATE TABLE "{schema}".handled (number bigserial, stream_id text, version bigint, position bigint)'
        )
        connection.execute(f'CREATE TABLE "{schema}".counter (stream_id text PRIMARY KEY, n int)')

    def start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
        root = Path(__file__).parent
        return subprocess.Popen([sys.executable, "-c", program, dsn, schema, *map(str, arguments)], cwd=root)

    chance = random.Random(5)  # noqa: S311 no secret
    writers = [start(WRITER, number, SECONDS) for number in range(WRITERS)]
    workers = [start(WORKER) for _ in range(WORKERS)]
    store = PostgresEventStore(pool, schema)
    killed = 0
    try:
        while killed < KILLS:
            time.sleep(chance.uniform(0, 2 * SECONDS / KILLS))  # The moment is what is drawn.
            number = chance.randrange(WORKERS)
            workers[number].send_signal(signal.SIGKILL)
            assert workers[number].wait(PATIENCE) == -signal.SIGKILL
            workers[number] = start(WORKER)
            killed += 1
        for writer in writers:
            assert writer.wait(SECONDS + PATIENCE) == 0
        Subscription(store, "handled", print).wait_until_processed(timeout=PATIENCE)
    finally:
        for process in (*writers, *workers):
            process.kill()
            process.wait()
    stored = [(event.stream_id, event.version, event.position) for event in store.read_all()]
    with pool.connection() as connection:
        rows = connection.execute(
            f'SELECT stream_id, version, position FROM "{schema}".handled ORDER BY number'
        ).fetchall()
        counted = connection.execute(f'SELECT sum(n) FROM "{schema}".counter').fetchone()
    assert len(stored) > WRITERS * 50
    assert sorted(rows, key=lambda row: row[2]) == stored
    assert counted == (len(stored),)
    for stream in {stream for stream, _, _ in stored}:
        versions = [version for name, version, _ in rows if name == stream]
        assert versions == sorted(versions)
