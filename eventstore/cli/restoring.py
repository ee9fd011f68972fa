"""``eventstore restore``: events out of an archive, put back where they were. One transaction: all of them or none."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg.sql import SQL, Identifier

from eventstore.archives.reading import Archive, opened_archive
from eventstore.cli.copying import copy_into
from eventstore.cli.progress import Progress
from eventstore.cli.store_connection import StoreConnection
from eventstore.codec.showing import cleaned
from eventstore.core.exporting import Exported
from eventstore.errors import ArchiveError, InvalidOperation

_EMPTY = SQL("DELETE FROM {schema}.restored_events RETURNING 1")
_RESTORE = SQL("SELECT streams, events FROM {schema}.restore_streams(%s::bytea)")
_MISSING = SQL("""
    SELECT count(*), count(*) FILTER (WHERE event.version IS NULL) FROM {schema}.restored_events AS restored
    LEFT JOIN {schema}.events AS event ON event.stream_id = restored.stream_id AND event.version = restored.version
        AND event.position = restored.position AND event.event_id = restored.event_id
""")


def restore(dsn: str, schema: str, where: str, stream_id: str | None) -> int:
    """Put the events of an archive, or of one stream in it, back into the store that they were archived from."""
    archive = opened_archive(where)
    with StoreConnection(dsn, schema) as store:
        store.lock()
        try:
            with store.connection.transaction():
                done = _restored(store, archive, stream_id)
        except psycopg.errors.UniqueViolation as error:
            raise InvalidOperation(
                f"the store holds other events where those of archive {archive.place.name} belong, and nothing was "
                f"restored: {str(error).partition('DETAIL:')[2].strip()}"
            ) from error
        print(cleaned(f"{archive.place.name}: {done}"))
    return 0


def _restored(store: StoreConnection, archive: Archive, stream_id: str | None) -> str:
    """In a transaction: restore, and say what was done."""
    store.rows(_EMPTY)
    with Progress("restoring", total=max(archive.manifest.events, 1)) as progress:
        table = SQL("{}.restored_events").format(Identifier(store.schema))
        copy_into(store.connection, table, _events(archive, stream_id, progress))
    ((streams, events),) = store.rows(_RESTORE, (archive.digest,))
    if streams:
        return f"{streams:,} stream(s), {events:,} events restored to schema {store.schema!r}"
    ((found, missing),) = store.rows(_MISSING)
    store.rows(_EMPTY)
    if not found:
        raise ArchiveError(archive.place.name, f"it has no stream {stream_id!r}")
    if missing:
        raise ArchiveError(
            archive.place.name,
            f"schema {store.schema!r} has no record of it: it belongs to another store, whose schema was "
            f"{archive.manifest.schema!r}",
        )
    return f"nothing to restore: its {found:,} events are in schema {store.schema!r}"


def _events(archive: Archive, stream_id: str | None, progress: Progress) -> Iterator[Exported]:
    for events in archive.parts():
        yield from events if stream_id is None else (e for e in events if e.record.stream_id == stream_id)
        progress.advance(len(events))
