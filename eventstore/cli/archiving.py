"""``eventstore archive`` and ``truncate``: events are moved into an archive, first there and then not here.

Whatever ends a run, it can be repeated. Until the manifest is there, nothing was deleted, and the next run begins from
scratch. From then on it deletes what the archive has and the store still has, some streams at a time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import ServerCursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed

from eventstore.archives.manifest import MANIFEST, Manifest, is_ours
from eventstore.archives.places import Place, place_at
from eventstore.archives.reading import Archive, Digests, Moved, is_last
from eventstore.archives.writing import PartWriter
from eventstore.cli.copying import COLUMNS, exported
from eventstore.cli.progress import Progress
from eventstore.cli.store_connection import StoreConnection
from eventstore.codec.showing import cleaned
from eventstore.errors import ArchiveError, EventStoreError, InvalidOperation
from eventstore.names import check_category, check_name
from eventstore.postgres.statements.schema import in_parameterized

_STREAMS = 1000
"""How many are deleted in one transaction."""
_RETIRED = SQL("""
    SELECT anchor.stream_id, anchor.version AS before FROM {schema}.events AS anchor
    JOIN {schema}.events AS older ON older.stream_id = anchor.stream_id AND older.version = anchor.version - 1
    WHERE anchor.tombstone AND pg_catalog.starts_with(anchor.stream_id, %(category)s::text || '-')
        AND anchor.timestamp <= %(until)s::timestamptz
""")
_OLDER = SQL("""
    SELECT stream_id, version + 1 AS before FROM {schema}.events
    WHERE stream_id = %(stream_id)s::text AND version = %(before)s::bigint - 1
""")
"""The streams, each with the version below which its events are moved."""
_IN_THE_WAY = SQL("""
    WITH wanted AS ({wanted}), highest AS (
        SELECT max(event.position) AS position FROM wanted
        JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version = wanted.before - 1
    )
    SELECT subscription.name, subscription.position, highest.position
    FROM {schema}.subscriptions AS subscription, highest WHERE subscription.position < highest.position
    ORDER BY subscription.position, subscription.name LIMIT 1
""")
_PARKED = SQL("""
    WITH wanted AS ({wanted})
    SELECT parked.name, parked.position FROM {schema}.parked_events AS parked
    JOIN {schema}.events AS event ON event.position = parked.position
    JOIN wanted ON event.stream_id = wanted.stream_id AND event.version < wanted.before
    WHERE parked.dropped_at IS NULL ORDER BY parked.position LIMIT 1
""")
_EVENTS = SQL("""
    SELECT {columns} FROM ({wanted}) AS wanted
    JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version <= wanted.before
    ORDER BY event.position
""")
_MARK = SQL("""
    SELECT closing OR tombstone, (
        SELECT max(version) FROM {schema}.events WHERE stream_id || '' = %(stream_id)s::text AND closing
    )
    FROM {schema}.events WHERE stream_id = %(stream_id)s::text AND version = %(before)s::bigint
""")
_DELETE = SQL("SELECT {schema}.archive_streams(%s::text[], %s::bigint[], %s::bytea[], %s::text, %s::bytea)")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be moved: retired streams of a category, or the older events of one stream."""

    category: str | None = None
    until: datetime | None = None
    """Retired since then at least."""
    stream_id: str | None = None
    before: int | None = None

    @property
    def streams(self) -> SQL:
        return _RETIRED if self.stream_id is None else _OLDER

    @property
    def parameters(self) -> dict[str, Any]:
        names = ("category", "until") if self.stream_id is None else ("stream_id", "before")
        return {name: getattr(self, name) for name in names}

    @property
    def filters(self) -> dict[str, Any]:
        """For the first line of each part."""
        named = {"category": self.category, "stream_id": self.stream_id, "before": self.before}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def nothing(self) -> str:
        """Why there is nothing to move."""
        if self.stream_id is None:
            return f"no stream of category {self.category!r} has been retired for so long, with its events still here"
        return f"stream {self.stream_id!r} has no events below version {self.before} any more"

    def described(self) -> str:
        if self.stream_id is None:
            return f"retired streams of category {self.category!r}"
        return f"the events of stream {self.stream_id!r} below version {self.before}"


def archive(dsn: str, schema: str, category: str, until: datetime, where: str) -> int:
    """Move the streams of a category that were retired until then into an archive, but for their tombstones."""
    return _run(dsn, schema, _Wanted(category=check_category(category), until=until), place_at(where))


def truncate(dsn: str, schema: str, stream_id: str, before: int, where: str) -> int:
    """Move the events of a stream below its closing event of that version into an archive."""
    return _run(dsn, schema, _Wanted(stream_id=check_name("stream_id", stream_id), before=before), place_at(where))


def _run(dsn: str, schema: str, wanted: _Wanted, place: Place) -> int:
    with StoreConnection(dsn, schema) as store:
        store.lock()
        move = _Move(store, wanted, place)
        print(cleaned(f"{place.name}: {move.run()}"))
    return 0


