"""What an event takes on disk, and what that is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.measuring import Table

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

SIZES = """
    SELECT relname, pg_relation_size(pg_class.oid)::float8 / (SELECT count(*) FROM sizes.events)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'sizes' AND relname IN
        ('events', 'events_stream_version', 'events_position', 'events_event_id')
    ORDER BY relname
"""


def on_disk(pool: ConnectionPool[Any]) -> None:
    """100,000 events, 100 a stream, appended ten at a time."""
    from benchmarks.samples import LineAdded, values
    from eventstore import PostgresEventStore
    from eventstore.postgres import migrate

    with pool.connection() as connection:
        migrate(connection, "sizes")
    store = PostgresEventStore(pool, "sizes")
    for _ in range(1000):
        stream_id = f"Order-{uuid4()}"
        for begin in range(0, 100, 10):
            store.append(stream_id, [LineAdded(**values(number)) for number in range(10)], begin)
    with pool.connection() as connection:
        connection.execute("VACUUM ANALYZE sizes.events")
        found = connection.execute(SIZES).fetchall()
        row = connection.execute(
            "SELECT avg(octet_length(data)), avg(octet_length(stream_id)) FROM sizes.events"
        ).fetchone()
    assert row is not None
    data, stream = row
    table = Table("Bytes for each event on disk", "part", "bytes")
    for name, size in found:
        note = f" (data {data:.0f}, stream id {stream:.0f})" if name == "events" else ""
        table.row(f"{name}{note}", f"{size:.0f}")
    table.row("all", f"{sum(size for _, size in found):.0f}")
