"""Events as a store keeps them, and back."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict

from eventstore import codec
from eventstore.codec.personal import marks_of
from eventstore.codec.record import (
    DATA,
    EVENT_ID,
    EVENT_TYPE,
    METADATA,
    REVISION,
    STREAM_ID,
    VERSION,
    Row,
    timestamp_parts,
)
from eventstore.codec.registry import learn
from eventstore.codec.sealing import fill_metadata, fill_placeholders, opened_fields, sealed_paths
from eventstore.codec.upcasting import UpcastFailed, upcast
from eventstore.codec.values import copied, is_required
from eventstore.context import current_metadata
from eventstore.core.personal_data import is_personal, metadata_of, opened_data, opened_metadata, sealed_parts
from eventstore.errors import (
    DeserializationError,
    InvalidArgument,
    NewerRevision,
    SerializationError,
    UnknownEventType,
)
from eventstore.event import ENVELOPE, Event, mark_used
from eventstore.event_types import event_class, is_ignored
from eventstore.observing import current_headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from dataclasses import Field

    from eventstore.codec.sealing import Keys

MAX_BATCH_BYTES = 256 * 1024 * 1024
"""The largest append, encoded: well below what one message to the server may have."""

_OWN = frozenset(
    {*ENVELOPE, "event_type", "_record", "_id_given", "_used", "_caused", "_closing", "_data", "_sealed", "_subjects"}
    | {"__orig_class__"}
)
"""What an event may have as attributes beside its fields; the last one is what ``Boxed[int](...)`` leaves behind."""

_NEW_ID = frozenset({"_record", "_id_given", "_used"})
"""An event whose id is new has none of them as an attribute."""


class _Place(TypedDict):
    """Where an unreadable event is."""

    stream_id: str
    version: int
    revision: int


class NewRecords(NamedTuple):
    """What events bring to an append, by columns as of a Row; the store adds their stream, versions and positions."""

    event_ids: list[bytes]
    event_types: list[str]
    data: list[bytes]
    metadata: list[bytes]
    timestamps: list[bytes]
    utc_offsets: list[int]
    revisions: list[int]


NO_RECORDS = NewRecords([], [], [], [], [], [], [])


def encode_events(events: Iterable[Event], keys: Keys | None = None) -> NewRecords:
    """Encode events by columns. Personal data is sealed by the ``keys``.

    Raises SerializationError for a value that can't be stored, InvalidArgument for an object that is not an event, or
    for an event that appears twice, and ForgottenSubject; InvalidOperation for personal data without keys.
    """
    records = NewRecords([], [], [], [], [], [], [])
    caused, headers = current_metadata(), current_headers()
    for event in events:
        _encode_event(event, records, caused, headers, keys)
    if len(set(records.event_ids)) != len(records.event_ids):
        raise InvalidArgument("this append contains the same event twice: append each event once")
    size = sum(map(len, records.data)) + sum(map(len, records.metadata))
    if size > MAX_BATCH_BYTES:
        raise InvalidArgument(f"this append has {size:,} bytes, more than the limit of {MAX_BATCH_BYTES:,}: split it")
    return records


def given_ids(events: Iterable[Event]) -> list[bytes]:
    """The ids of events that may stand in a stream already: given by somebody, read, or used before.

    The next time, all of them are.
    """
    found: list[bytes] = []
    for event in events:
        if not _NEW_ID.isdisjoint(event.__dict__):
            found.append(event.event_id.bytes)
        mark_used(event)
    return found


def _encode_event(
    event: Event,
    records: NewRecords,
    caused: Mapping[str, Any] | None,
    headers: Mapping[str, Any] | None,
    keys: Keys | None,
) -> None:
    if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"only events can be appended, not {type(event).__name__}")
    cls: Any = type(event)
    attributes, event_type = event.__dict__, event.event_type
    if cls is Event:
        revision = _checked_revision(event)
    elif not attributes.keys() <= (known := _known_names(cls)):
        (name, *_) = attributes.keys() - known
        raise SerializationError(event_type, name, "it is not a field of the class, and would be lost")
    else:
        revision = cls.revision
    data, metadata = event.data, metadata_of(event, caused)
    if headers is not None:
        metadata = {**headers, **(metadata or {})}
    if "_sealed" in attributes or is_personal(event):
        data, metadata = sealed_parts(event, metadata, keys)
    timestamp, utc_offset = timestamp_parts(event.timestamp)
    event_ids, event_types, encoded_data, encoded_metadata, timestamps, utc_offsets, revisions = records
    event_ids.append(event.event_id.bytes)
    event_types.append(event_type)
    encoded_data.append(codec.encode(event_type, data))
    encoded_metadata.append(codec.encode(f"metadata of {event_type}", metadata) if metadata else codec.EMPTY_MAP)
    timestamps.append(timestamp)
    utc_offsets.append(utc_offset)
    revisions.append(revision)


@cache
def _known_names(cls: Any) -> frozenset[str]:
    """What an event of this class may have as attributes. Its types and upcasters are checked as well, once a class."""
    learn(cls)
    return _OWN.union(cls._fields or {})


_Kind: TypeAlias = "tuple[type[Event], Mapping[str, Field[Any]], tuple[str, ...], int]"
"""How events of one type are read: their class, its fields, the names of these in the order it stores them in, and its
revision, or one of these, which no event has."""
_HOLDS_PERSONAL, _HAS_NO_CLASS = 0, -1


def _checked_revision(event: Event) -> int:
    """The revision of a plain event's data. Refuses one that the class of its type could not be made of again."""
    revision: int = event.__dict__.get("revision", 1)
    cls = event_class(event.event_type)
    if cls is None:
        return revision
    learn(cls)
    if revision > cls.revision:
        raise SerializationError(
            event.event_type,
            "",
            f"it is of revision {revision}, and the class of this type has revision {cls.revision}",
        )
    data = event.data
    if revision != cls.revision:
        try:
            data = upcast(cls, copied(data, {}), revision)
        except UpcastFailed as error:
            raise SerializationError(event.event_type, "", str(error)) from (error.__cause__ or error)
    for name, field in (cls._fields or {}).items():
        if name not in data and is_required(field):
            raise SerializationError(event.event_type, name, "it is missing, and the class of this type needs it")
    return revision


