"""Values and bytes: msgpack, lossless or refused. docs/format.md says what each byte is."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any, cast
from uuid import UUID

import msgpack

from eventstore.errors import DeserializationError, SerializationError
from eventstore.event import fixed_zone, is_required
from eventstore.scan import weigh
from eventstore.types import registered_class, registered_name

MAX_BYTES = 16 * 1024 * 1024
"""The largest data, metadata or snapshot, encoded."""
MAX_DEPTH = 64
"""How deeply containers may stand in each other."""
MAX_VALUES = 1_000_000
"""How many values one of them may hold in all. Counted only where there are more than UNCOUNTED_BYTES."""
UNCOUNTED_BYTES = 1024 * 1024
"""So few bytes become 80 MB of objects at the most, unless arrays announce members that don't come."""
HARMLESS_BYTES = 2048
"""So few become little, whatever they say: not worth a look."""
MAX_COPIED = 2 * MAX_BYTES
"""How many bytes the containers among the extension types may have in all, those that stand in others counted again."""

BIG_INT, DECIMAL, UUID_, DATETIME, DATE, TIME, TIMEDELTA, TUPLE, SET, FROZENSET, ENUM, DATACLASS = range(1, 13)

EMPTY_MAP = b"\x80"

_msgpack: Any = msgpack
"""It carries no types."""

_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a clock's reading, whatever its zone
_MICROSECOND = timedelta(microseconds=1)
_PLAIN: frozenset[type] = frozenset({str, int, float, bool, type(None), bytes, UUID, Decimal, date, timedelta})


