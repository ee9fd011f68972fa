"""Appends: one event, many at once, from threads and tasks, into small and large stores."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import INSERT, Raw, new_row, packed
from benchmarks.contenders.textbook import Textbook
from benchmarks.measuring import Ratio, Rounds, Table
from benchmarks.samples import LineAdded, new_id, values
from eventstore import AsyncPostgresEventStore, ConcurrencyError, PostgresEventStore, Snapshot
from eventstore.core.records import encode_events
from eventstore.core.requests import Append
from eventstore.postgres.statements import Statements
from eventstore.postgres.stores import _Cursor

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from benchmarks.contenders.peer_umadb import UmaDb

PEERS = ("textbook", "eventsourcing", "umadb")
THREADS = 8
MANY = 10_000


def repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    """The same so many times, as one."""

    def repeat() -> None:
        for _ in range(times):
            work()

    return repeat


def in_threads(work: Callable[[], object], times: int, threads: ThreadPoolExecutor) -> Callable[[], None]:
    """The same so many times in each thread."""

    def repeat() -> None:
        for done in [threads.submit(repeated(work, times)) for _ in range(THREADS)]:
            done.result()

    return repeat


def beside_others(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """An event to a new stream, alone and from threads; 10, 100 and 10,000 events in one append."""
    from benchmarks.contenders.peer_umadb import UmaDb

    with tempfile.TemporaryDirectory() as directory, closing(UmaDb(Path(directory))) as uma:
        works = [
            ("1 event, 1 thread", 1, 20, False),
            (f"1 event, {THREADS} threads", 1, 5, True),
            ("10 events at once", 10, 5, False),
            ("100 events at once", 100, 2, False),
            ("10,000 events at once", MANY, 1, False),
        ]
        compare(
            "Appending to a new stream: the speed as a multiple of", works, pool=pool, dsn=dsn, uma=uma, rounds=rounds
        )


def compare(
    title: str,
    works: Iterable[tuple[str, int, int, bool]],
    *,
    pool: ConnectionPool[Any],
    dsn: str,
    uma: UmaDb,
    rounds: int,
) -> None:
    """A table of appends to new streams.

    Args:
        title: the table's.
        works: for each row its title, the events of an append, the appends of a round, and whether threads make them.
        pool: with a connection for each thread, to the server at ``dsn``.
        dsn: of the same server, for those who have a pool of their own.
        uma: UmaDB, with its server.
        rounds: of each row but those of the largest appends, which have fewer.
    """
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

    with closing(Eventsourcing(dsn)) as peer, ThreadPoolExecutor(THREADS) as threads:
        contenders: dict[str, Any] = {
            "ours": Ours(pool),
            "raw": Raw(pool),
            "textbook": Textbook(pool),
            "eventsourcing": peer,
            "umadb": uma,
        }
        table = Table(title, "work", "raw psycopg", *PEERS)
        for what, count, times, threaded in works:
            taking_part: dict[str, Callable[[], None]] = {}
            for name, contender in contenders.items():
                append = partial(contender.append, count)
                if count < MANY or name not in {"textbook", "eventsourcing"}:
                    taking_part[name] = in_threads(append, times, threads) if threaded else repeated(append, times)
            found = Rounds(taking_part, rounds if count < MANY else max(rounds // 4, 5))
            for row, of in ((what, "ours"), ("the same, by raw psycopg", "raw")):
                beside = taking_part.keys() - {of}
                table.row(row, *(found.speed(of, other) if other in beside else "-" for other in ("raw", *PEERS)))


def large_store(pool: ConnectionPool[Any], rounds: int, size: int) -> None:
    """An append into a store of 10,000 events and into one of many more, side by side."""
    small, large = (_filled(pool, f"store_of_{count}", count) for count in (10_000, size))
    found = Rounds(
        {
            "small": repeated(lambda: small.append(new_id(), [LineAdded(**values())], 0), 20),
            "large": repeated(lambda: large.append(new_id(), [LineAdded(**values())], 0), 20),
        },
        rounds,
    )
    table = Table("Appending into a large store", "work", "time as a multiple of the same into 10,000 events")
    table.row(f"1 event into {size:,}", found.ratio("large", "small"))


def _filled(pool: ConnectionPool[Any], schema: str, count: int) -> PostgresEventStore:
    """A store with so many events, which the database made: 100 a stream."""
    from eventstore.postgres import migrate

    with pool.connection() as connection:
        migrate(connection, schema)
        connection.execute(
            f"INSERT INTO {schema}.events"
            " (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
            " SELECT number %% 100 + 1, now(), 0, gen_random_uuid(), 'Filled-' || number / 100, 'LineAdded', %b, %b"
            " FROM generate_series(0, %b - 1) AS number",
            (bytes(150), b"\x80", count),
        )
        connection.execute(f"VACUUM ANALYZE {schema}.events")
    return PostgresEventStore(pool, schema)


def other_work(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """A refused conflict, a saved snapshot, and async appends, each beside the nearest work of the driver alone."""
    ours, raw = Ours(pool), Raw(pool)
    ours.store.append("Conflict-1", [LineAdded(**values())], 0)
    snapshot = Snapshot("Order", "bench", "schema", 1, UUID(int=1), bytes(500), bytes(16))

    def conflict() -> None:
        try:
            ours.store.append("Conflict-1", [LineAdded(**values())], 0)
        except ConcurrencyError:
            return
        raise AssertionError("no conflict")

    def select_one() -> None:
        with pool.connection() as connection:
            connection.execute("SELECT 1", prepare=True)

    request = Append("", 0, encode_events([LineAdded(**values())]))
    statement = Statements("eventstore").of(request)
    _, *arguments = statement.parameters(request)
    row = new_row(packed(0))
    before, after = row[:4], row[5:]

    def call_only() -> None:
        with pool.connection() as connection:
            _Cursor(connection).execute(statement.text, (new_id(), *arguments), prepare=True, binary=True)

    def insert_only() -> None:
        with pool.connection() as connection:
            connection.execute(INSERT, (*before, new_id(), *after), prepare=True)

    found = Rounds(
        {
            "raw": repeated(lambda: raw.append(1), 20),
            "call": repeated(call_only, 20),
            "insert": repeated(insert_only, 20),
            "conflict": repeated(conflict, 20),
            "snapshot": repeated(lambda: ours.snapshots.save(snapshot), 20),
            "select": repeated(select_one, 20),
        },
        rounds,
    )
    table = Table("Other work on the store", "work", "time as a multiple of", "ratio")
    table.row("an append, its parameters made before", "the same for a raw INSERT", found.ratio("call", "insert"))
    table.row("a conflict refused (nothing is written)", "SELECT 1", found.ratio("conflict", "select"))
    table.row("a snapshot saved", "a raw INSERT", found.ratio("snapshot", "raw"))
    asyncio.run(_async_appends(dsn, rounds, table))


async def _async_appends(dsn: str, rounds: int, table: Table) -> None:
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, kwargs={"autocommit": True}) as pool:
        store = AsyncPostgresEventStore(pool)

        async def ours() -> None:
            await store.append(new_id(), [LineAdded(**values())], 0)

        async def raw() -> None:
            async with pool.connection() as connection:
                await connection.execute(INSERT, new_row(packed(0)), prepare=True)

        for tasks in (8, 64):
            ratios: list[float] = []
            for _ in range(rounds + 1):
                times: list[float] = []
                for work in (ours, raw):
                    started = time.perf_counter()
                    await asyncio.gather(*(work() for _ in range(tasks)))
                    times.append(time.perf_counter() - started)
                ratios.append(times[0] / times[1])
            table.row(f"an async append, {tasks} tasks, 8 connections", "async raw INSERTs", Ratio(ratios[1:]))
