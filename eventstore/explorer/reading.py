"""What the pages ask a store for: always so many rows below a position, never a count of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from eventstore.codec.record import POSITION, Row, happened_at
from eventstore.core.operations import LogReader, repeated
from eventstore.core.requests import ReadLog, ReadStream, SafePosition
from eventstore.errors import DeserializationError
from eventstore.postgres.failures import translated
from eventstore.postgres.stores import PostgresEventStore

PAGE = 50
"""Rows of a list."""
LOOKED_AT = 200_000
"""Positions that one page of a filtered list looks through; the next page continues."""
_HIGHEST = 2**63 - 1
NEWEST = 2_000
"""How many of the newest events say which categories and types there are."""


class Range(NamedTuple):
    """What a chart shows."""

    name: str
    length: timedelta
    buckets: int


RANGES = {
    "hour": Range("hour", timedelta(hours=1), 60),
    "day": Range("day", timedelta(days=1), 48),
    "week": Range("week", timedelta(days=7), 56),
}


_ARCHIVED = SQL("""
    SELECT before, archive, to_char(archived_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM {schema}.archived_streams
    WHERE stream_id = %s::text ORDER BY before
""")


class Archived(NamedTuple):
    """Events of a stream that were moved into an archive."""

    before: int
    """They are those below this version."""
    archive: str
    at: str
    """When, in UTC."""


class Reading:
    """A store, as the pages read it."""

    def __init__(self, store: PostgresEventStore) -> None:
        self.store = store

    def end(self) -> int:
        """Up to where the log may be read."""
        return self.store.carry_out(repeated(SafePosition(0))) or 0

    def rows(self, above: int, upto: int, limit: int, *, backwards: bool = False, **filters: Any) -> list[Row]:
        pages = LogReader(
            above,
            min(limit, 1000) or 1,
            upto,
            filters.get("event_types"),
            filters.get("categories"),
            strict=False,
            backwards=backwards,
            limit=limit,
        )
        found: list[Row] = []
        while page := self.store.carry_out(pages.next_page()):
            found += page
        return found

    def at(self, position: int) -> Row | None:
        """The event at a position."""
        return next(iter(self.rows(position - 1, position, 1)), None) if position > 0 else None

    def before(self, position: int, **filters: Any) -> tuple[list[Row], int | None]:
        """The newest events below a position, newest first, and the position below which the list continues."""
        position = min(position, self.end() + 1)
        filtered = any(value is not None for value in filters.values())
        floor = max(position - 1 - LOOKED_AT, 0) if filtered else 0
        found = self.rows(floor, position - 1, PAGE, backwards=True, **filters)
        if len(found) == PAGE:
            return found, found[-1][POSITION]
        return found, floor + 1 if floor else None

    def stream(self, stream_id: str, above: int, upto: int) -> Sequence[Row]:
        """Events of a stream above a version, up to and with another."""
        return self.store.carry_out(repeated(ReadStream(stream_id, above, upto, backwards=False, limit=None)))

    def archived(self, stream_id: str) -> list[Archived]:
        """What of a stream is in archives, the oldest first."""
        schema = self.store.statements.schema
        with self.store.transaction() as transaction, Cursor(transaction.connection, row_factory=tuple_row) as cursor:
            try:
                cursor.execute(_ARCHIVED.format(schema=Identifier(schema)), [stream_id])
                return [Archived(*row) for row in cursor.fetchall()]
            except psycopg.Error as error:
                raise translated(error, broken=transaction.connection.broken, schema=schema) from error

    def last_version(self, stream_id: str) -> int:
        rows = self.store.carry_out(repeated(ReadStream(stream_id, 0, 2**63 - 1, backwards=True, limit=1)))
        return rows[0][1] if rows else 0

    def counts(self, which: Range) -> list[tuple[datetime, int]]:
        """About how many positions were used in each part of a range of time: by halving, as times rise with them."""
        now = datetime.now(UTC)
        end, start = self.end(), now - which.length
        step = which.length / which.buckets
        first = self._position_at(start, 0, end, 0)
        average = (end - first) // which.buckets + 1
        places = [first]
        for number in range(1, which.buckets):
            # Where as many events came as on average, the next boundary is near.
            moment, low, width = start + number * step, places[-1], 2 * average
            while low + width < end and self._is_before(low + width, moment):
                low, width = low + width, 2 * width
            places.append(self._position_at(moment, low, min(low + width, end), average // 50))
        places.append(end)
        return [(start + number * step, places[number + 1] - places[number]) for number in range(which.buckets)]

    def _position_at(self, moment: datetime, low: int, high: int, exact: int) -> int:
        while high - low > exact:
            middle = (low + high) // 2
            if self._is_before(middle, moment):
                low = middle + 1
            else:
                high = middle
        return low

    def _is_before(self, position: int, moment: datetime) -> bool:
        """Whether the first event above a position happened before a moment."""
        rows = self.store.carry_out(repeated(ReadLog(position, _HIGHEST, 1, None, None)))
        return bool(rows) and _time_of(rows[0]) < moment


def _time_of(row: Row) -> datetime:
    try:
        found: datetime = happened_at(row)
    except DeserializationError:
        return datetime.max.replace(tzinfo=UTC)
    return found