class _Refused(Exception):
    """A value that can't be stored; collects the path to it on the way out."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str] = []


# --- what may be stored -----------------------------------------------------------------------------------------------


def _check(value: Any, depth: int, plain: frozenset[type] = _PLAIN) -> None:  # noqa: C901, PLR0912 one branch a kind
    """Raise _Refused for what would not come back equal and of the same type. Sees every container, however nested."""
    kind = cast("type[Any]", type(value))
    if kind in plain:
        return
    if depth > MAX_DEPTH:
        raise _Refused(f"nested more than {MAX_DEPTH} deep, or inside itself")
    if kind is dict:
        for key, item in value.items():
            _check_part(key, key, depth, plain)
            _check_part(item, key, depth, plain)
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            _check_part(item, index, depth, plain)
    elif kind is set or kind is frozenset:
        for item in value:
            _check_part(item, ..., depth, plain)
    elif kind is datetime or kind is time:
        _check_offset(value)
    elif kind is str:  # Only where texts are looked at one by one, to find the one that is no UTF-8.
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("a str with a lone surrogate is no text in UTF-8") from None
    elif isinstance(value, enum.Enum):
        _registered(kind)
        if isinstance(value, enum.Flag):
            return
        if kind.__members__.get(value.name) is not value:
            raise _Refused(f"{value!r} is not found by its name")
    elif dataclasses.is_dataclass(kind):
        _check_dataclass(value, depth, plain)
    else:
        raise _Refused(_advice(kind))


def _check_part(value: Any, step: object, depth: int, plain: frozenset[type]) -> None:
    if type(value) in plain:
        return
    try:
        _check(value, depth + 1, plain)
    except _Refused as refused:
        if step is ...:
            refused.path.append("{...}")  # A member of a set has no place in it.
        else:
            refused.path.append(f".{step}" if type(step) is str and step.isprintable() else f"[{step!r}]")
        raise


def _check_offset(value: datetime | time) -> None:
    offset = value.utcoffset()
    if value.tzinfo is not None and offset is None:
        raise _Refused("its zone has an offset only together with a date: store the datetime, or use a fixed offset")
    if offset is not None and offset.microseconds:
        raise _Refused("its offset from UTC is not whole seconds")


def _registered(cls: type) -> str:
    name = registered_name(cls)
    if name is None:
        raise _Refused(f"{cls.__qualname__} is not registered: decorate it with @eventstore.register_type")
    if registered_class(name) is not cls:
        raise _Refused(f"the name {name!r} belongs to a newer definition of {cls.__qualname__} by now")
    return name


def _check_dataclass(value: Any, depth: int, plain: frozenset[type]) -> None:
    cls = cast("type[Any]", type(value))
    _registered(cls)
    try:
        object.__new__(cls)
    except TypeError:  # A list, an exception ... that is a dataclass as well.
        raise _Refused(f"a {cls.__qualname__} is more than its fields, and the rest would be lost") from None
    fields = {field.name for field in dataclasses.fields(cls)}
    for name in getattr(value, "__dict__", {}):
        if name not in fields:
            raise _Refused(f"{cls.__qualname__} has an attribute {name!r} that is no field of it, and would be lost")
    for name in fields:
        if not hasattr(value, name):
            raise _Refused(f"{cls.__qualname__} has no value for its field {name!r}")
        _check_part(getattr(value, name), name, depth, plain)


def _advice(kind: type) -> str:
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
    packed: bytes = _msgpack.packb(value, default=_to_extension, strict_types=True)
    return packed


def _to_extension(value: Any) -> msgpack.ExtType:
    kind = cast("type[Any]", type(value))
    writer = _WRITERS.get(kind)
    if writer is not None:
        code, write = writer
        return msgpack.ExtType(code, write(value))
    if isinstance(value, enum.Flag):
        return msgpack.ExtType(ENUM, _pack([_registered(kind), value.value]))
    if isinstance(value, enum.Enum):
        return msgpack.ExtType(ENUM, _pack([_registered(kind), value.name]))
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    return msgpack.ExtType(DATACLASS, _pack([_registered(kind), fields]))


def _write_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _write_zone(offset: timedelta | None, fold: int) -> bytes:
    seconds = b"" if offset is None else struct.pack(">i", offset // timedelta(seconds=1))
    return seconds + b"\x01" * fold


def _write_datetime(value: datetime) -> bytes:
    microseconds = (value.replace(tzinfo=None) - _NAIVE_EPOCH) // _MICROSECOND
    return struct.pack(">q", microseconds) + _write_zone(value.utcoffset(), value.fold)


def _write_time(value: time) -> bytes:
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    return struct.pack(">q", seconds * 1_000_000 + value.microsecond) + _write_zone(value.utcoffset(), value.fold)


_WRITERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (BIG_INT, _write_int),
    Decimal: (DECIMAL, lambda value: str(value).encode()),
    UUID: (UUID_, lambda value: value.bytes),
    datetime: (DATETIME, _write_datetime),
    date: (DATE, lambda value: struct.pack(">i", value.toordinal())),
    time: (TIME, _write_time),
    timedelta: (TIMEDELTA, lambda value: struct.pack(">iii", value.days, value.seconds, value.microseconds)),
    tuple: (TUPLE, lambda value: _pack(list(value))),
    set: (SET, lambda value: _pack(list(value))),
    frozenset: (FROZENSET, lambda value: _pack(list(value))),
}


def encode(subject: str, value: dict[Any, Any]) -> bytes:
    """A dict as bytes. Raises SerializationError, which names ``subject`` and the path of what can't be stored."""
    try:
        _check(value, 0)
        try:
            packed = _pack(value)
        except UnicodeEncodeError:
            _check(value, 0, _PLAIN - {str})
            raise
        _check_size(packed)
    except _Refused as refused:
        path = "".join(reversed(refused.path)).removeprefix(".")
        raise SerializationError(subject, path, refused.reason) from None
    except Exception as error:  # also what a time zone or a property of the application's raises
        raise SerializationError(subject, "", str(error) or type(error).__name__) from error
    return packed


# --- from bytes -------------------------------------------------------------------------------------------------------


def _unpack(packed: bytes, depth: int) -> Any:
    return _UNPACKERS[depth](packed)


def _from_extension(depth: int, code: int, payload: bytes) -> Any:
    if code == UUID_:
        return UUID(bytes=payload)
    reader = _READERS.get(code)
    if reader is not None:
        return reader(payload)
    container_reader = _CONTAINER_READERS.get(code)
    if container_reader is None:
        raise ValueError(f"the extension type {code} is not known: a newer release may have written it")
    # Each level is a call of the parser in C with a stack of its own: without an end to them the process would crash.
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return container_reader(payload, depth + 1)


_UNPACKERS: list[Callable[[bytes], Any]] = [
    # timestamp=3: msgpack's own, which other writers may use, is a datetime in UTC.
    partial(_msgpack.unpackb, ext_hook=partial(_from_extension, depth), strict_map_key=False, timestamp=3)
    for depth in range(MAX_DEPTH + 2)
]


def _read_zone(payload: bytes) -> tuple[timezone | None, int]:
    fold = len(payload) % 4
    if len(payload) > 5 or fold > 1 or (fold and payload[-1:] != b"\x01"):
        raise ValueError("a time zone has 0 or 4 bytes, and one more, 01, in the second fold of a clock")
    if len(payload) < 4:
        return None, fold
    return fixed_zone(struct.unpack_from(">i", payload)[0]), fold


