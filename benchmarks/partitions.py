"""Events in one table beside events in partitions: ``python -m benchmarks partitions``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import md5
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg.sql import SQL, Identifier

from benchmarks.appending import in_threads, repeated
from benchmarks.measuring import Ratio, Rounds, Table, seconds
from benchmarks.samples import LineAdded, Order, new_id, values
from eventstore import ExpectedVersion, PostgresEventStore, Repository
from eventstore.core.operations import repeated as asked
from eventstore.core.records import encode_events
from eventstore.core.requests import SafePosition
from eventstore.postgres import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

STORES = {"one": None, "partitions": 16}
"""The schemas, each with its number of partitions."""
CHUNK = 1_000_000
STREAMS = 50_000
"""So many are appended to in turn, until each has 20 events; then come others."""
LAST = 3
"""So many chunks of each size are inserted with all indexes in place."""
_FILL = """
    INSERT INTO {schema}.events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)
    SELECT number %% %(chunk)s / %(streams)s + 1, now(), 0,
        ('0192' || lpad(to_hex(number), 12, '0') || substr(md5(number::text), 1, 16))::uuid,
        'Order-' || md5((number / %(chunk)s * %(streams)s + number %% %(streams)s)::text)::uuid,
        'LineAdded', %(data)s, %(metadata)s
    FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(chunk)s - 1) AS number
"""
_SIZES = """
    SELECT coalesce(whole.relname, part.relname) AS name,
        sum(pg_relation_size(part.oid)) / 1e9, max(pg_relation_size(part.oid)) / 1e9
    FROM pg_class AS part
    LEFT JOIN pg_inherits ON inhrelid = part.oid
    LEFT JOIN pg_class AS whole ON whole.oid = inhparent
    WHERE part.relnamespace = %s::regnamespace AND part.relkind IN ('r', 'i')
        AND coalesce(whole.relname, part.relname) IN
            ('events', 'events_stream_version', 'events_position', 'events_event_id')
    GROUP BY name ORDER BY name
"""


_INDEXES = """
    SELECT CASE WHEN conname IS NULL THEN replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
            ELSE format(
                'ALTER TABLE %%s ADD CONSTRAINT %%I %%s', indrelid::regclass, conname,
                pg_get_constraintdef(pg_constraint.oid))
        END,
        CASE WHEN conname IS NULL THEN format('DROP INDEX %%s', indexrelid::regclass)
            ELSE format('ALTER TABLE %%s DROP CONSTRAINT %%I', indrelid::regclass, conname)
        END
    FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid AND contype = 'p'
    WHERE indrelid = %s::regclass ORDER BY indexrelid
