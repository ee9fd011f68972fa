"""Events as a store keeps them, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from eventstore import codec
from eventstore.errors import DeserializationError, InvalidArgument, SerializationError, UnknownEventType
from eventstore.event import ENVELOPE, Event, Record, event_class, stored_event, stored_plain_event, timestamp_parts
from eventstore.types import learn

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BATCH_BYTES = 256 * 1024 * 1024
"""The largest append, encoded: well below what one message to the server may have."""

_OWN = ENVELOPE | {"event_type", "_record", "_data"}


class NewRecord(NamedTuple):
    """What an event brings to an append; the store adds its stream, version and position. Columns as of Record."""

    event_id: bytes
    event_type: str
    data: bytes
    metadata: bytes
    timestamp: bytes
    utc_offset: int


def encode_events(events: Iterable[Event]) -> list[NewRecord]:
    """Raises SerializationError for a value that can't be stored, InvalidArgument for what is no event, or twice."""
    records = [_encode_event(event) for event in events]
    if len({record.event_id for record in records}) != len(records):
        raise InvalidArgument("an event stands twice in this append: each event happened once")
    size = sum(len(record.data) + len(record.metadata) for record in records)
    if size > MAX_BATCH_BYTES:
        raise InvalidArgument(f"this append has {size:,} bytes; at most {MAX_BATCH_BYTES:,} are possible in one")
    return records


def _encode_event(event: Event) -> NewRecord:
    if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"only events can be appended, not {type(event).__name__}")
    cls = type(event)
    if cls is not Event:
        learn(cls)
        for name in event.__dict__.keys() - _OWN - (cls._fields or {}).keys():
            raise SerializationError(event.event_type, name, "it is no field of the class, and would be lost")
    metadata = event.metadata
    timestamp, utc_offset = timestamp_parts(event.timestamp)
    return NewRecord(
        event.event_id.bytes,
        event.event_type,
        codec.encode(event.event_type, event.data),
        codec.encode(f"metadata of {event.event_type}", metadata) if metadata else codec.EMPTY_MAP,
        timestamp,
        utc_offset,
    )


def decode_events(records: Iterable[Record], *, strict: bool) -> list[Event]:
    """Raises DeserializationError for what can't be read; if ``strict``, UnknownEventType for types without a class."""
    return [decode_event(record, strict=strict) for record in records]


def decode_event(record: Record, *, strict: bool) -> Event:
    """One of them."""
    _, _, _, _, event_type, packed, packed_metadata, _, _ = record
    cls = event_class(event_type)
    if cls is None and strict:
        raise UnknownEventType(event_type, _described(record), "no class was defined with this event_type")
    try:
        metadata: dict[str, Any] = {} if packed_metadata == codec.EMPTY_MAP else codec.decode(packed_metadata)
        if cls is None:
            return stored_plain_event(codec.decode(packed), metadata, record)
        learn(cls)
        fields = codec.decode(packed)
        declared = cls._fields
        if declared is not None and fields.keys() != declared.keys():
            fields = codec.completed(fields, declared)
    except DeserializationError as error:
        raise DeserializationError(_described(record), error.reason) from error.__cause__
    except ValueError as error:
        raise DeserializationError(_described(record), str(error)) from error
    return stored_event(cls, fields, metadata, record)


def _described(record: Record) -> str:
    return f"{record[4]}, version {record[1]} of stream {record[0]!r},"
