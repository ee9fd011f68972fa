"""What the pages ask a store for: always so many rows below a position, never a count of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from psycopg.sql import SQL

from eventstore.cli.streams import rows_of
from eventstore.codec.record import POSITION, VERSION, Row
from eventstore.core.blocking import pages_of
from eventstore.core.operations import LogReader, repeated
from eventstore.core.places import before, begin_of, end_of_log, is_since, place_of
from eventstore.core.requests import ReadStream
from eventstore.postgres.stores import PostgresEventStore

PAGE = 50
"""Rows of a list."""
LOOKED_AT = 200_000
"""Positions that one page of a filtered list looks through; the next page continues."""
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
    WHERE stream_id = %(stream_id)s::text ORDER BY before
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
        return self.store.carry_out(end_of_log())

    def begin_of(self, moment: datetime) -> int:
        """A position below all events from a moment on."""
        return self.store.carry_out(begin_of(moment, self.end()))

    def rows(self, above: int, upto: int, limit: int, *, backwards: bool = False, **filters: Any) -> list[Row]:
        reader = LogReader(
            above,
            min(limit, 1000) or 1,
            upto,
            filters.get("event_types"),
            filters.get("categories"),
            strict=False,
            backwards=backwards,
            limit=limit,
        )
        return list(chain.from_iterable(pages_of(self.store, reader)))

    def at(self, position: int) -> Row | None:
        """The event at a position."""
        return next(iter(self.rows(position - 1, position, 1)), None) if position > 0 else None

    def before(self, position: int, since: datetime | None, **filters: Any) -> tuple[list[Row], int | None]:
        """The newest events below a position, newest first, and the position below which the list continues."""
        position = min(position, self.end() + 1)
        first = 0 if since is None else self.begin_of(since)
        filtered = any(value is not None for value in filters.values())
        floor = max(position - 1 - LOOKED_AT, first) if filtered else first
        found = self.rows(floor, position - 1, PAGE, backwards=True, **filters)
        following = found[-1][POSITION] if len(found) == PAGE else floor + 1 if floor > first else None
        return [row for row in found if since is None or is_since(row, since)], following

    def stream(self, stream_id: str, above: int, upto: int) -> Sequence[Row]:
        """Events of a stream above a version, up to and with another."""
        return self.store.carry_out(repeated(ReadStream(stream_id, above, upto, backwards=False, limit=None)))

    def archived(self, stream_id: str) -> list[Archived]:
        """What of a stream is in archives, the oldest first."""
        rows = rows_of(self.store, self.store.statements.schema, _ARCHIVED, {"stream_id": stream_id})
        return [Archived(*row) for row in rows]

    def last_version(self, stream_id: str) -> int:
        rows = self.store.carry_out(repeated(ReadStream(stream_id, 0, 2**63 - 1, backwards=True, limit=1)))
        return rows[0][VERSION] if rows else 0

    def counts(self, which: Range) -> list[tuple[datetime, int]]:
        """About how many positions were used in each part of a range of time: by halving, as times rise with them."""
        end, start = self.end(), datetime.now(UTC) - which.length
        step = which.length / which.buckets
        first = self.store.carry_out(place_of(start, 0, end, end))
        average = (end - first) // which.buckets + 1
        places = [first]
        for number in range(1, which.buckets):
            # Where as many events came as on average, the next boundary is near.
            moment, low, width = start + number * step, places[-1], 2 * average
            while low + width < end and (place := self.store.carry_out(before(moment, low + width, end))):
                low, width = place, 2 * width
            places.append(self.store.carry_out(place_of(moment, low, min(low + width, end), end, average // 50)))
        places.append(end)
        return [(start + number * step, places[number + 1] - places[number]) for number in range(which.buckets)]