class _Move:
    """One run."""

    def __init__(self, store: StoreConnection, wanted: _Wanted, place: Place) -> None:
        self._store = store
        self._wanted = wanted
        self._place = place

    def run(self) -> str:
        """Do it, and say what was done."""
        names = self._place.names()
        if MANIFEST in names:
            archive = Archive(self._place)
            self._check_same(archive.manifest)
        else:
            self._check_empty(names)
            self._check_allowed()
            if not self._write():
                return f"nothing to archive: {self._wanted.nothing}"
            archive = Archive(self._place)
        named = {MANIFEST, *(part.name for part in archive.manifest.parts)}
        # What is left of runs that were ended, or came too late: without a manifest they delete nothing.
        self._place.remove(name for name in self._place.names() if is_ours(name) and name not in named)
        deleted = self._delete(archive)
        manifest = archive.manifest
        held = f"{manifest.streams:,} stream(s), {manifest.events:,} events in {len(manifest.parts):,} part(s)"
        if not deleted:
            return f"{held}; nothing of them was left to delete: choose another place for a new archive"
        return f"{held}; {deleted:,} events deleted from schema {self._store.schema!r}"

    def _check_same(self, manifest: Manifest) -> None:
        """Raise ArchiveError if the archive that is there is not the one that an earlier run has begun to move."""
        wanted = self._wanted
        ours = self._store.schema, wanted.category, wanted.stream_id, wanted.before
        if (manifest.schema, manifest.category, manifest.stream_id, manifest.before) != ours:
            there = _Wanted(manifest.category, None, manifest.stream_id, manifest.before).described()
            raise ArchiveError(
                self._place.name,
                f"it holds {there} of schema {manifest.schema!r} already: choose another place",
            )

    def _check_empty(self, names: list[str]) -> None:
        others = sorted(name for name in names if not is_ours(name))
        if others:
            raise ArchiveError(self._place.name, f"it holds other files, such as {others[0]!r}: choose an empty place")

    def _check_allowed(self) -> None:
        """Raise InvalidOperation where loads would no longer be right, or a follower has yet to read the events."""
        wanted = self._wanted
        if wanted.stream_id is not None:
            self._check_mark(wanted.stream_id, wanted.before or 0)
        for name, position, highest in self._rows(_IN_THE_WAY):
            raise InvalidOperation(
                f"the checkpoint of subscription {name!r} is in the way: it is at position {position}, and the events "
                f"go up to {highest}: let it catch up first, or remove it"
            )
        for name, position in self._rows(_PARKED):
            raise InvalidOperation(
                f"subscription {name!r} has parked the event at position {position}: retry or drop it first"
            )

    def _check_mark(self, stream_id: str, before: int) -> None:
        rows = self._rows(_MARK)
        if not rows:
            raise InvalidOperation(f"stream {stream_id!r} has no version {before}: choose that of a closing event")
        is_marked, closing = rows[0]
        if not is_marked:
            instead = "close the stream first" if closing is None else f"choose {closing}, the newest closing event"
            raise InvalidOperation(
                f"version {before} of stream {stream_id!r} is not a closing event, and a load that began there would "
                f"be wrong: {instead}"
            )

    def _write(self) -> bool:
        """Write the parts and then the manifest. False if there is nothing to write."""
        wanted, schema = self._wanted, self._store.schema
        writer = PartWriter(self._place, wanted.filters)
        try:
            streams, events = self._write_parts(writer)
        except BaseException:
            with suppress(EventStoreError):
                writer.discard()
            raise
        if not events:
            return False
        kind = wanted.category, wanted.stream_id, wanted.before
        manifest = Manifest(schema, *kind, streams, events, writer.parts).packed()
        # If it is there, and is ours, an attempt whose answer was lost has written it.
        if not self._place.create(MANIFEST, manifest) and self._place.read(MANIFEST) != manifest:
            writer.discard()
            raise ArchiveError(
                self._place.name, "another archive was written there at the same time: choose another place"
            )
        return True

    def _write_parts(self, writer: PartWriter) -> tuple[int, int]:
        """How many streams and events they have."""
        connection, last = self._store.connection, self._wanted.before
        streams = events = 0
        with (
            Progress("archiving") as progress,
            connection.transaction(),
            ServerCursor(connection, "archive", row_factory=tuple_row) as cursor,
        ):
            cursor.itersize = 2000
            cursor.execute(self._statement(_EVENTS), self._wanted.parameters, binary=True)
            for row in cursor:
                each = exported(row)
                writer.add(each)
                streams += is_last(each, last)
                events += 1
                progress.advance()
        writer.flush()
        return streams, events

    def _delete(self, archive: Archive) -> int:
        """Read the archive back, and delete what the store has in the same way. Returns how many events that were."""
        digests, deleted, ready = Digests(archive.manifest.before), 0, list[Moved]()
        with Progress("deleting", total=max(archive.manifest.events, 1)) as progress:
            for events in archive.parts():
                ready += digests.take(events)
                while len(ready) >= _STREAMS:
                    deleted += self._delete_streams(archive, ready[:_STREAMS])
                    del ready[:_STREAMS]
                progress.advance(len(events))
            if ready:
                deleted += self._delete_streams(archive, ready)
        return deleted

    def _delete_streams(self, archive: Archive, streams: list[Moved]) -> int:
        columns = map(list, zip(*streams, strict=True))
        parameters = (*columns, archive.place.name, archive.digest)
        deleted: int = self._store.rows(_DELETE, parameters)[0][0]
        return deleted

    def _rows(self, statement: SQL) -> list[Any]:
        return self._store.rows(self._statement(statement), self._wanted.parameters)

    def _statement(self, statement: SQL) -> Composed:
        schema = in_parameterized(self._store.schema)
        return statement.format(schema=schema, columns=COLUMNS, wanted=self._wanted.streams.format(schema=schema))
