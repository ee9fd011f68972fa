"""psycopg alone, with a table of the same shape: prepared statements, in binary. The limit of what is possible."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgpack
from psycopg import Cursor

from benchmarks.samples import new_id, values
from eventstore.codec.decoding import _LEVELS

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

INSERT = (
    "INSERT INTO raw_events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
    " VALUES (%b, %b, %b, %b, %b, %b, %b, %b)"
)
INSERT_EVENT = INSERT.replace("raw_events", "eventstore.events")
COPY = (
    "COPY raw_events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
    " FROM STDIN (FORMAT BINARY)"
)
READ = (
    "SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata, timestamptz_send(timestamp),"
    " utc_offset FROM eventstore.events WHERE stream_id = %b ORDER BY version"
)
READ_LITTLE = "SELECT event_type, data FROM eventstore.events WHERE stream_id = %b ORDER BY version"
PAGE = (
    "SELECT stream_id, version, position, uuid_send(event_id), event_type, data, metadata, timestamptz_send(timestamp),"
    " utc_offset FROM eventstore.events WHERE position > %b ORDER BY position LIMIT 1000"
)
EMPTY = b"\x80"
_STRICT = _LEVELS[False, False, False]
"""What the library decodes with: registered classes only, and no look for keys that share a hash."""


def packed(number: int) -> bytes:
    """An event's fields in msgpack, what it lacks as text."""
    data: bytes = msgpack.packb({name: _plain(value) for name, value in values(number).items()})
    return data


def _plain(value: Any) -> Any:
    return (
        str(value)
        if isinstance(value, (UUID, Decimal))
        else value.isoformat()
        if isinstance(value, datetime)
        else value
    )


def new_row(data: bytes) -> tuple[object, ...]:
    """The parameters of INSERT, for a new stream."""
    return (1, datetime.now(UTC), 0, uuid4(), new_id(), "LineAdded", data, EMPTY)


class Added:
    """An event, as plain as can be."""


class State:
    """What the events are folded into."""

    def __init__(self) -> None:
        self.lines = 0
        self.total = Decimal(0)

    def added(self, event: Any) -> None:
        self.lines += 1
        self.total += Decimal(event.price)  # Its own events have it as text.


class Raw:
    """The statements, each in autocommit."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool
        with pool.connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS raw_events (LIKE eventstore.events INCLUDING ALL)")

    def append(self, count: int) -> None:
        """One INSERT for one event, one COPY for many."""
        with self._pool.connection() as connection:
            if count == 1:
                connection.execute(INSERT, new_row(packed(0)), prepare=True)
                return
            stream_id, now = new_id(), datetime.now(UTC)
            with connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.set_types(["int8", "timestamptz", "int4", "uuid", "text", "text", "bytea", "bytea"])
                for number in range(count):
                    copy.write_row((number + 1, now, 0, uuid4(), stream_id, "LineAdded", packed(number), EMPTY))

    def load(self, order_id: str) -> State:
        """The same columns, the same bytes, a plain object for each event, and a plain method that is applied."""
        state, unpack = State(), _STRICT.unpack
        handlers = {"LineAdded": state.added}
        with self._pool.connection() as connection:
            cursor = Cursor(connection)
            for row in cursor.execute(READ, (f"Order-{order_id}",), prepare=True, binary=True):
                event = Added()
                event.__dict__ = unpack(row[5])
                event.__dict__["version"] = row[1]
                handlers[row[4]](event)
        return state

    def command(self, order_id: str) -> None:
        """Load an order and insert a line at the next version, with the unique constraint as the only guard."""
        state = self.load(order_id)
        row = (state.lines + 1, datetime.now(UTC), 0, uuid4(), f"Order-{order_id}", "LineAdded", packed(0), EMPTY)
        with self._pool.connection() as connection:
            connection.execute(INSERT_EVENT, row, prepare=True)

    def load_little(self, order_id: str) -> int:
        """Only type and data, unpacked."""
        unpack, found = _STRICT.unpack, 0
        with self._pool.connection() as connection:
            for _, data in Cursor(connection).execute(READ_LITTLE, (f"Order-{order_id}",), prepare=True, binary=True):
                unpack(data)
                found += 1
        return found

    def read_all(self, limit: int) -> int:
        """Pages of 1,000, unpacked."""
        unpack, position, found = _STRICT.unpack, 0, 0
        with self._pool.connection() as connection:
            while found < limit:
                rows = Cursor(connection).execute(PAGE, (position,), prepare=True, binary=True).fetchall()
                for row in rows:
                    unpack(row[5])
                if not rows:
                    break
                found += len(rows)
                position = rows[-1][2]
        return found
