"""Values to bytes: what would not come back equal and of the same type is refused, with the path to it."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID

import msgpack

from eventstore.codec.format import (
    BIG_INT,
    CLOCK_EPOCH,
    DATACLASS,
    DATE,
    DATETIME,
    DECIMAL,
    ENUM,
    FROZENSET,
    HARMLESS_BYTES,
    MAX_DEPTH,
    SEALED,
    SET,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID_,
    check_size,
    untyped_msgpack,
)
from eventstore.codec.registry import registered_class, registered_name
from eventstore.codec.upcasting import chain_of, revision_of
from eventstore.codec.values import IMMUTABLE, MAX_COLLISIONS, MICROSECOND, Sealed, check_hashes
from eventstore.errors import RevisionError, SerializationError
from eventstore.signals import raised_by_a_signal
from eventstore.versions import StreamVersion

_BUFFER = 512
"""Bytes that a packer begins with. Its own default, 256 KiB, costs more than packing most events."""
_CLOCK_EPOCH_DAY = CLOCK_EPOCH.toordinal()
_UTC_EPOCH = CLOCK_EPOCH.replace(tzinfo=UTC)
_UTC_OFFSET = bytes(4)
_extension: Callable[[tuple[int, bytes]], msgpack.ExtType] = partial(cast("Any", tuple).__new__, msgpack.ExtType)
"""Without its checks, which take longer than all else that is done for a UUID."""
_type_of: Callable[[Any], type[Any]] = type
"""What a cast would say to type checkers, without the call that it costs for each value."""
_pack_long = struct.Struct(">q").pack
_pack_int = struct.Struct(">i").pack
_HASHED = frozenset({dict, set, frozenset})
_REFUSED_IN_PACKING = frozenset({str, datetime, time})
"""Types of which packing refuses some values (no UTF-8, an odd time zone), without knowing where they stand."""


class Ciphertext:
    """A personal value that is encrypted: it takes its place in what is encoded. ``payload`` is that of code 13."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class _Refused(Exception):
    """A value that can't be stored; collects the path to it on the way out."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str] = []


# --- what may be stored -----------------------------------------------------------------------------------------------


def _check(value: Any, depth: int, plain: frozenset[type] = IMMUTABLE) -> None:
    """Raise _Refused for what would not come back equal and of the same type. Sees every container, however nested."""
    if depth > MAX_DEPTH:
        raise _Refused(f"nested more than {MAX_DEPTH} deep, or inside itself")
    kind = _type_of(value)
    parts: Iterable[tuple[Any, Any]]
    if kind in _HASHED and len(value) > MAX_COLLISIONS:
        _check_hashes(value)
    if kind is dict:
        parts = value.items()
    elif kind is list or kind is tuple:
        parts = enumerate(cast("Iterable[Any]", value))
    elif kind is set or kind is frozenset:
        parts = ((None, item) for item in value)
    else:
        parts = _parts_of_other(value)
    step: Any = None
    try:
        for step, item in parts:
            if type(step) not in plain:
                _check(step, depth + 1, plain)
            if type(item) not in plain:
                _check(item, depth + 1, plain)
    except _Refused as refused:
        refused.path.append(_written(kind, step))
        raise


def _check_unless(plain: frozenset[type], value: Any) -> None:
    if type(value) not in plain:
        _check(value, 0, plain)


def _check_hashes(members: Collection[Any]) -> None:
    try:
        check_hashes(members)
    except ValueError as error:
        raise _Refused(str(error)) from None


def _written(kind: type, step: object) -> str:
    if kind is set or kind is frozenset:
        return "{...}"  # A member has no place in it.
    return f".{step}" if type(step) is str and step.isprintable() else f"[{step!r}]"


def _registered(cls: type) -> str:
    name = registered_name(cls)
    if name is None:
        raise _Refused(f"{cls.__qualname__} is not registered: decorate it with @eventstore.register_type")
    if registered_class(name) is not cls:
        raise _Refused(f"the name {name!r} belongs to a newer definition of {cls.__qualname__} by now")
    return name


def _parts_of_other(value: Any) -> Iterable[tuple[str, Any]]:
    """A dataclass's fields; nothing of what has no parts, once it is known to be storable."""
    cls = _type_of(value)
    if cls is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("a str with a lone surrogate can't be encoded in UTF-8") from None
    elif cls is datetime or cls is time:
        _write_zone(value)
    elif isinstance(value, enum.Enum):
        _registered(cls)
        if not isinstance(value, enum.Flag) and cls.__members__.get(value.name) is not value:
            raise _Refused(f"{value!r} is not found by its name")
    elif dataclasses.is_dataclass(cls):
        return _fields_of(value)
    elif cls is not StreamVersion and cls is not Ciphertext:
        raise _Refused(_advice(cls))
    return ()


def _fields_of(value: Any) -> Iterable[tuple[str, Any]]:
    cls = _type_of(value)
    _registered(cls)
    chain_of(cls)  # What could not be read is not written.
    try:
        object.__new__(cls)
    except TypeError:  # A list, an exception ... that is a dataclass as well.
        raise _Refused(f"a {cls.__qualname__} is more than its fields, and the rest would be lost") from None
    fields = {field.name for field in dataclasses.fields(cls)}
    for name in getattr(value, "__dict__", {}):
        if name not in fields:
            raise _Refused(f"{cls.__qualname__} has an attribute {name!r} that is not a field of it, and would be lost")
    for name in fields:
        if not hasattr(value, name):
            raise _Refused(f"{cls.__qualname__} has no value for its field {name!r}")
    return [(name, getattr(value, name)) for name in fields]


