"""``eventstore export``: events with everything that their rows have, as lines of JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

import psycopg
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL

from eventstore.cli.compressed import opened
from eventstore.cli.copying import COLUMNS, exported
from eventstore.cli.modules import object_named
from eventstore.cli.progress import Progress
from eventstore.codec.record import Record
from eventstore.codec.showing import cleaned
from eventstore.core.exporting import Digest, Exported, ExportError, event_of, first_line, line_of
from eventstore.core.records import decode_each, encode_events
from eventstore.errors import InvalidArgument
from eventstore.event import Event
from eventstore.postgres import PostgresEventStore
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected
from eventstore.postgres.statements.schema import in_parameterized

_PAGE = 2000
_ROWS = SQL("""
    SELECT {columns} FROM {schema}.events AS event
    WHERE position > %(after)b AND position <= %(upto)b
        AND (%(stream_id)b::text IS NULL OR stream_id = %(stream_id)b)
        AND (%(category)b::text IS NULL OR pg_catalog.starts_with(stream_id, %(category)b || '-'))
        AND (%(event_type)b::text IS NULL OR event_type = %(event_type)b)
        AND (%(since)b::timestamptz IS NULL OR timestamp >= %(since)b)
        AND (%(until)b::timestamptz IS NULL OR timestamp < %(until)b)
    ORDER BY position LIMIT %(limit)b
""")

_EVENT_ID = SQL("SELECT event_id FROM {schema}.events WHERE position = %s")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is exported."""

    category: str | None = None
    stream_id: str | None = None
    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    since_position: int = 0
    to_position: int | None = None

    def described(self) -> dict[str, Any]:
        """Those that leave something out, for the first line."""
        found = {name: value for name, value in vars(self).items() if value not in {None, 0}}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


def export(dsn: str, schema: str, path: Path, filters: Filters, anonymize: str | None) -> int:
    """Write an export. One that was interrupted is continued."""
    change = None if anonymize is None else _function(anonymize)
    if path.exists():
        raise InvalidArgument(f"{path} exists: choose another name, or remove it")
    part, old = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.old")
    if part.exists() and (not old.exists() or part.stat().st_size > old.stat().st_size):
        part.replace(old)  # Else an attempt to continue was interrupted before it had taken over what was there.
    digest = Digest()
    try:
        with opened(part, "wb", like=path) as file:
            begin = first_line(filters.described(), anonymize)
            _write(file, digest, begin)
            if old.exists():
                last = _copy(old, path, file, digest, begin)
                if last is not None and not _holds(dsn, schema, last):
                    raise ExportError(old, 0, "an interrupted export of another store: remove it")
            for page in _exported(dsn, schema, filters, max(filters.since_position, digest.position)):
                for each in _changed(page, change) if change is not None else page:
                    _write(file, digest, line_of(each))
                digest.events += len(page)
                digest.position = page[-1].record.position
            file.write(digest.last_line())
    except OSError as error:
        raise ExportError(part, 0, f"it can't be written: {error.strerror or error}") from error
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(path)
    old.unlink(missing_ok=True)
    print(cleaned(f"{path}: {digest.events:,} events, up to position {digest.position:,}"))
    return 0


def _write(file: IO[bytes], digest: Digest, line: bytes) -> None:
    digest.add(line)
    file.write(line)


def _copy(old: Path, path: Path, file: IO[bytes], digest: Digest, begin: bytes) -> Record | None:
    """Take over the whole lines of an export that was interrupted, and return the last event of them."""
    first, record = begin, None
    with suppress(ExportError, InvalidArgument), opened(old, "rb", like=path) as lines:
        first = lines.readline()
        for line in lines if first == begin else ():
            if not line.endswith(b"\n") or line.startswith(b'{"end"'):
                break
            record = event_of(line).record
            _write(file, digest, line)
            digest.events += 1
            digest.position = record.position
    if first.endswith(b"\n") and first != begin:
        raise ExportError(old, 1, "an interrupted export of other events: remove it, or choose another name")
    return record


def _holds(dsn: str, schema: str, record: Record) -> bool:
    """Whether the store has an event at its position."""
    with connected(dsn) as connection:
        try:
            there = connection.execute(_EVENT_ID.format(schema=in_parameterized(schema)), (record.position,)).fetchone()
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=schema) from error
    return there == (UUID(bytes=record.event_id),)


def _exported(dsn: str, schema: str, filters: Filters, after: int) -> Iterator[list[Exported]]:
    """The events above a position, page by page."""
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        safe = store.last_position()
    upto = safe if filters.to_position is None else min(safe, filters.to_position)
    names = ("stream_id", "category", "event_type", "since", "until")
    wanted = {**{name: getattr(filters, name) for name in names}, "upto": upto, "limit": _PAGE}
    with connected(dsn) as connection, Progress("exporting", total=max(upto - after, 1)) as progress:
        connection.autocommit = True
        try:
            for page in _pages(
                connection, _ROWS.format(schema=in_parameterized(schema), columns=COLUMNS), wanted, after
            ):
                yield page
                reached = page[-1].record.position
                progress.advance(len(page), reached - after)
                after = reached
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=schema) from error


def _pages(
    connection: psycopg.Connection[Any], statement: Any, wanted: dict[str, Any], after: int
) -> Iterator[list[Exported]]:
    with Cursor(connection, row_factory=tuple_row) as cursor:
        while True:
            cursor.execute(statement, {**wanted, "after": after}, binary=True, prepare=True)
            page = [exported(row) for row in cursor.fetchall()]
            if not page:
                return
            yield page
            after = page[-1].record.position


def _function(name: str) -> Callable[[Event], Event]:
    found = object_named(name, "a function")
    if not callable(found):
        raise InvalidArgument(f"{name!r} is not a function")
    return cast("Callable[[Event], Event]", found)


def _changed(page: list[Exported], change: Callable[[Event], Event]) -> Iterator[Exported]:
    """The events as a function makes them: it decides about data and metadata, everything else stays."""
    for each, event in zip(page, decode_each([row.record for row in page], strict=False), strict=True):
        changed = change(event)
        if not isinstance(changed, Event) or changed.event_type != event.event_type:  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"the function returned {changed!r} for a {event.event_type}: return such an event")
        new = encode_events([changed])
        record = each.record._replace(data=new.data[0], metadata=new.metadata[0], revision=new.revisions[0])
        yield each._replace(record=record)
