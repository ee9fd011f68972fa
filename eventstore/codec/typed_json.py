"""Stored values as JSON that loses nothing, and back: docs/format.md says how. It needs no class of the application.

What JSON has itself is written as such. Everything else is an object with one key that begins with "$" and says what it
is, and so is a map with a key that is not a text or begins with "$".
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import msgpack

from eventstore.codec.decoding import EXTENSION_READERS
from eventstore.codec.encoding import EXTENSION_WRITERS
from eventstore.codec.format import (
    BIG_INT,
    DATACLASS,
    DATE,
    DATETIME,
    DECIMAL,
    EMPTY_MAP,
    ENUM,
    FROZENSET,
    HARMLESS_BYTES,
    SEALED,
    SET,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID_,
    check_size,
    untyped_msgpack,
)
from eventstore.codec.showing import duration
from eventstore.errors import DeserializationError, InvalidArgument
from eventstore.signals import raised_by_a_signal

_EXACT_INT = 2**53
"""Parsers that know floats only lose digits of larger ones."""
_ARRAYS = {TUPLE: "$tuple", SET: "$set", FROZENSET: "$frozenset"}


class _Pairs(list[Any]):
    """A map, as the pairs of its keys and values: its keys may be of any kind."""


def to_json(packed: bytes) -> Any:
    """The JSON value of a map that the codec has encoded. Raises DeserializationError."""
    if packed == EMPTY_MAP:
        return {}
    try:
        if len(packed) > HARMLESS_BYTES:
            check_size(packed)
        return _shown(_unpacked(packed))
    except Exception as error:  # whatever damaged bytes lead to, recursion without an end included
        if raised_by_a_signal(error):
            raise
        raise DeserializationError("msgpack", str(error) or type(error).__name__) from error


def _unpacked(packed: bytes) -> Any:
    return untyped_msgpack.unpackb(packed, strict_map_key=False, timestamp=3, object_pairs_hook=_Pairs)


def _shown(value: Any) -> Any:  # noqa: PLR0911 one branch a kind
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -_EXACT_INT < value < _EXACT_INT else {"$int": str(value)}
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case bytes():
            return {"$bytes": _base64(value)}
        case _Pairs():
            if all(type(key) is str and not key.startswith("$") for key, _ in value):
                return {key: _shown(item) for key, item in value}
            return {"$map": [[_shown(key), _shown(item)] for key, item in value]}
        case msgpack.ExtType():
            return _extension(*cast("tuple[int, bytes]", value))
        case datetime():  # msgpack's own, which other writers may use
            return {"$datetime": value.isoformat()}
        case _:
            return [_shown(item) for item in cast("list[Any]", value)]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _extension(code: int, payload: bytes) -> Any:
    """One that this release does not know, or that no Python value can be made of, is shown as its bytes."""
    try:
        if code in _ARRAYS:
            return {_ARRAYS[code]: _shown(_unpacked(payload))}
        if code == ENUM:
            return {"$enum": _shown(_unpacked(payload))}
        if code == SEALED:
            return {"$sealed": _shown(_unpacked(payload))}
        if code == DATACLASS:
            return {"$dataclass": _shown(_unpacked(payload))}
        return _SHOWN[code](EXTENSION_READERS[code](payload))
    except (ValueError, LookupError, ArithmeticError):
        return {"$extension": [code, _base64(payload)]}


def _clock(name: str, value: datetime | time) -> Any:
    shown = value.replace(fold=0).isoformat()
    return {name: [shown, 1] if value.fold else shown}


_SHOWN: dict[int, Callable[[Any], Any]] = {
    BIG_INT: lambda value: {"$int": hex(value)},
    DECIMAL: lambda value: {"$decimal": str(value)},
    UUID_: lambda value: {"$uuid": str(value)},
    DATETIME: lambda value: _clock("$datetime", value),
    DATE: lambda value: {"$date": value.isoformat()},
    TIME: lambda value: _clock("$time", value),
    TIMEDELTA: lambda value: {"$timedelta": duration(value)},
}


# --- and back ---------------------------------------------------------------------------------------------------------


def from_json(value: Any) -> bytes:
    """The bytes that ``to_json`` gave a JSON value for. Raises InvalidArgument."""
    try:
        return _packed(value)
    except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise InvalidArgument(f"this is not JSON of a stored value: {error}: docs/format.md says what is") from error


def _packed(value: Any) -> bytes:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return _head("array", len(items)) + b"".join(map(_packed, items))
    if not isinstance(value, dict):
        packed: bytes = untyped_msgpack.packb(value, strict_types=True)
        return packed
    entries = cast("dict[str, Any]", value)
    (name, *more) = entries or ("",)
    if name.startswith("$") and not more:
        return _READ[name](entries[name])
    return _head("map", len(entries)) + b"".join(_packed(key) + _packed(item) for key, item in entries.items())


def _head(kind: str, length: int) -> bytes:
    packer = untyped_msgpack.Packer()
    head: bytes = packer.pack_array_header(length) if kind == "array" else packer.pack_map_header(length)
    return head


def _ext(code: int, payload: bytes) -> bytes:
    packed: bytes = untyped_msgpack.packb(msgpack.ExtType(code, payload))
    return packed


def _int(text: str) -> bytes:
    number = int(text, 0)
    return _packed(number) if -(2**63) <= number < 2**64 else _ext(BIG_INT, EXTENSION_WRITERS[int](number))


def _clock_of(kind: Any, shown: Any) -> Any:
    text, fold = cast("list[Any]", shown) if isinstance(shown, list) else (shown, 0)
    return kind.fromisoformat(text).replace(fold=fold)


def _timedelta(text: str) -> timedelta:
    sign, _, number = text.partition("PT")
    seconds, _, fraction = number.removesuffix("S").partition(".")
    found = timedelta(seconds=int(seconds), microseconds=int(fraction.ljust(6, "0") or "0"))
    return -found if sign else found


def _scalar(code: int, kind: type, read: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    return lambda shown: _ext(code, EXTENSION_WRITERS[kind](read(shown)))


def _container(code: int) -> Callable[[Any], bytes]:
    return lambda shown: _ext(code, _packed(shown))


_READ: dict[str, Callable[[Any], bytes]] = {
    "$int": _int,
    "$float": lambda text: _packed(float(text)),
    "$bytes": lambda text: cast("bytes", untyped_msgpack.packb(base64.b64decode(text, validate=True))),
    "$map": lambda pairs: _head("map", len(pairs)) + b"".join(_packed(key) + _packed(item) for key, item in pairs),
    "$decimal": _scalar(DECIMAL, Decimal, Decimal),
    "$uuid": _scalar(UUID_, UUID, UUID),
    "$datetime": _scalar(DATETIME, datetime, lambda shown: _clock_of(datetime, shown)),
    "$date": _scalar(DATE, date, date.fromisoformat),
    "$time": _scalar(TIME, time, lambda shown: _clock_of(time, shown)),
    "$timedelta": _scalar(TIMEDELTA, timedelta, _timedelta),
    "$enum": _container(ENUM),
    "$dataclass": _container(DATACLASS),
    "$sealed": _container(SEALED),
    "$extension": lambda pair: _ext(pair[0], base64.b64decode(pair[1], validate=True)),
    **{name: _container(code) for code, name in _ARRAYS.items()},
}
