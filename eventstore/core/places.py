"""Places in the log: where it ends, and where a moment is. No I/O, and no event is decoded."""

from __future__ import annotations

from datetime import datetime

from eventstore.codec.record import POSITION, Row, happened_at
from eventstore.core.operations import repeated
from eventstore.core.requests import Operation, ReadLog, SafePosition
from eventstore.errors import DeserializationError


def end_of_log() -> Operation[int]:
    """Up to where the log may be read; ``last_position()`` would decode the event there."""
    return (yield from repeated(SafePosition(0))) or 0


def begin_of(moment: datetime, end: int) -> Operation[int]:
    """A position below all events from a moment on, even if some of their times are not in order."""
    return max((yield from place_of(moment, 0, end, end)) - MARGIN, 0)


MARGIN = 1_000
"""Positions on either side of a moment that may hold events of the other side of it."""


def place_of(moment: datetime, low: int, high: int, end: int, exact: int = 0) -> Operation[int]:
    """The position above which the events from a moment on begin, to within ``exact`` positions below it.

    It is found by halving what is between ``low`` and ``high``, as times rise with positions, or nearly so.
    """
    while high - low > exact:
        middle = (low + high) // 2
        position = yield from before(moment, middle, end)
        if position is None:
            high = middle
        else:
            low = position  # There is nothing in a gap.
    return low


def before(moment: datetime, position: int, end: int) -> Operation[int | None]:
    """The position of the first event above one, if it happened before a moment; None otherwise."""
    rows = yield from repeated(ReadLog(position, end, 1, None, None))
    return rows[0][POSITION] if rows and not is_since(rows[0], moment) else None


def is_since(row: Row, moment: datetime) -> bool:
    """Whether an event happened at a moment or later; as far as anybody can say, if Python knows no such time."""
    happened = time_of(row)
    return happened is None or happened >= moment


def time_of(row: Row) -> datetime | None:
    """When an event happened; None for a moment that Python does not know."""
    try:
        return happened_at(row)
    except DeserializationError:
        return None
