"""The algorithm of the textbooks: lock the stream's row, compare, insert event by event, move the version on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.contenders.raw import EMPTY, packed
from benchmarks.samples import new_id

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

INSERT = (
    "INSERT INTO textbook_events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
UPSERT = (
    "INSERT INTO textbook_streams (stream_id, version) VALUES (%s, %s)"
    " ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version"
)


class Textbook:
    """BEGIN, SELECT … FOR UPDATE, INSERT …, UPSERT, COMMIT."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        with pool.connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS textbook_events (LIKE eventstore.events INCLUDING ALL)")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS textbook_streams (stream_id text PRIMARY KEY, version bigint NOT NULL)"
            )

    def append(self, count: int) -> None:
        stream_id, now = new_id(), datetime.now(UTC)
        with self._pool.connection() as connection, connection.transaction():
            found = connection.execute(
                "SELECT version FROM textbook_streams WHERE stream_id = %s FOR UPDATE", (stream_id,)
            ).fetchone()
            version = found[0] if found else 0
            if version != 0:
                raise RuntimeError("a conflict")
            for number in range(count):
                version += 1
                row = (version, now, 0, uuid4(), stream_id, "LineAdded", packed(number), EMPTY)
                connection.execute(INSERT, row)
            connection.execute(UPSERT, (stream_id, version))
