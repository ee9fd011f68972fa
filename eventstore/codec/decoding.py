"""Bytes to values. Whatever damaged bytes lead to is one error for the caller."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple, cast
from uuid import UUID

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
from eventstore.codec.registry import former_members_of, registered_class
from eventstore.codec.upcasting import UpcastFailed, revision_of, upcast
from eventstore.codec.values import (
    MAX_COLLISIONS,
    MICROSECOND,
    Sealed,
    check_hashes,
    default_of,
    fixed_zone,
    is_required,
    uuid_of,
)
from eventstore.errors import DeserializationError, NewerRevision, RevisionError
from eventstore.names import uuid_text
from eventstore.signals import raised_by_a_signal


class SealedFound(DeserializationError):
    """Something in the bytes is sealed, and the reader did not ask for what stands for it."""


class Unregistered(NamedTuple):
    """Stands for an enum's member or a dataclass that this program has no class for, where a reader allows that.

    Also for a member that its enum has no more, and for a dataclass of a newer revision than this program's.
    """

    name: str
    """What the class is registered as elsewhere."""
    value: Any
    """The member's name, or the fields by name."""


_WITH_OFFSET = struct.Struct(">qi")


class _Level:
    """How deep a payload stands in others. Each level is a call of the parser in C, whose recursion must end."""

    def __init__(self, below: _Level | None, *, lenient: bool, wary: bool, sealed: bool) -> None:
        self.below = below
        self.lenient = lenient
        self.sealed = sealed
        # timestamp=3: msgpack's own, which other writers may use, is a datetime in UTC.
        options: dict[str, Any] = {"ext_hook": self._from_extension, "strict_map_key": False, "timestamp": 3}
        if wary:  # Slower, as every map is made here then.
            options["object_pairs_hook"] = _checked_map
        self.unpack: Callable[[bytes], Any] = partial(untyped_msgpack.unpackb, **options)

    def _from_extension(self, code: int, payload: bytes) -> Any:
        reader = EXTENSION_READERS.get(code)
        if reader is not None:
            return reader(payload)
        container_reader = _CONTAINER_READERS.get(code)
        if container_reader is None:
            raise ValueError(f"the extension type {code} is not known: a newer release may have written it")
        if self.below is None:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        return container_reader(payload, self.below)


def _outermost(*, lenient: bool, wary: bool, sealed: bool) -> _Level:
    level = None
    for _ in range(MAX_DEPTH + 2):
        level = _Level(level, lenient=lenient, wary=wary, sealed=sealed)
    return cast("_Level", level)


def _checked_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(pairs) > MAX_COLLISIONS:
        check_hashes([key for key, _ in pairs])
    return dict(pairs)


_MAY_COLLIDE = bytes([0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8])
"""The first bytes of extension types: many keys of them may share a hash. Of integers of eight bytes at most 16 do."""


def _is_suspicious(packed: bytes) -> bool:
    return len(packed) - len(packed.translate(None, _MAY_COLLIDE)) > MAX_COLLISIONS


def _read_uuid(payload: bytes) -> UUID:
    if len(payload) != 16:
        raise ValueError("a UUID has 16 bytes")
    return uuid_of(int.from_bytes(payload))


def _read_zone(payload: bytes) -> tuple[timezone | None, int]:
    fold = len(payload) % 4
    if len(payload) > 5 or fold > 1 or (fold and payload[-1:] != b"\x01"):
        raise ValueError("a time zone has 0 or 4 bytes, and one more, 01, in the second fold of a clock")
    if len(payload) < 4:
        return None, fold
    return fixed_zone(struct.unpack_from(">i", payload)[0]), fold


def _read_datetime(payload: bytes) -> datetime:
    if len(payload) == _WITH_OFFSET.size:  # As almost all are.
        microseconds, offset = _WITH_OFFSET.unpack(payload)
        moved: datetime = _epoch_at(offset) + microseconds * MICROSECOND
        return moved
    zone, fold = _read_zone(payload[8:])
    microseconds = struct.unpack_from(">q", payload)[0]
    naive: datetime = CLOCK_EPOCH + microseconds * MICROSECOND
    return naive.replace(tzinfo=zone, fold=fold)


@lru_cache(maxsize=256)
def _epoch_at(utc_offset: int) -> datetime:
    """Where clocks are counted from, on a clock so many seconds east of UTC: adding to it moves its hands."""
    return CLOCK_EPOCH.replace(tzinfo=fixed_zone(utc_offset))


