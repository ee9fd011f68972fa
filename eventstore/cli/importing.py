"""``eventstore import``: the rows of a file as events, appended so that any run goes on where another one stopped.

An event's id follows from its row and the row's place in its stream, and each append names the version that it belongs
at. The store's promise does the rest: what is there already, by id and place, is a success that stores nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice

from eventstore.cli.progress import Progress
from eventstore.cli.rows import Row, RowError, Source
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
            if stored := work.added + work.present:
                print(
                    f"eventstore: {stored:,} events of {source.path} are stored, {work.added:,} of them by this run; "
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
        self._versions: dict[str, int] = {}
        """How far each stream is known to be stored; a stream is only ever touched by one thread at a time."""
        self.added = 0
        self.present = 0
        """Events that were stored before this run came to their stream."""

    def append_all(self, rows: Iterator[Row], progress: Progress) -> None:
        before = 0
        executor = ThreadPoolExecutor(_THREADS)
        try:
            while buffer := self._buffer(rows):
                size, before = self._source.bytes_read - before, self._source.bytes_read
                self._append_buffer(executor, buffer, progress, size / len(buffer))
        finally:
            executor.shutdown(cancel_futures=True)

    def _buffer(self, rows: Iterator[Row]) -> list[Row]:
        until = self._source.bytes_read + _BUFFER_BYTES
        buffer: list[Row] = []
        for row in islice(rows, _BUFFER_ROWS):
            buffer.append(row)
            if self._source.bytes_read > until:
                break
        return buffer

    def _append_buffer(
        self, executor: ThreadPoolExecutor, buffer: list[Row], progress: Progress, bytes_per_row: float
    ) -> None:
        streams: dict[str, list[Row]] = {}
        for row in buffer:
            streams.setdefault(row.stream_id, []).append(row)
        appends = [executor.submit(self._append, rows) for rows in streams.values()]
        for append in as_completed(appends):
            if append.cancelled():
                continue
            if append.exception() is not None:
                _cancel(appends)
                continue
            added, present = append.result()
            self.added += added
            self.present += present
            progress.advance(added + present, bytes_per_row * (added + present))
        for append in appends:  # of several that failed, the first in the file's order
            if not append.cancelled():
                append.result()

    def _append(self, rows: list[Row]) -> tuple[int, int]:
        """Store the next rows of one stream; how many were added, and how many had been there."""
        stream_id, before = rows[0].stream_id, rows[0].number - 1
        if stream_id not in self._versions:
            newest = self._store.read(stream_id, backwards=True, limit=1)
            self._versions[stream_id] = newest[0].version if newest else 0
        while True:
            version = self._versions[stream_id]
            # What is there is appended apart: an append is known again only if all of it is there.
            present = min(max(version - before, 0), len(rows))
            try:
                for part in (rows[:present], rows[present:]):
                    if part:
                        self._store.append(stream_id, [row.event for row in part], part[0].number - 1)
            except ConcurrencyError as conflict:
                # Another import of the same file may be at work: then its events are there, and are to be counted so.
                self._check(rows, conflict)
                self._versions[stream_id] = max(version, conflict.actual_version or 0)
                if self._versions[stream_id] == version:
                    raise
            else:
                self._versions[stream_id] = max(version, rows[-1].number)
                return len(rows) - present, present

    def _check(self, rows: list[Row], conflict: ConcurrencyError) -> None:
        """Raise RowError for the first row in whose place the stream holds another event."""
        stored = self._store.read(rows[0].stream_id, rows[0].number - 1, limit=len(rows))
        for row, event in zip(rows, stored, strict=False):
            if row.event.event_id != event.event_id:
                raise RowError(
                    self._source.path,
                    row.line,
                    f"stream {row.stream_id!r} holds another event at version {event.version}, where this row belongs: "
                    f"{event.event_type} of {event.timestamp.isoformat(' ')}. Nothing was overwritten; import into "
                    "another --category or --schema, or put back the rows that were imported before",
                ) from conflict


def _cancel(appends: list[Future[tuple[int, int]]]) -> None:
    for append in appends:
        append.cancel()
