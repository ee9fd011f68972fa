"""Rows of events on their way out of a store and into one, with everything that they have."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import islice
from typing import Any

from psycopg import Connection, Cursor
from psycopg.sql import SQL, Composed

from eventstore.codec.record import Record
from eventstore.core.exporting import Exported

COLUMNS = SQL("""
    event.stream_id, event.version, event.position, pg_catalog.uuid_send(event.event_id), event.event_type, event.data,
    event.metadata, pg_catalog.timestamptz_send(event.timestamp), event.utc_offset, event.revision, event.closing,
    event.tombstone
""")
"""Of a table that is called ``event``, for ``exported``."""
_COPY = SQL("""
    COPY {table} (version, position, timestamp, utc_offset, revision, closing, tombstone, event_id, stream_id,
        event_type, data, metadata)
    FROM STDIN (FORMAT binary)
""")
_TOGETHER = 100
"""How many rows are sent at once."""
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_FIXED = struct.Struct("!hiqiqi8siiihi?i?i16si")
"""The number of columns; then each with its length before it, up to the length of the stream id."""


def exported(row: tuple[Any, ...]) -> Exported:
    """A row of COLUMNS, which was asked for in binary."""
    return Exported(Record(*row[:10]), row[10], row[11])


def copy_into(connection: Connection[Any], table: Composed, events: Iterable[Exported]) -> None:
    """Put events into a table that has the columns of events. Raises psycopg.Error."""
    with Cursor(connection).copy(_COPY.format(table=table)) as copy:
        copy.write(_HEAD)
        rows = map(_packed, events)
        while several := b"".join(islice(rows, _TOGETHER)):  # Singly, half of the time would be that of the calls.
            copy.write(several)
        copy.write(b"\xff\xff")


def _packed(exported: Exported) -> bytes:
    """A row in the binary format of COPY."""
    record, closing, tombstone = exported
    stream_id, version, position, event_id, event_type, data, metadata, timestamp, utc_offset, revision = record
    texts = stream_id.encode(), event_type.encode()
    fixed = _FIXED.pack(
        12, 8, version, 8, position, 8, timestamp, 4, utc_offset, 2, revision, 1, closing, 1, tombstone, 16, event_id,
        len(texts[0]),
    )  # fmt: skip
    lengths = (len(each).to_bytes(4) for each in (texts[1], data, metadata))
    return b"".join((fixed, texts[0], next(lengths), texts[1], next(lengths), data, next(lengths), metadata))