def _advice(kind: type) -> str:
    if kind is Sealed:
        return "it is sealed: read the event by a store that has the subject's key, or leave the value out"
    for base in (str, int, float, bytes, dict, list, tuple, set, UUID, Decimal, datetime, date):
        if issubclass(kind, base):
            return f"a {kind.__qualname__} would come back as a {base.__name__}: convert it to one"
    if issubclass(kind, bytearray | memoryview):
        return f"a {kind.__qualname__} would come back as bytes: convert it to bytes"
    return (
        f"values of type {kind.__module__}.{kind.__qualname__} are not among those that can be stored; "
        "convert it to one of them, or make it a dataclass"
    )


# --- to bytes ---------------------------------------------------------------------------------------------------------


def _pack(value: Any) -> bytes:
    packer = untyped_msgpack.Packer(default=_to_extension, strict_types=True, buf_size=_BUFFER)
    packed: bytes = packer.pack(value)
    return packed


def _to_extension(value: Any) -> msgpack.ExtType | int:
    kind = _type_of(value)
    if kind is StreamVersion:
        return int(value)  # All of it that an event's field means.
    writer = _WRITERS.get(kind)
    if writer is not None:
        code, write = writer
        return _extension((code, write(value)))
    if isinstance(value, enum.Flag):
        return _extension((ENUM, _pack([_registered(kind), value.value])))
    if isinstance(value, enum.Enum):
        return _extension((ENUM, _pack([_registered(kind), value.name])))
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    revision = revision_of(kind)
    return _extension((DATACLASS, _pack([_registered(kind), fields, revision][: 2 if revision == 1 else 3])))


def _write_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _write_zone(value: datetime | time) -> bytes:
    """The offset, if there is one, and the fold. Raises _Refused for an offset that would not come back."""
    offset = value.utcoffset()
    fold = b"\x01" * value.fold
    if offset is None:
        if value.tzinfo is not None:
            raise _Refused(
                "its zone has an offset only together with a date: store the datetime, or use a fixed offset"
            )
        return fold
    if offset.microseconds:
        raise _Refused("its offset from UTC is not whole seconds")
    return _pack_int(offset.days * 86_400 + offset.seconds) + fold


def _write_datetime(value: datetime) -> bytes:
    if value.tzinfo is UTC and not value.fold:  # As nearly all are; half the work.
        return _pack_long((value - _UTC_EPOCH) // MICROSECOND) + _UTC_OFFSET
    hours = (value.toordinal() - _CLOCK_EPOCH_DAY) * 24 + value.hour
    seconds = hours * 3600 + value.minute * 60 + value.second
    return _pack_long(seconds * 1_000_000 + value.microsecond) + _write_zone(value)


def _write_time(value: time) -> bytes:
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    return _pack_long(seconds * 1_000_000 + value.microsecond) + _write_zone(value)


_WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (BIG_INT, _write_int),
    Decimal: (DECIMAL, lambda value: str(value).encode()),
    UUID: (UUID_, lambda value: value.bytes),
    datetime: (DATETIME, _write_datetime),
    date: (DATE, lambda value: _pack_int(value.toordinal())),
    time: (TIME, _write_time),
    timedelta: (TIMEDELTA, lambda value: struct.pack(">iii", value.days, value.seconds, value.microseconds)),
    tuple: (TUPLE, lambda value: _pack(list(value))),
    set: (SET, lambda value: _pack(list(value))),
    frozenset: (FROZENSET, lambda value: _pack(list(value))),
    Ciphertext: (SEALED, lambda value: value.payload),
}


def encode(subject: str, value: dict[Any, Any]) -> bytes:
    """A dict as bytes. Raises SerializationError, which names ``subject`` and the path of what can't be stored."""
    return packed_value(subject, (), value)


def packed_value(subject: str, steps: Sequence[Any], value: Any) -> bytes:
    """Any value as bytes. ``steps`` lead to it from the beginning of the paths that errors name."""
    try:
        _check_unless(IMMUTABLE, value)
        try:
            packed = _pack(value)
        except (_Refused, UnicodeEncodeError):
            _check_unless(IMMUTABLE - _REFUSED_IN_PACKING, value)
            raise
        if len(packed) > HARMLESS_BYTES:
            check_size(packed)
    except _Refused as refused:
        outer = [_written(dict, step) for step in steps]
        path = "".join([*outer, *reversed(refused.path)]).removeprefix(".")
        raise SerializationError(subject, path, refused.reason) from None
    except RevisionError:
        raise
    except Exception as error:  # also what a time zone or a property of the application's raises
        if raised_by_a_signal(error):
            raise
        raise SerializationError(subject, "", str(error) or type(error).__name__) from error
    return packed


EXTENSION_WRITERS: dict[type, Callable[[Any], bytes]] = {kind: write for kind, (_, write) in _WRITERS.items()}
"""How values of the types that have an extension type of their own become its payload."""
