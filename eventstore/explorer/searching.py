"""Which streams have events of a type, or of a time: found in one part of the log after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from psycopg.sql import SQL

from eventstore.cli.streams import rows_of
from eventstore.core.places import MARGIN, place_of
from eventstore.explorer.reading import LOOKED_AT, PAGE, Reading

_FOUND = SQL("""
    SELECT stream_id, last.version, events, found.position,
        pg_catalog.to_char(newest.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM (
        SELECT stream_id, pg_catalog.count(*) AS events, max(position) AS position
        FROM {schema}.events
        WHERE position > %(above)s::bigint AND position <= %(upto)s::bigint
            AND (%(event_type)s::text IS NULL OR event_type = %(event_type)s::text)
            AND pg_catalog.starts_with(stream_id || ''::text, %(prefix)s::text)
            AND timestamp >= %(since)s::timestamptz AND timestamp < %(until)s::timestamptz
        GROUP BY stream_id
        HAVING max(position) < %(before)s::bigint
        ORDER BY max(position) DESC LIMIT %(limit)s::bigint
    ) AS found
    CROSS JOIN LATERAL (
        SELECT version FROM {schema}.events AS event WHERE event.stream_id = found.stream_id
        ORDER BY version DESC LIMIT 1
    ) AS last
    CROSS JOIN LATERAL (
        SELECT timestamp FROM {schema}.events AS event WHERE event.position = found.position LIMIT 1
    ) AS newest
    ORDER BY found.position DESC
""")
"""The concatenation keeps the planner from walking through all streams with a prefix, instead of a part of the log."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams."""

    prefix: str
    event_type: str | None
    since: datetime | None
    until: datetime | None


class FoundStream(NamedTuple):
    """A stream with events that were looked for."""

    stream_id: str
    version: int
    """Of its last event, whichever that is."""
    events: int
    """How many were found in this part of the log."""
    position: int
    """The newest of these."""
    newest: str
    """When that happened."""


class Part(NamedTuple):
    """What was found in a part of the log."""

    streams: Sequence[FoundStream]
    above: int
    upto: int
    following: tuple[int, int] | None
    """Where the list continues: the end of the part, and the position below which the streams come next."""


def part_of(reading: Reading, wanted: Wanted, upto: int, before: int) -> Part:
    """The streams of at most ``LOOKED_AT`` positions, those with the newest events first."""
    upto = min(upto, reading.end())
    first = 0 if wanted.since is None else reading.begin_of(wanted.since)
    if wanted.until is not None:
        upto = min(upto, reading.store.carry_out(place_of(wanted.until, 0, upto, upto)) + MARGIN)
    above = max(upto - LOOKED_AT, first)
    rows = rows_of(
        reading.store,
        reading.store.statements.schema,
        _FOUND,
        {
            "above": above,
            "upto": upto,
            "event_type": wanted.event_type,
            "prefix": wanted.prefix,
            "since": wanted.since or datetime.min.replace(tzinfo=UTC),
            "until": wanted.until or "infinity",
            "before": before,
            "limit": PAGE,
        },
    )
    streams = [FoundStream(*row) for row in rows]
    if len(streams) == PAGE:
        return Part(streams, above, upto, (upto, streams[-1].position))
    return Part(streams, above, upto, (above, above + 1) if above > first else None)