def decode_events(records: Iterable[Row], *, strict: bool, keys: Keys | None = None) -> list[Event]:
    """Raises what ``decode_each`` does."""
    return list(decode_each(records, strict=strict, keys=keys))


def decode_each(  # noqa: C901 each call would cost as much as a field
    records: Iterable[Row], *, strict: bool, keys: Keys | None = None
) -> Iterator[Event]:
    """Makes events without calling their classes: history is not validated again.

    ``keys`` are those of all subjects in the records; None in a program without a key store.

    Raises DeserializationError for what can't be read; if ``strict``, UnknownEventType for types without a class.
    """
    kinds: dict[str, _Kind] = {}
    decode, empty = codec.decode, codec.EMPTY_MAP
    new, assign = object.__new__, object.__setattr__  # The class may be frozen.
    for record in records:
        _, _, _, _, event_type, data, metadata, _, _, revision = record
        if event_type not in kinds:
            kinds[event_type] = _kind_of(record, strict=strict)
        cls, fields, order, present = kinds[event_type]
        attributes: dict[str, Any]
        try:
            if revision == present:  # First, as nearly all are of the class as it is now.
                try:
                    attributes = decode(data)
                except DeserializationError:
                    attributes = _without_gone_types(cls, data, revision)
                if tuple(attributes) != order:
                    attributes = codec.completed(attributes, fields)
            elif cls is Event:
                attributes = {"_data": decode(data, lenient=True), "event_type": event_type, "revision": revision}
            elif present == _HOLDS_PERSONAL:
                attributes, metadata = _with_sealed(record, cls, keys), empty
            else:
                attributes = _older(cls, data, revision)
                attributes["revision"] = revision
            if metadata != empty:
                attributes["metadata"] = decode(metadata, lenient=cls is Event)
        except codec.SealedFound:
            attributes = _with_sealed(record, cls, keys)
        except (DeserializationError, ValueError) as error:
            raise _unreadable(record, error) from _cause_of(error)
        attributes["_record"] = record
        event = new(cls)
        assign(event, "__dict__", attributes)
        yield event


def _with_sealed(record: Row, cls: type[Event], keys: Keys | None) -> dict[str, Any]:
    """The attributes of an event that may hold sealed values. Raises DeserializationError."""
    attributes: dict[str, Any]
    try:
        if cls is Event:
            attributes, subjects, sealed = _plain_with_sealed(record, keys)
        else:
            attributes, subjects = _opened_attributes(record, cls, keys)
            sealed = fill_placeholders(marks_of(cls), attributes) if subjects else []
            if record[REVISION] != cls.revision:
                attributes["revision"] = record[REVISION]
        if record[METADATA] != codec.EMPTY_MAP:
            metadata = opened_metadata(record, keys)
            attributes["metadata"] = codec.decode(metadata.packed, lenient=cls is Event, sealed=True)
            if metadata.subjects:
                subjects |= metadata.subjects
                sealed += fill_metadata(cls._personal_metadata, attributes["metadata"])
    except (DeserializationError, ValueError) as error:
        raise _unreadable(record, error) from _cause_of(error)
    if sealed:
        attributes["_sealed"] = tuple(sealed)
    if subjects:
        attributes["_subjects"] = frozenset(subjects)
    return attributes


