"""An event as a store keeps it: one row, and what can be read from it without decoding the event's data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from eventstore.codec.values import MICROSECOND, fixed_zone, uuid_of
from eventstore.errors import DeserializationError

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the microseconds of a record's timestamp start: PostgreSQL's own epoch, so that nothing needs converting."""

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


def envelope_of(record: Row) -> dict[str, Any]:
    """The attributes that every event has beside its own fields, as this one has them; its metadata as if empty."""
    stream_id, version, position, event_id, _, _, _, timestamp, utc_offset, revision = record
    microseconds = int.from_bytes(timestamp, signed=True)
    try:
        local = EPOCH.replace(tzinfo=None) + timedelta(microseconds=microseconds, seconds=utc_offset)
        happened = local.replace(tzinfo=fixed_zone(utc_offset))
    except (OverflowError, ValueError) as error:  # Another writer's: PostgreSQL knows more years than Python.
        raise DeserializationError(f"timestamp of version {version} of stream {stream_id!r}", str(error)) from None
    return {
        "event_id": uuid_of(int.from_bytes(event_id)),
        "timestamp": happened,
        "metadata": {},
        "stream_id": stream_id,
        "version": version,
        "position": position,
        "revision": revision,
    }


def timestamp_parts(timestamp: datetime) -> tuple[bytes, int]:
    """An aware datetime as a record keeps it: ``timestamp`` and ``utc_offset``."""
    microseconds = ((timestamp - EPOCH) // MICROSECOND).to_bytes(8, signed=True)
    if timestamp.tzinfo is UTC:  # As nearly all are; a zone is not asked where it says nothing new.
        return microseconds, 0
    offset = timestamp.utcoffset() or _NO_OFFSET
    return microseconds, offset.days * 86_400 + offset.seconds
