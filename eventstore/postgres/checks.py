"""What `eventstore verify` asks the server, beyond what the stores ask. Works on a standby as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

from psycopg import Connection, Cursor
from psycopg.rows import TupleRow, tuple_row
from psycopg.sql import SQL, Composed, Identifier

from eventstore.codec.record import POSITION, STREAM_ID, VERSION, Row
from eventstore.core.checking import CheckedRow, Finding, check_snapshot
from eventstore.postgres.statements.schema import in_parameterized
from eventstore.store import Snapshot

PAGE = 1000
_LOWEST = -(2**63)

_LOG = SQL("""
    SELECT * FROM {schema}.events
    WHERE position >= %(position)s AND (position, stream_id, version) > (%(position)s, %(stream_id)s::text, %(version)s)
        AND position <= %(upto)s
    ORDER BY position, stream_id, version LIMIT %(limit)s
""")
_STREAM = SQL("""
    SELECT * FROM {schema}.events WHERE stream_id = %(stream_id)s::text AND version > %(version)s
    ORDER BY version LIMIT %(limit)s
""")
_ROWS = SQL("""
    SELECT event.stream_id, event.version, event.position, pg_catalog.uuid_send(event.event_id), event.event_type,
        event.data, event.metadata, pg_catalog.timestamptz_send(event.timestamp), event.utc_offset, event.revision,
        event.closing, event.tombstone, before.position, coalesce(before.tombstone, false),
        before.position IS NULL AND EXISTS (
            SELECT FROM {schema}.archived_streams AS archived
            WHERE archived.stream_id = event.stream_id AND archived.before = event.version
        ),
        (
            SELECT min(twin.version) FROM {schema}.events AS twin
            WHERE twin.event_id = event.event_id AND twin.stream_id || '' = event.stream_id
                AND twin.version < event.version
        )
    FROM ({page}) AS event
    LEFT JOIN {schema}.events AS before ON before.stream_id = event.stream_id AND before.version = event.version - 1
    ORDER BY event.{order}, event.stream_id, event.version
""")
_PLAIN = SQL("""
    SELECT stream_id, version, position, pg_catalog.uuid_send(event_id), event_type, data, metadata,
        pg_catalog.timestamptz_send(timestamp), utc_offset, revision
    FROM ({page}) AS event ORDER BY version
""")
_LOADED_FROM = SQL("""
    SELECT coalesce(max(version), 1) FROM {schema}.events
    WHERE stream_id || '' = %(stream_id)s::text AND closing AND version <= %(upto)s
""")
_END = SQL("SELECT coalesce(max(position), 0) FROM {schema}.events")
_SEQUENCE = SQL("SELECT last_value, is_called FROM {schema}.event_positions")
_SNAPSHOTS = SQL("""
    SELECT aggregate_type, aggregate_id, class_schema, snapshot.version, snapshot.event_id, state, checksum,
        pg_catalog.uuid_send(event.event_id)
    FROM (
        SELECT * FROM {schema}.snapshots
        WHERE (aggregate_type, aggregate_id, class_schema) > (%(type)s::text, %(id)s::text, %(class)s::text)
            AND (%(stream_id)s::text IS NULL OR aggregate_type || '-' || aggregate_id = %(stream_id)s::text)
        ORDER BY aggregate_type, aggregate_id, class_schema LIMIT %(limit)s
    ) AS snapshot
    LEFT JOIN {schema}.events AS event
        ON event.stream_id = aggregate_type || '-' || aggregate_id AND event.version = snapshot.version
    ORDER BY aggregate_type, aggregate_id, class_schema
""")
_CHECKPOINTS = SQL("""
    SELECT name, partition, position, (SELECT coalesce(max(position), 0) FROM {schema}.events) AS highest
    FROM {schema}.subscriptions
    WHERE position > (SELECT coalesce(max(position), 0) FROM {schema}.events) ORDER BY name, partition
""")
_PARKED = SQL("""
    SELECT name, position FROM {schema}.parked_events AS parked
    WHERE dropped_at IS NULL
        AND NOT EXISTS (SELECT FROM {schema}.events WHERE events.position = parked.position)
    ORDER BY name, position
""")
_ARCHIVED = SQL("""
    SELECT stream_id, before FROM {schema}.archived_streams AS archived
    WHERE NOT EXISTS (
        SELECT FROM {schema}.events WHERE events.stream_id = archived.stream_id AND events.version = archived.before
            AND (closing OR tombstone)
    ) AND NOT EXISTS (
        SELECT FROM {schema}.archived_streams AS later
        WHERE later.stream_id = archived.stream_id AND later.before > archived.before
    ) ORDER BY stream_id, before