def _read_time(payload: bytes) -> time:
    zone, fold = _read_zone(payload[8:])
    seconds, microsecond = divmod(struct.unpack_from(">q", payload)[0], 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return time(hour, minute, second, microsecond, tzinfo=zone, fold=fold)


def _read_list(payload: bytes, level: _Level) -> list[Any]:
    items: Any = level.unpack(payload)
    if type(items) is not list:
        raise ValueError("a tuple's or set's payload is an array")
    return cast("list[Any]", items)


def _read_set(payload: bytes, level: _Level, kind: type[set[Any] | frozenset[Any]]) -> Any:
    items = _read_list(payload, level)
    check_hashes(items)
    found = kind(items)
    if len(found) != len(items):
        raise ValueError("a set contains a member twice")
    return found


def _read_enum(payload: bytes, level: _Level) -> enum.Enum | Unregistered:
    name, member = level.unpack(payload)
    cls = registered_class(name)
    if cls is None and level.lenient:
        return Unregistered(name, member)
    if cls is None or not issubclass(cls, enum.Enum):
        raise ValueError(f"no Enum is registered as {name!r}")
    if issubclass(cls, enum.Flag):
        return cls(member)
    if member not in cls.__members__:
        present = former_members_of(cls).get(member)
        if present is None and level.lenient:
            return Unregistered(name, member)
        if present is None:
            raise ValueError(f"{cls.__qualname__} has no member {member!r}")
        member = present
    return cls[member]


def _read_dataclass(payload: bytes, level: _Level) -> Any:
    name, values, *more = level.unpack(payload)
    cls = registered_class(name)
    if cls is None and level.lenient:
        return Unregistered(name, values)
    if cls is None or not dataclasses.is_dataclass(cls):
        raise ValueError(f"no dataclass is registered as {name!r}")
    revision, known = more[0] if more else 1, revision_of(cls)
    if len(more) > 1 or type(revision) is not int or revision < 1:
        raise ValueError(f"a dataclass has a name, a map and possibly a revision, not also {more!r}")
    if revision != known:
        if revision > known and level.lenient:
            return Unregistered(name, values)
        if revision > known:
            raise NewerRevision(name, revision, known, "msgpack")
        values = upcast(cls, values, revision)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if values.keys() != fields.keys():
        values = completed(values, fields)
    found = object.__new__(cls)
    for field, value in values.items():
        object.__setattr__(found, field, value)
    return found


def _read_sealed(payload: bytes, level: _Level) -> Sealed:
    if not level.sealed:
        raise SealedFound("msgpack", "it is sealed, and the key of its subject is missing")
    subject, ciphertext = level.unpack(payload)
    if type(ciphertext) is not bytes:
        raise ValueError("a sealed value is not an array of a subject and bytes")
    return Sealed(subject_text(subject), ciphertext)


def subject_text(subject: object) -> str:
    """The text of a subject, as it is stored: a text or a UUID. Raises ValueError."""
    if type(subject) is UUID:
        return uuid_text(subject)
    if type(subject) is not str:
        raise ValueError("a subject is a text or a UUID")
    return subject


EXTENSION_READERS: dict[int, Callable[[bytes], Any]] = {
    UUID_: _read_uuid,
    BIG_INT: lambda payload: int.from_bytes(payload, "big", signed=True),
    DECIMAL: lambda payload: Decimal(payload.decode("ascii")),
    DATETIME: _read_datetime,
    DATE: lambda payload: date.fromordinal(struct.unpack(">i", payload)[0]),
    TIME: _read_time,
    TIMEDELTA: lambda payload: timedelta(*struct.unpack(">iii", payload)),
}
_CONTAINER_READERS: dict[int, Callable[[bytes, _Level], Any]] = {
    TUPLE: lambda payload, level: tuple(_read_list(payload, level)),
    SET: lambda payload, level: _read_set(payload, level, set),
    FROZENSET: lambda payload, level: _read_set(payload, level, frozenset),
    ENUM: _read_enum,
    DATACLASS: _read_dataclass,
    SEALED: _read_sealed,
}


_LEVELS = {
    (lenient, wary, sealed): _outermost(lenient=lenient, wary=wary, sealed=sealed)
    for lenient, wary, sealed in product((False, True), repeat=3)
}
_unpack = _LEVELS[False, False, False].unpack


def decode(packed: bytes, *, lenient: bool = False, sealed: bool = False) -> dict[Any, Any]:
    """The dict that ``encode`` gave these bytes for. Raises DeserializationError, and SealedFound.

    ``lenient`` reads members and dataclasses of classes that are not registered here as Unregistered. ``sealed`` reads
    personal values as Sealed.
    """
    value: dict[Any, Any]
    try:
        if len(packed) <= HARMLESS_BYTES and not lenient and not sealed:  # As nearly all are, and a tenth faster.
            value = _unpack(packed)
        else:
            wary = False
            if len(packed) > HARMLESS_BYTES:
                check_size(packed)
                wary = _is_suspicious(packed)
            value = _LEVELS[lenient, wary, sealed].unpack(packed)
    except (NewerRevision, RevisionError, SealedFound):
        raise
    except UpcastFailed as error:
        raise DeserializationError("msgpack", str(error)) from (error.__cause__ or error)
    except Exception as error:  # whatever damaged bytes lead to is one error for the caller
        if raised_by_a_signal(error):
            raise
        raise DeserializationError("msgpack", str(error) or type(error).__name__) from error
    if type(value) is not dict:
        raise DeserializationError("msgpack", "it is not a map")
    return value


def decode_value(packed: bytes) -> Any:
    """A value of any type. Whatever is wrong with it raises an exception of any type."""
    wary = False
    if len(packed) > HARMLESS_BYTES:
        check_size(packed)
        wary = _is_suspicious(packed)
    return _LEVELS[False, wary, False].unpack(packed)


def unregistered(value: Any) -> Iterator[Unregistered]:
    """Every Unregistered that a value is or holds."""
    parts: Iterable[Any] = ()
    if isinstance(value, Unregistered):
        yield value
        parts = (value.value,)
    elif isinstance(value, dict):
        parts = (each for pair in cast("dict[Any, Any]", value).items() for each in pair)
    elif isinstance(value, list | tuple | set | frozenset):
        parts = cast("Iterable[Any]", value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, field.name) for field in dataclasses.fields(value))
    for part in parts:
        yield from unregistered(part)


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
        else:
            found[name] = default_of(field)
    return found
