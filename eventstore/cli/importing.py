"""``eventstore import``: the rows of a file as events, appended so that any run continues where another one stopped.

An event's id follows from its row and the row's place in its stream, so what a stream holds already is recognised; and
each append names the version that it belongs at, so that nothing is stored twice or elsewhere, whoever else is writing.
Some hundred rows are appended at once, in a transaction: positions follow the order of the file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Identifier

from eventstore.cli.progress import Progress
from eventstore.cli.rows import Row, RowError, Source
from eventstore.codec.showing import cleaned
from eventstore.errors import ConcurrencyError, InvalidArgument, SerializationError
from eventstore.postgres import PostgresEventStore
from eventstore.postgres.failures import translated
from eventstore.postgres.statements.schema import in_parameterized
from eventstore.postgres.stores import PostgresTransaction

_BUFFER_ROWS = 1_000
_BUFFER_STREAMS = 256
"""Each is locked until the transaction ends, and a server has room for some thousand locks."""
_BUFFER_BYTES = 16 * 1024 * 1024
_ATTEMPTS = 5
_LOCK = SQL("""
    SELECT pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('eventstore.import'::text, {table}::pg_catalog.regclass::pg_catalog.oid::bigint)
    )
""")
"""Runs of one schema take turns, a buffer each: so each one knows which events it has added itself."""
_STORED = SQL("""
    SELECT stream_id, event.version, event_id, event_type
    FROM ROWS FROM (
        pg_catalog.unnest(%(streams)s::text[]),
        pg_catalog.unnest(%(first)s::bigint[]),
        pg_catalog.unnest(%(last)s::bigint[])
    ) AS wanted (id, first, last)
    JOIN {schema}.events AS event ON stream_id = id COLLATE "C" AND event.version BETWEEN first AND last
""")


class _Stored(NamedTuple):
    event_id: UUID
    event_type: str


def run(dsn: str, schema: str, source: Source, *, prepare: bool = True) -> int:
    """Append what is missing, and say what that was."""
    started = time.monotonic()
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=prepare) as store, source.open() as file:
        work = _Import(store, schema, source)
        size = os.fstat(file.fileno()).st_size
        try:
            with Progress(source.path.name, total=size) as progress:
                work.append_all(source.rows(file), progress)
        except BaseException:
            if work.added or work.present:
                print(
                    f"eventstore: {work.added:,} events were added and stay, {work.present:,} were there already; "
                    "the same command continues from there",
                    file=sys.stderr,
                )
            raise
    seconds = time.monotonic() - started
    events = work.added + work.present
    print(
        f"{cleaned(str(source.path))}: {events:,} events in {len(source.counts):,} streams; {work.added:,} added, "
        f"{work.present:,} were there already; {seconds:.1f} s, {events / seconds:,.0f} events/s"
    )
    return 0


class _Import:
    """One run: a buffer of rows after the other, each in a transaction of its own."""

    def __init__(self, store: PostgresEventStore, schema: str, source: Source) -> None:
        self._store = store
        self._schema = schema
        self._source = source
        self.added = 0
        self.present = 0
        """Events that somebody else has stored, or an earlier run."""

    def append_all(self, rows: Iterator[Row], progress: Progress) -> None:
        before = 0
        while buffer := self._buffer(rows):
            size, before = self._source.bytes_read - before, self._source.bytes_read
            added = self._append(buffer)
            self.added += added
            self.present += len(buffer) - added
            progress.advance(len(buffer), size)

    def _buffer(self, rows: Iterator[Row]) -> list[Row]:
        until = self._source.bytes_read + _BUFFER_BYTES
        buffer: list[Row] = []
        streams: set[str] = set()
        for row in rows:
            buffer.append(row)
            streams.add(row.stream_id)
            full = len(buffer) >= _BUFFER_ROWS or len(streams) >= _BUFFER_STREAMS
            if full or self._source.bytes_read > until:
                break
        return buffer

    def _append(self, rows: list[Row]) -> int:
        """Store the rows that are missing, and return how many those were."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._store.transaction() as transaction:
                    missing = self._missing(rows, transaction)
                    transaction.append_many([(row.stream_id, [row.event], row.number - 1) for row in missing])
                return len(missing)
            except (SerializationError, InvalidArgument, RecursionError):
                self._source.check(rows)  # One of them: it says which, and on which line.
                raise
            except ConcurrencyError:
                # Another writer was faster. If its event stands where a row belongs, the next look says so.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError  # pragma: no cover

    def _missing(self, rows: list[Row], transaction: PostgresTransaction) -> list[Row]:
        """The rows that are not stored. Raises RowError for the first in whose place is another event."""
        stored = self._stored(rows, transaction)
        missing: list[Row] = []
        for row in rows:
            found = stored.get((row.stream_id, row.number))
            if found is None:
                missing.append(row)
            elif found.event_id != row.event.event_id:
                raise RowError(
                    self._source.path,
                    row.line,
                    f"stream {row.stream_id!r} holds another event at version {row.number}, where this row belongs: "
                    f"{cleaned(found.event_type)}. Nothing was overwritten; import into another --category or "
                    "--schema, or put back the rows that were imported before",
                )
        return missing

    def _stored(self, rows: list[Row], transaction: PostgresTransaction) -> dict[tuple[str, int], _Stored]:
        """What stands where the rows belong, by stream and version."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for row in rows:
            first.setdefault(row.stream_id, row.number)
            last[row.stream_id] = row.number
        wanted = {"streams": list(first), "first": list(first.values()), "last": list(last.values())}
        schema, connection = in_parameterized(self._schema), transaction.connection
        table = Identifier(self._schema, "events").as_string(None)
        try:
            with psycopg.Cursor(connection) as cursor:
                cursor.execute(_LOCK.format(table=table))
                cursor.execute(_STORED.format(schema=schema), wanted)
                return {(stream, version): _Stored(*event) for stream, version, *event in cursor.fetchall()}
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=self._schema) from error
