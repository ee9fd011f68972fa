"""Which bytes there are: extension types by their numbers, and limits both ways. docs/format.md explains them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgpack

from eventstore.codec.scan import weigh

MAX_BYTES = 16 * 1024 * 1024
"""The largest data, metadata or snapshot, encoded."""
MAX_DEPTH = 64
"""How deeply containers may be nested."""
MAX_VALUES = 1_000_000
"""How many values one of them may contain. They are counted only if it has more than UNCOUNTED_BYTES."""
UNCOUNTED_BYTES = 1024 * 1024
"""Payloads up to this size decode to at most 80 MB, unless an array header announces more members than follow."""
HARMLESS_BYTES = 2048
"""Payloads up to this size are cheap to decode whatever they contain, so they are not scanned."""
MAX_COPIED = 2 * MAX_BYTES
"""How many bytes the containers among the extension types may have in total; nested ones count again."""

BIG_INT, DECIMAL, UUID_, DATETIME, DATE, TIME, TIMEDELTA, TUPLE, SET, FROZENSET, ENUM, DATACLASS, SEALED = range(1, 14)

EMPTY_MAP = b"\x80"

CONTAINERS = frozenset({TUPLE, SET, FROZENSET, ENUM, DATACLASS})
"""The extension types whose payload is msgpack again."""

CLOCK_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a clock's reading, whatever its zone
"""The origin from which the microseconds of a datetime are counted."""

untyped_msgpack: Any = msgpack
"""It carries no types."""


def check_size(packed: bytes) -> None:
    """Raise ValueError for too many bytes, or for bytes that would become too many objects."""
    size = len(packed)
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than the limit of {MAX_BYTES:,}")
    # What might be the head of an array might announce as many members as there are bytes: room for 64 MB, at most.
    if size <= UNCOUNTED_BYTES and (packed.count(0xDC) + packed.count(0xDD)) * size <= 8_000_000:
        return
    weight = weigh(packed, CONTAINERS, MAX_VALUES)
    if weight.values > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    if weight.copied > MAX_COPIED:
        raise ValueError(f"its nested tuples, sets and dataclasses have {weight.copied:,} bytes in all")


def key_of_map(name: str) -> bytes:
    """A short key of a map, as msgpack has it."""
    return bytes([0xA0 + len(name)]) + name.encode()