""")


class Checks:
    """The checks of one store, on a connection in autocommit mode."""

    def __init__(self, connection: Connection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = Identifier(schema)
        self._escaped = in_parameterized(schema)

    def is_standby(self) -> bool:
        """Whether the server can't be written to, as it follows another one."""
        return cast("bool", self._rows(SQL("SELECT pg_catalog.pg_is_in_recovery()"))[0][0])

    def end(self) -> int:
        """The highest position now."""
        return cast("int", self._rows(_END.format(schema=self._schema))[0][0])

    def pages(self, after: int, upto: int, stream_id: str | None) -> Iterator[list[CheckedRow]]:
        """The events above a position, or of one stream, page by page."""
        page = _LOG if stream_id is None else _STREAM
        order = "position" if stream_id is None else "version"
        statement = _ROWS.format(schema=self._escaped, page=page.format(schema=self._escaped), order=Identifier(order))
        # From the beginning, positions that can't be are to be found as well.
        place = {"position": after + 1 if after else _LOWEST, "stream_id": stream_id or "", "version": 0}
        while rows := self._rows(statement, {**place, "upto": upto, "limit": PAGE}):
            checked = [CheckedRow(cast("Any", row[:10]), *row[10:]) for row in rows]
            yield checked
            last = checked[-1].record
            place = {"position": last[POSITION], "stream_id": last[STREAM_ID], "version": last[VERSION]}

    def sequence(self) -> Iterator[Finding]:
        """Whether the sequence is above all positions."""
        end = self.end()
        ((last, is_called),) = self._rows(_SEQUENCE.format(schema=self._schema))
        drawn = last if is_called else last - 1
        if drawn < end:
            detail = f"it has drawn {drawn}, and the newest event is at {end}: positions would be used twice; setval it"
            yield Finding("sequence", "event_positions", detail)

    def snapshots(self, stream_id: str | None) -> Iterator[tuple[Snapshot, Finding | None]]:
        """Each snapshot, with what is wrong with it beside its stream."""
        place = {"type": "", "id": "", "class": ""}
        statement = _SNAPSHOTS.format(schema=self._escaped)
        while rows := self._rows(statement, {**place, "stream_id": stream_id, "limit": PAGE}):
            for aggregate_type, aggregate_id, class_schema, version, event_id, state, checksum, there in rows:
                taken = Snapshot(
                    aggregate_type, aggregate_id, class_schema, version, cast("UUID", event_id), state, checksum
                )
                yield taken, check_snapshot(taken, there)
            place = dict(zip(place, rows[-1][:3], strict=True))

    def replayed_rows(self, stream_id: str, upto: int) -> Iterator[Row]:
        """The events of which a load up to a version is made, page by page."""
        rows = self._rows(_LOADED_FROM.format(schema=self._escaped), {"stream_id": stream_id, "upto": upto})
        place = {"position": 0, "stream_id": stream_id, "version": rows[0][0] - 1}
        statement = _PLAIN.format(page=_STREAM.format(schema=self._escaped))
        while page := self._rows(statement, {**place, "limit": PAGE}):
            for row in page:
                if row[VERSION] > upto:
                    return
                yield cast("Row", row)
            place["version"] = page[-1][VERSION]

    def checkpoints(self) -> Iterator[Finding]:
        """Checkpoints above the log: of another log, or of one that has lost its end."""
        for name, partition, position, highest in self._rows(_CHECKPOINTS.format(schema=self._schema)):
            where = f"of subscription {name!r}, partition {partition}"
            yield Finding("checkpoint", where, f"it is at {position}, and the newest event is at {highest}")

    def parked(self) -> Iterator[Finding]:
        """Parked events that are not there."""
        for name, position in self._rows(_PARKED.format(schema=self._schema)):
            yield Finding("parked event", f"of subscription {name!r}", f"there is no event at position {position}")

    def archived(self) -> Iterator[Finding]:
        """Archived streams whose tombstone or closing event is not there."""
        for stream_id, before in self._rows(_ARCHIVED.format(schema=self._schema)):
            detail = f"its tombstone or closing event, version {before}, is missing"
            yield Finding("archived stream", f"{stream_id!r}", detail)

    def _rows(self, statement: SQL | Composed, parameters: dict[str, Any] | None = None) -> list[TupleRow]:
        with Cursor(self._connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()
