"""What must be the same before and after a value is stored."""

from __future__ import annotations

import dataclasses
import enum
import struct
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from eventstore.codec import decode, encode


def round_trip(value: Any) -> Any:
    return decode(encode("test", {"value": value}))["value"]


def shape(value: Any) -> Any:  # noqa: PLR0911 one line a kind
    """What must be the same before and after: types all the way down, and what `==` overlooks."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.name, value.value
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is Decimal:
        return kind, str(value)
    if kind is datetime or kind is time:
        return kind, value.replace(tzinfo=None).isoformat(), value.utcoffset(), value.fold
    if kind is dict:
        return kind, [(shape(k), shape(v)) for k, v in value.items()]
    if kind is list or kind is tuple:
        return kind, [shape(item) for item in value]
    if kind is set or kind is frozenset:
        return kind, sorted((shape(item) for item in value), key=repr)
    if dataclasses.is_dataclass(value):
        return kind, [(f.name, shape(getattr(value, f.name))) for f in dataclasses.fields(value)]
    return kind, value


def assert_comes_back(value: Any) -> None:
    assert shape(round_trip(value)) == shape(value)