def _read_datetime(payload: bytes) -> datetime:
    zone, fold = _read_zone(payload[8:])
    naive = _NAIVE_EPOCH + timedelta(microseconds=struct.unpack_from(">q", payload)[0])
    return naive.replace(tzinfo=zone, fold=fold)


def _read_time(payload: bytes) -> time:
    zone, fold = _read_zone(payload[8:])
    seconds, microsecond = divmod(struct.unpack_from(">q", payload)[0], 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return time(hour, minute, second, microsecond, tzinfo=zone, fold=fold)


def _read_list(payload: bytes, depth: int) -> list[Any]:
    items: Any = _unpack(payload, depth)
    if type(items) is not list:
        raise ValueError("a tuple's or set's payload is an array")
    return cast("list[Any]", items)


def _read_set(payload: bytes, depth: int, kind: type[set[Any] | frozenset[Any]]) -> Any:
    items = _read_list(payload, depth)
    found = kind(items)
    if len(found) != len(items):
        raise ValueError("a set holds a member twice")
    return found


def _read_enum(payload: bytes, depth: int) -> enum.Enum:
    name, member = _unpack(payload, depth)
    cls = registered_class(name)
    if cls is None or not issubclass(cls, enum.Enum):
        raise ValueError(f"no Enum is registered as {name!r}")
    if issubclass(cls, enum.Flag):
        return cls(member)
    if member not in cls.__members__:
        raise ValueError(f"{cls.__qualname__} has no member {member!r}")
    return cls[member]


def _read_dataclass(payload: bytes, depth: int) -> Any:
    name, values = _unpack(payload, depth)
    cls = registered_class(name)
    if cls is None or not dataclasses.is_dataclass(cls):
        raise ValueError(f"no dataclass is registered as {name!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if values.keys() != fields.keys():
        values = completed(values, fields)
    found = object.__new__(cls)
    for field, value in values.items():
        object.__setattr__(found, field, value)
    return found


_READERS: dict[int, Callable[[bytes], Any]] = {
    BIG_INT: lambda payload: int.from_bytes(payload, "big", signed=True),
    DECIMAL: lambda payload: Decimal(payload.decode("ascii")),
    DATETIME: _read_datetime,
    DATE: lambda payload: date.fromordinal(struct.unpack(">i", payload)[0]),
    TIME: _read_time,
    TIMEDELTA: lambda payload: timedelta(*struct.unpack(">iii", payload)),
}
_CONTAINER_READERS: dict[int, Callable[[bytes, int], Any]] = {
    TUPLE: lambda payload, depth: tuple(_read_list(payload, depth)),
    SET: lambda payload, depth: _read_set(payload, depth, set),
    FROZENSET: lambda payload, depth: _read_set(payload, depth, frozenset),
    ENUM: _read_enum,
    DATACLASS: _read_dataclass,
}


def decode(packed: bytes) -> dict[Any, Any]:
    """The dict that ``encode`` gave these bytes for. Raises DeserializationError."""
    try:
        if len(packed) > HARMLESS_BYTES:
            _check_size(packed)
        value = _UNPACKERS[0](packed)
    except Exception as error:  # whatever damaged bytes lead to is one error for the caller
        raise DeserializationError("msgpack", str(error) or type(error).__name__) from error
    if type(value) is not dict:
        raise DeserializationError("msgpack", "it is no map")
    return cast("dict[Any, Any]", value)


def _check_size(packed: bytes) -> None:
    """Raise ValueError for bytes that are too many, or that would become too many objects."""
    size = len(packed)
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are possible")
    # What might be the head of an array might announce as many members as there are bytes: room for 64 MB, at most.
    if size <= UNCOUNTED_BYTES and (packed.count(0xDC) + packed.count(0xDD)) * size <= 8_000_000:
        return
    weight = weigh(packed, _CONTAINER_READERS.keys(), MAX_VALUES)
    if weight.values > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    if weight.copied > MAX_COPIED:
        raise ValueError(f"its tuples, sets and dataclasses stand in each other with {weight.copied:,} bytes in all")


def completed(values: dict[Any, Any], fields: Mapping[str, dataclasses.Field[Any]]) -> dict[str, Any]:
    """What an older or newer class stored, as this one has it: defaults for what is missing, without what it dropped.

    Raises ValueError for a missing field that has no default.
    """
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            found[name] = values[name]
        elif is_required(field):
            raise ValueError(f"it was stored without the field {name!r}, which has no default: give it one")
        elif field.default_factory is dataclasses.MISSING:
            found[name] = field.default
        else:
            found[name] = field.default_factory()
    return found
