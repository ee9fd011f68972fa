"""Events as a store keeps them, and back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from eventstore import codec
from eventstore.codec.record import EVENT_TYPE, STREAM_ID, VERSION, Row, timestamp_parts
from eventstore.codec.registry import learn
from eventstore.codec.values import is_required
from eventstore.errors import DeserializationError, InvalidArgument, SerializationError, UnknownEventType
from eventstore.event import ENVELOPE, Event, event_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from dataclasses import Field

MAX_BATCH_BYTES = 256 * 1024 * 1024
"""The largest append, encoded: well below what one message to the server may have."""

_OWN = ENVELOPE | {"event_type", "_record", "_id_given", "_data", "__orig_class__"}
"""What an event may have as attributes beside its fields; the last one is what ``Boxed[int](...)`` leaves behind."""


_NEW_ID = frozenset({"_record", "_id_given"})
"""An event whose id is new has neither as an attribute."""


class NewRecords(NamedTuple):
    """What events bring to an append, by columns as of a Row; the store adds their stream, versions and positions."""

    event_ids: list[bytes]
    event_types: list[str]
    data: list[bytes]
    metadata: list[bytes]
    timestamps: list[bytes]
    utc_offsets: list[int]


def encode_events(events: Iterable[Event]) -> NewRecords:
    """Raises SerializationError for a value that can't be stored, InvalidArgument for what is no event, or twice."""
    records = NewRecords([], [], [], [], [], [])
    for event in events:
        _encode_event(event, records)
    if len(set(records.event_ids)) != len(records.event_ids):
        raise InvalidArgument("an event stands twice in this append: each event happened once")
    size = sum(map(len, records.data)) + sum(map(len, records.metadata))
    if size > MAX_BATCH_BYTES:
        raise InvalidArgument(f"this append has {size:,} bytes; at most {MAX_BATCH_BYTES:,} are possible in one")
    return records


def given_ids(events: Iterable[Event]) -> list[bytes]:
    """The ids of events that may stand in a stream already: those that somebody gave, and those that were read."""
    return [event.event_id.bytes for event in events if not _NEW_ID.isdisjoint(event.__dict__)]


def _encode_event(event: Event, records: NewRecords) -> None:
    if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"only events can be appended, not {type(event).__name__}")
    cls: Any = type(event)
    attributes, event_type = event.__dict__, event.event_type
    if cls is Event:
        _check_readable(event)
    elif not attributes.keys() <= (known := _known_names(cls)):
        (name, *_) = attributes.keys() - known
        raise SerializationError(event_type, name, "it is no field of the class, and would be lost")
    metadata = attributes.get("metadata")  # Made when it is first asked for: not there, it is empty.
    timestamp, utc_offset = timestamp_parts(event.timestamp)
    event_ids, event_types, encoded_data, encoded_metadata, timestamps, utc_offsets = records
    event_ids.append(event.event_id.bytes)
    event_types.append(event_type)
    encoded_data.append(codec.encode(event_type, event.data))
    encoded_metadata.append(codec.encode(f"metadata of {event_type}", metadata) if metadata else codec.EMPTY_MAP)
    timestamps.append(timestamp)
    utc_offsets.append(utc_offset)


@cache
def _known_names(cls: Any) -> frozenset[str]:
    """What an event of this class may have as attributes. Their types are learnt as well, once for each class."""
    learn(cls)
    return _OWN.union(cls._fields or {})


_Kind: TypeAlias = "tuple[type[Event], Mapping[str, Field[Any]], tuple[str, ...]]"
"""How events of one type are read: their class, its fields, and the names of these in the order it stores them in."""


def _check_readable(event: Event) -> None:
    """Refuse a plain event that the class of its type could not be made of when it is read."""
    cls = event_class(event.event_type)
    fields = (cls._fields if cls else None) or {}
    for name, field in fields.items():
        if name not in event.data and is_required(field):
            raise SerializationError(event.event_type, name, "it is missing, and the class of this type needs it")


def decode_events(records: Iterable[Row], *, strict: bool) -> list[Event]:
    """Raises what ``decode_each`` does."""
    return list(decode_each(records, strict=strict))


def decode_each(records: Iterable[Row], *, strict: bool) -> Iterator[Event]:
    """Makes events without calling their classes: history is not validated again.

    Raises DeserializationError for what can't be read; if ``strict``, UnknownEventType for types without a class.
    """
    kinds: dict[str, _Kind] = {}
    decode, empty = codec.decode, codec.EMPTY_MAP
    new, assign = object.__new__, object.__setattr__  # The class may be frozen.
    for record in records:
        _, _, _, _, event_type, data, metadata, _, _ = record
        if event_type not in kinds:
            kinds[event_type] = _kind_of(record, strict=strict)
        cls, fields, order = kinds[event_type]
        attributes: dict[str, Any]
        try:
            if cls is Event:
                attributes = {"_data": decode(data, lenient=True), "event_type": event_type}
            else:
                attributes = decode(data)
                if tuple(attributes) != order:
                    attributes = codec.completed(attributes, fields)
            if metadata != empty:
                attributes["metadata"] = decode(metadata, lenient=cls is Event)
        except DeserializationError as error:
            raise DeserializationError(_described(record), error.reason) from error.__cause__
        except ValueError as error:
            raise DeserializationError(_described(record), str(error)) from error
        attributes["_record"] = record
        event = new(cls)
        assign(event, "__dict__", attributes)
        yield event


def _kind_of(record: Row, *, strict: bool) -> _Kind:
    cls = event_class(record[EVENT_TYPE])
    if cls is None:
        if strict:
            raise UnknownEventType(record[EVENT_TYPE], _described(record), "no class was defined with this event_type")
        return Event, {}, ()
    learn(cls)
    fields = cls._fields or {}
    return cls, fields, tuple(fields)


def _described(record: Row) -> str:
    return f"{record[EVENT_TYPE]}, version {record[VERSION]} of stream {record[STREAM_ID]!r},"
