"""An event as a store keeps it: one row, and what can be read from it without decoding the event's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from eventstore.codec.values import MICROSECOND, fixed_zone, uuid_of
from eventstore.errors import DeserializationError

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the microseconds of a record's timestamp start: PostgreSQL's own epoch, so that nothing needs converting."""

_EPOCH_OF_CLOCKS = EPOCH.replace(tzinfo=None)
_NO_OFFSET = timedelta()


class Record(NamedTuple):
    """An event as a store keeps it: what a row of the table is, column by column."""

    stream_id: str
    version: int
    position: int
    event_id: bytes
    event_type: str
    data: bytes
    metadata: bytes
    timestamp: bytes
    """Microseconds since 2000-01-01T00:00Z, eight bytes, the highest first."""
    utc_offset: int
    """Seconds east of UTC."""
    revision: int
    """The revision of the class of events that wrote ``data``."""


Row: TypeAlias = tuple[str, int, int, bytes, str, bytes, bytes, bytes, int, int]
"""A Record, or a plain tuple of the same columns: drivers return tuples, and to make each a Record would cost time."""

STREAM_ID: Final = 0
VERSION: Final = 1
POSITION: Final = 2
EVENT_ID: Final = 3
EVENT_TYPE: Final = 4
DATA: Final = 5
METADATA: Final = 6
TIMESTAMP: Final = 7
UTC_OFFSET: Final = 8
REVISION: Final = 9
"""Where the columns are in a Row."""


def happened_at(record: Row) -> datetime:
    """When an event happened, on its own clock. Raises DeserializationError."""
    utc_offset = record[UTC_OFFSET]
    microseconds = int.from_bytes(record[TIMESTAMP], signed=True)
    try:
        local = _EPOCH_OF_CLOCKS + timedelta(microseconds=microseconds, seconds=utc_offset)
        return local.replace(tzinfo=fixed_zone(utc_offset))
    except (OverflowError, ValueError) as error:  # Another writer's: PostgreSQL knows more years than Python.
        where = f"timestamp of version {record[VERSION]} of stream {record[STREAM_ID]!r}"
        raise DeserializationError(where, str(error)) from None


ENVELOPE_READERS: Mapping[str, Callable[[Row], Any]] = {
    "event_id": lambda record: uuid_of(int.from_bytes(record[EVENT_ID])),
    "timestamp": happened_at,
    "metadata": lambda _: {},
    "stream_id": itemgetter(STREAM_ID),
    "version": itemgetter(VERSION),
    "position": itemgetter(POSITION),
    "revision": itemgetter(REVISION),
}
"""How the attributes that every event has are read from its record. Metadata that is not empty is decoded elsewhere."""


def timestamp_parts(timestamp: datetime) -> tuple[bytes, int]:
    """An aware datetime as a record keeps it: ``timestamp`` and ``utc_offset``."""
    microseconds = ((timestamp - EPOCH) // MICROSECOND).to_bytes(8, signed=True)
    if timestamp.tzinfo is UTC:  # As nearly all are; a zone is not asked where it says nothing new.
        return microseconds, 0
    offset = timestamp.utcoffset() or _NO_OFFSET
    return microseconds, offset.days * 86_400 + offset.seconds
