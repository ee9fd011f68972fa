"""Which bytes there are: extension types by their numbers, and limits both ways. docs/format.md explains them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgpack

from eventstore.codec.scan import weigh

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

CONTAINERS = frozenset({TUPLE, SET, FROZENSET, ENUM, DATACLASS})
"""Those whose payload is msgpack again."""

CLOCK_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a clock's reading, whatever its zone
"""Where the microseconds of a datetime are counted from."""

untyped_msgpack: Any = msgpack
"""It carries no types."""


def check_size(packed: bytes) -> None:
    """Raise ValueError for bytes that are too many, or that would become too many objects."""
    size = len(packed)
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are possible")
    # What might be the head of an array might announce as many members as there are bytes: room for 64 MB, at most.
    if size <= UNCOUNTED_BYTES and (packed.count(0xDC) + packed.count(0xDD)) * size <= 8_000_000:
        return
    weight = weigh(packed, CONTAINERS, MAX_VALUES)
    if weight.values > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    if weight.copied > MAX_COPIED:
        raise ValueError(f"its tuples, sets and dataclasses stand in each other with {weight.copied:,} bytes in all")
