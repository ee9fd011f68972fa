"""Events as a store keeps them, and back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from eventstore import codec
from eventstore.errors import DeserializationError, InvalidArgument, SerializationError, UnknownEventType
from eventstore.event import ENVELOPE, Event, Record, event_class, is_required, stored_event, timestamp_parts
from eventstore.types import learn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from dataclasses import Field

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
        for name in event.__dict__.keys() - _known_names(cast("Any", cls)):
            raise SerializationError(event.event_type, name, "it is no field of the class, and would be lost")
    else:
        _check_readable(event)
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


@cache
def _known_names(cls: Any) -> frozenset[str]:
    """What an event of this class may have as attributes."""
    return _OWN.union(cls._fields or {})


class _Kind(NamedTuple):
    """How events of one stored type are read."""

    cls: type[Event]
    fields: Mapping[str, Field[Any]]
    order: tuple[str, ...]
    """The names of the fields, as an event of this very class has stored them."""


def _check_readable(event: Event) -> None:
    """Refuse a plain event that the class of its type could not be made of when it is read."""
    cls = event_class(event.event_type)
    fields = (cls._fields if cls else None) or {}
    for name, field in fields.items():
        if name not in event.data and is_required(field):
            raise SerializationError(event.event_type, name, "it is missing, and the class of this type needs it")


def decode_events(records: Iterable[Record], *, strict: bool) -> list[Event]:
    """Raises what ``decode_each`` does."""
    return list(decode_each(records, strict=strict))


def decode_each(records: Iterable[Record], *, strict: bool) -> Iterator[Event]:
    """Raises DeserializationError for what can't be read; if ``strict``, UnknownEventType for types without a class."""
    kinds: dict[str, _Kind] = {}
    decode, empty = codec.decode, codec.EMPTY_MAP
    for record in records:
        event_type = record[4]
        kind = kinds.get(event_type)
        if kind is None:
            kind = kinds[event_type] = _kind_of(record, strict=strict)
        cls, fields, order = kind
        try:
            if cls is Event:
                data = {"_data": decode(record[5], lenient=True), "event_type": event_type}
            else:
                data = decode(record[5])
                if tuple(data) != order:
                    data = codec.completed(data, fields)
            if record[6] != empty:
                data["metadata"] = decode(record[6], lenient=cls is Event)
        except DeserializationError as error:
            raise DeserializationError(_described(record), error.reason) from error.__cause__
        except ValueError as error:
            raise DeserializationError(_described(record), str(error)) from error
        yield stored_event(cls, data, record)


def _kind_of(record: Record, *, strict: bool) -> _Kind:
    cls = event_class(record[4])
    if cls is None:
        if strict:
            raise UnknownEventType(record[4], _described(record), "no class was defined with this event_type")
        return _Kind(Event, {}, ())
    learn(cls)
    fields = cls._fields or {}
    return _Kind(cls, fields, tuple(fields))


def _described(record: Record) -> str:
    return f"{record[4]}, version {record[1]} of stream {record[0]!r},"
