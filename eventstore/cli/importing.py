"""``eventstore import``: the rows of a file as events, appended so that any run goes on where another one stopped.

An event's id follows from its row and the row's place in its stream, so what a stream holds already is recognised; and
each append names the version that it belongs at, so that nothing is stored twice or elsewhere, whoever else is writing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

from eventstore.cli.progress import Progress
from eventstore.cli.rows import Row, RowError, Source
from eventstore.cli.threads import Workers
from eventstore.errors import ConcurrencyError
from eventstore.postgres import PostgresEventStore
from eventstore.store import EventStore

_BUFFER_ROWS = 5_000
_BUFFER_BYTES = 16 * 1024 * 1024
_THREADS = 6


def run(dsn: str, schema: str, source: Source) -> int:
    """Append what is missing, and say what that was."""
    started = time.monotonic()
    with PostgresEventStore.connect(dsn, schema, max_size=_THREADS) as store, source.open() as file:
        work = _Import(store, source)
        size = os.fstat(file.fileno()).st_size
        try:
            with Progress(source.path.name, total=size) as progress:
                work.append_all(source.rows(file), progress)
        except BaseException:
            if work.added or work.present:
                print(
                    f"eventstore: {work.added:,} events were added and stay, {work.present:,} were there already; "
                    "the same command again goes on from there",
                    file=sys.stderr,
                )
            raise
    seconds = time.monotonic() - started
    events = work.added + work.present
    print(
        f"{source.path}: {events:,} events in {len(source.counts):,} streams; {work.added:,} added, "
        f"{work.present:,} were there already; {seconds:.1f} s, {events / seconds:,.0f} events/s"
    )
    return 0


class _Import:
    """One run: a buffer of rows after the other, the streams of a buffer in parallel."""

    def __init__(self, store: EventStore, source: Source) -> None:
        self._store = store
        self._source = source
        self._ended: set[str] = set()
        """Streams of which this run wrote the last event: nothing of theirs can be there already."""
        self.added = 0
        self.present = 0
        """Events that were stored before this run came to their stream."""

    def append_all(self, rows: Iterator[Row], progress: Progress) -> None:
        before = 0
        with Workers(_THREADS) as workers:
            while buffer := self._buffer(rows):
                size, before = self._source.bytes_read - before, self._source.bytes_read
                streams: dict[str, list[Row]] = {}
                for row in buffer:
                    streams.setdefault(row.stream_id, []).append(row)
                for added, present in workers.results([partial(self._append, stream) for stream in streams.values()]):
                    self.added += added
                    self.present += present
                    progress.advance(added + present, (added + present) * size / len(buffer))

    def _buffer(self, rows: Iterator[Row]) -> list[Row]:
        until = self._source.bytes_read + _BUFFER_BYTES
        buffer: list[Row] = []
        for row in islice(rows, _BUFFER_ROWS):
            buffer.append(row)
            if self._source.bytes_read > until:
                break
        return buffer

    def _append(self, rows: list[Row]) -> tuple[int, int]:
        """Store the next rows of one stream; how many were added, and how many had been there."""
        stream_id, count = rows[0].stream_id, len(rows)
        while True:
            if stream_id not in self._ended:
                rows = rows[self._present(rows) :]
            if not rows:
                return 0, count
            before = rows[0].number - 1
            try:
                self._store.append(stream_id, [row.event for row in rows], before)
            except ConcurrencyError as conflict:
                # Another writer: if it imports the same file, its events are there now, and are looked at next.
                self._ended.discard(stream_id)
                if conflict.actual_version is not None and conflict.actual_version < before:
                    raise
            else:
                self._ended.add(stream_id)
                return len(rows), count - len(rows)

    def _present(self, rows: list[Row]) -> int:
        """How many of these rows the stream holds. Raises RowError for the first in whose place is another event."""
        stored = self._store.read(rows[0].stream_id, rows[0].number - 1, limit=len(rows))
        for row, event in zip(rows, stored, strict=False):
            if row.event.event_id != event.event_id:
                raise RowError(
                    self._source.path,
                    row.line,
                    f"stream {row.stream_id!r} holds another event at version {event.version}, where this row belongs: "
                    f"{event.event_type} of {event.timestamp.isoformat(' ')}. Nothing was overwritten; import into "
                    "another --category or --schema, or put back the rows that were imported before",
                )
        return len(stored)