def _plain_with_sealed(record: Row, keys: Keys | None) -> tuple[dict[str, Any], set[str], list[str]]:
    """The attributes of an event without a class, its subjects, and the paths to what is still sealed."""
    data = opened_data(record, keys)
    values = codec.decode(data.packed, lenient=True, sealed=True)
    attributes = {"_data": values, "event_type": record[EVENT_TYPE], "revision": record[REVISION]}
    return attributes, set(data.subjects), sealed_paths(values)


def _opened_attributes(record: Row, cls: type[Event], keys: Keys | None) -> tuple[dict[str, Any], set[str]]:
    """The fields of an event, opened as far as there are keys, and its subjects."""
    if record[REVISION] == cls.revision:
        with suppress(DeserializationError):  # Of a type that is gone: what follows says which one.
            found = opened_fields(record[DATA], record[EVENT_ID], "data", keys)
            if found is not None:
                values, subjects = found
                return codec.completed(values, cls._fields or {}), subjects
    data = opened_data(record, keys)
    return _older(cls, data.packed, record[REVISION], sealed=True), set(data.subjects)


def _unreadable(record: Row, error: DeserializationError | ValueError) -> DeserializationError:
    """The error that says which event can't be read, for one that does not."""
    if isinstance(error, NewerRevision):
        return NewerRevision(error.name, error.stored, error.known, _described(record), **_place_of(record))
    reason = error.reason if isinstance(error, DeserializationError) else str(error)
    return DeserializationError(_described(record), reason, **_place_of(record))


def _cause_of(error: DeserializationError | ValueError) -> BaseException | None:
    """What an upcaster or the decoder raised."""
    if isinstance(error, NewerRevision):
        return None
    return error.__cause__ or (None if isinstance(error, DeserializationError) else error)


def decoded_data(event_type: str, revision: int, data: bytes) -> dict[Any, Any]:
    """The data of an event as its class has it now, or as it was stored if its type has no class here.

    Personal values are placeholders, or Sealed without a class.

    Raises DeserializationError, RevisionError.
    """
    cls = event_class(event_type)
    if cls is None:
        return codec.decode(data, lenient=True, sealed=True)
    learn(cls)
    try:
        values = _older(cls, data, revision, sealed=True)
        fill_placeholders(marks_of(cls), values)
    except ValueError as error:
        raise DeserializationError(event_type, str(error), revision=revision) from (error.__cause__ or error)
    return values


def _older(cls: type[Event], data: bytes, revision: int, *, sealed: bool = False) -> dict[str, Any]:
    """The fields of an event that an older revision of its class stored."""
    if revision > cls.revision:
        raise NewerRevision(cls.event_type, revision, cls.revision, "msgpack")
    fields = cls._fields or {}
    try:
        values = codec.decode(data, sealed=sealed)
    except NewerRevision:
        raise
    except DeserializationError:
        return _without_gone_types(cls, data, revision, sealed=sealed)
    return codec.completed(upcast(cls, values, revision), fields)


def _without_gone_types(cls: type[Event], data: bytes, revision: int, *, sealed: bool = False) -> dict[str, Any]:
    """As ``_older``, of data that holds a type that this program lacks: an upcaster, or the class, may not need it."""
    values = codec.decode(data, lenient=True, sealed=sealed)
    attributes = codec.completed(upcast(cls, values, revision), cls._fields or {})
    if any(codec.unregistered(attributes)):
        codec.decode(data, sealed=sealed)  # Says which one.
    return attributes


def _kind_of(record: Row, *, strict: bool) -> _Kind:
    event_type = record[EVENT_TYPE]
    cls = event_class(event_type)
    if cls is None:
        if strict and not is_ignored(event_type):
            raise UnknownEventType(
                event_type,
                _described(record),
                "no class was defined with this event_type: import the module that defines it",
                **_place_of(record),
            )
        return Event, {}, (), _HAS_NO_CLASS
    learn(cls)
    fields = cls._fields or {}
    present = _HOLDS_PERSONAL if marks_of(cls).personal else cls.revision
    return cls, fields, tuple(fields), present


def _described(record: Row) -> str:
    return f"{record[EVENT_TYPE]}, version {record[VERSION]} of stream {record[STREAM_ID]!r},"


def _place_of(record: Row) -> _Place:
    return {"stream_id": record[STREAM_ID], "version": record[VERSION], "revision": record[REVISION]}