"""
"""How to make each index, and how to drop it."""


def beside_one_table(pool: ConnectionPool[Any], rounds: int, size: int) -> None:
    """Two stores of the same events, of so many and then of three times as many: for 30,000,000 it takes 30 GB."""
    for schema, count in STORES.items():
        with pool.connection() as connection:
            migrate(connection, schema, partitions=count)
    filled = 0
    for size_now in (size, 3 * size):
        for schema in STORES:
            _fill_without_indexes(pool, schema, range(filled, size_now - LAST * CHUNK, CHUNK))
        _grow(pool, range(size_now - LAST * CHUNK, size_now, CHUNK))
        filled = size_now
        _work(pool, rounds, filled)
        _sizes(pool, filled)
        _maintenance(pool, filled)


def fill(pool: ConnectionPool[Any], schema: str, first: int) -> None:
    """Insert a chunk of events, in the order of their positions. The server makes them."""
    records = encode_events([LineAdded(**values())])
    numbers = {"chunk": CHUNK, "streams": STREAMS, "first": first}
    _run(pool, _FILL, schema, {**numbers, "data": records.data[0], "metadata": records.metadata[0]})


def _run(pool: ConnectionPool[Any], statement: str, schema: str, parameters: dict[str, Any] | None = None) -> None:
    with pool.connection() as connection:
        connection.execute(SQL(statement).format(schema=Identifier(schema)), parameters)  # type: ignore[arg-type] ours


def _fill_without_indexes(pool: ConnectionPool[Any], schema: str, firsts: range) -> None:
    """As fill, faster: the indexes are made at the end, and are as small as they can be."""
    with pool.connection() as connection:
        indexes = connection.execute(_INDEXES, (f"{schema}.events",)).fetchall()
        for _, drop in indexes:
            connection.execute(drop)
    for first in firsts:
        fill(pool, schema, first)
    with pool.connection() as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        for make, _ in indexes:
            connection.execute(make)
        connection.execute("RESET maintenance_work_mem")
        connection.execute(f"VACUUM {schema}.events".encode())


def _grow(pool: ConnectionPool[Any], firsts: range) -> None:
    """Chunk after chunk, each with a VACUUM."""
    steps: dict[str, Callable[[int, str], None]] = {
        "INSERT ... SELECT of 1,000,000 events": lambda first, schema: fill(pool, schema, first),
        "VACUUM after them": lambda _, schema: _run(pool, "VACUUM {schema}.events", schema),
    }
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for number, first in enumerate(firsts):
        order = list(STORES) if number % 2 else list(STORES)[::-1]
        for name, step in steps.items():
            took = {schema: seconds(partial(step, first, schema)) for schema in order}
            ratios[name].append(took["partitions"] / took["one"])
    table = Table(f"Growing to {firsts.stop:,} events", "work", "time in 16 partitions as a multiple of one table's")
    for name, found in ratios.items():
        table.row(name, Ratio(found))
    for schema in STORES:
        _run(pool, "ANALYZE {schema}.events", schema)


def _work(pool: ConnectionPool[Any], rounds: int, size: int) -> None:
    """What programs do, on both."""
    table = Table(f"Work on {size:,} events", "work", "time in 16 partitions as a multiple of one table's")
    with ThreadPoolExecutor(8) as threads:
        works: dict[str, Callable[[PostgresEventStore], Callable[[], object]]] = {
            "append of 1 event to a new stream": lambda store: repeated(partial(_append, store, 1), 20),
            "the same, with an id of your own": lambda store: repeated(partial(_append_own, store), 20),
            "append of 1 event, any version, to an old stream": lambda store: repeated(_to_old(store, size), 20),
            "append of 1 event to a new stream, 8 threads": lambda store: in_threads(
                partial(_append, store, 1), 5, threads
            ),
            "append of 100 events": lambda store: repeated(partial(_append, store, 100), 2),
            "load of 20 events": lambda store: repeated(_load(store, size), 20),
            "read_all, 10,000 events": lambda store: _read(store, size),
            "safe_position": lambda store: repeated(lambda: store.carry_out(asked(SafePosition(0))), 50),
        }
        for name, work in works.items():
            found = Rounds({each: work(PostgresEventStore(pool, each)) for each in STORES}, rounds)
            table.row(name, found.ratio("partitions", "one"))


def _append(store: PostgresEventStore, count: int) -> None:
    store.append(new_id(), [LineAdded(**values(number)) for number in range(count)], 0)


def _append_own(store: PostgresEventStore) -> None:
    store.append(new_id(), [LineAdded(event_id=uuid4(), **values())], 0)


def _old_ids(size: int) -> Callable[[], str]:
    """The ids of twenty streams that were filled, in turn: after the first round they are in memory, in both stores."""
    order = Random(0)  # noqa: S311 no secret
    numbers = [order.randrange(size // 20) for _ in range(20)]
    ids = cycle(str(UUID(md5(str(number).encode()).hexdigest())) for number in numbers)  # noqa: S324 as the server's
    return lambda: next(ids)


def _to_old(store: PostgresEventStore, size: int) -> Callable[[], object]:
    next_id = _old_ids(size)
    return lambda: store.append(f"Order-{next_id()}", [LineAdded(**values())], ExpectedVersion.ANY)


def _load(store: PostgresEventStore, size: int) -> Callable[[], object]:
    orders, next_id = Repository(store, Order), _old_ids(size)
    return lambda: orders.load(next_id())


def _read(store: PostgresEventStore, size: int) -> Callable[[], None]:
    order = Random(0)  # noqa: S311 no secret

    def read() -> None:
        start = order.randrange(size - 10_000)
        for _ in store.read_all(start, to_position=start + 10_000):
            pass

    return read


def _sizes(pool: ConnectionPool[Any], size: int) -> None:
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for schema in STORES:
        with pool.connection() as connection:
            for name, whole, largest in connection.execute(_SIZES, (schema,)).fetchall():
                found.setdefault(name, {})[schema] = float(whole), float(largest)
    table = Table(f"Size of {size:,} events, GB", "part", "one table", "16 partitions", "the largest of them")
    for name, sizes in found.items():
        table.row(name, f"{sizes['one'][0]:.2f}", *(f"{each:.2f}" for each in sizes["partitions"]))


def _maintenance(pool: ConnectionPool[Any], size: int) -> None:
    """Work on the whole table, and on one partition of it: what has to be done in one go."""
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'partitions.events_position'::regclass"
        ).fetchone()
    assert row is not None
    works = {
        "VACUUM (DISABLE_PAGE_SKIPPING)": (
            "VACUUM (DISABLE_PAGE_SKIPPING) {schema}.events",
            "VACUUM (DISABLE_PAGE_SKIPPING) {schema}.events_00",
        ),
        "VACUUM (FREEZE)": ("VACUUM (FREEZE) {schema}.events", "VACUUM (FREEZE) {schema}.events_00"),
        "REINDEX CONCURRENTLY of the positions": (
            "REINDEX INDEX CONCURRENTLY {schema}.events_position",
            f"REINDEX INDEX CONCURRENTLY {row[0]}",
        ),
    }
    table = Table(
        f"Maintenance of {size:,} events, once, in seconds", "work", "one table", "16 partitions", "one of them"
    )
    for name, (whole, part) in works.items():
        # The part after the whole would find its work done.
        took = [("partitions", part), ("one", whole), ("partitions", whole)]
        one, *others = (seconds(partial(_run, pool, statement, schema)) for schema, statement in took)
        table.row(name, *(f"{each:.1f}" for each in (*others, one)))
