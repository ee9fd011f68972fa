"""``eventstore import --exact``: an export put into a store as it was, with ids, versions and times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier, Literal

from eventstore.cli.compressed import opened
from eventstore.cli.copying import copy_into
from eventstore.cli.progress import Progress
from eventstore.codec.sealing import subjects_in
from eventstore.codec.showing import cleaned
from eventstore.core.exporting import Digest, Exported, ExportError, check_first_line, event_of, parsed
from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected

_BATCH = 20_000
_LOCKED = SQL("""
    SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('import', {sequence}::regclass::oid::bigint))
""")
_LAST = SQL("SELECT position, event_id FROM {schema}.events ORDER BY position DESC LIMIT 1")
# Appends wait; readers stop below what is registered here, until the commit.
_BEGIN = SQL("""
    LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
    SELECT {schema}.append('import', -1, ARRAY[]::uuid[], NULL, NULL, NULL, NULL, NULL, NULL, NULL)
""")
_DRAWN = SQL("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {schema}.event_positions")
_THERE = SQL("""
    SELECT wanted.stream_id, wanted.version, event_id
    FROM unnest(%s::text[], %s::bigint[]) AS wanted (stream_id, version)
    JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version = wanted.version
""")
_DRAW = SQL("SELECT pg_catalog.setval({sequence}, %s)")
_GAPS = SQL("""
    SELECT stream_id, version, closing OR tombstone FROM {schema}.events AS event
    WHERE position BETWEEN %s AND %s AND version > 1 AND NOT EXISTS (
        SELECT FROM {schema}.events AS before
        WHERE before.stream_id = event.stream_id AND before.version = event.version - 1
    ) ORDER BY position
""")
_AFTER_TOMBSTONE = SQL("""
    SELECT event.stream_id, event.version FROM {schema}.events AS event
    JOIN {schema}.events AS before ON before.stream_id = event.stream_id AND before.version = event.version - 1
    WHERE event.position BETWEEN %s AND %s AND before.tombstone LIMIT 1
""")
_ARCHIVED = SQL("""
    INSERT INTO {schema}.archived_streams (stream_id, before, archive, manifest, digest) VALUES (%s, %s, %s, '', '')
    ON CONFLICT DO NOTHING
""")
_SUBJECTS = SQL("""
    INSERT INTO {schema}.subject_streams (subject, stream_id) SELECT * FROM unnest(%s::text[], %s::text[])
    ON CONFLICT DO NOTHING
""")


def import_exactly(dsn: str, schema: str, path: Path) -> int:
    """Import an export. You can repeat it: what is there already is left as it is."""
    events = _checked(path)
    with connected(dsn) as connection:
        connection.autocommit = True
        try:
            imported = _Import(connection, schema, path)
            with Progress("importing", total=max(events, 1)) as progress:
                imported.run(progress)
        except psycopg.errors.UniqueViolation as error:
            raise InvalidOperation(f"{path}: the store holds other events at the same places: {error}") from error
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=schema) from error
    there = f"; {imported.there:,} were there already" if imported.there else ""
    print(cleaned(f"{path}: {imported.count:,} events imported{there}"))
    return 0


def _checked(path: Path) -> int:
    """How many events a whole export has. Raises ExportError for one that was cut off or altered."""
    digest, number, line = Digest(), 0, b""
    try:
        with opened(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    check_first_line(line)
                if line.startswith(b'{"end"'):
                    break
                digest.add(line)
                digest.events = number - 1
            else:
                raise ExportError(path, number, "the last line is missing: the file was cut off; export it again")
            end = parsed(line)["end"]
            ours = parsed(digest.last_line())["end"]
            if end.get("sha256") != ours["sha256"] or end.get("events") != ours["events"] or lines.readline():
                raise ExportError(path, number, "the digest is not that of the lines: the file was altered")
    except InvalidArgument as error:
        raise ExportError(path, number, str(error)) from error
    except OSError as error:
        raise ExportError(path, 0, f"it can't be read: {error.strerror or error}") from error
    return digest.events


def _names(schema: str) -> dict[str, Composable]:
    return {
        "schema": Identifier(schema),
        "sequence": Literal(Identifier(schema, "event_positions").as_string(None)),
    }


class _Import:
    """One run, on a connection in autocommit mode."""

    def __init__(self, connection: Connection[Any], schema: str, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._names = _names(schema)
        self._escaped = _names(schema.replace("%", "%%"))
        """In a statement that has parameters, a percent sign is the beginning of one."""
        self.count = 0
        self.there = 0

    def run(self, progress: Progress) -> None:
        """Import the file, some thousand events at a time, each time in a transaction."""
        if not self._rows(_LOCKED)[0][0]:
            raise InvalidOperation("another import into this store is running: wait for its end")
        last = self._rows(_LAST)
        keeps_positions = not last or self._holds(*last[0])
        reached = last[0][0] if last and keeps_positions else 0
        with opened(self._path, "rb") as lines:
            lines.readline()
            events = _events(lines, self._path)
            while batch := list(islice(events, _BATCH)):
                new = [each for each in batch if each.record.position > reached]
                with self._connection.transaction():
                    self._import(new, keeps_positions=keeps_positions)
                self.there += len(batch) - len(new)
                progress.advance(len(batch))

    def _holds(self, position: int, event_id: UUID) -> bool:
        """Whether the export has an event at the same position: an import that was interrupted continues there."""
        with opened(self._path, "rb") as lines:
            lines.readline()
            for each in _events(lines, self._path):
                if each.record.position >= position:
                    return (each.record.position, each.record.event_id) == (position, event_id.bytes)
        return False

    def _import(self, batch: list[Exported], *, keeps_positions: bool) -> None:
        if not batch:
            return
        for statement in _BEGIN.format(**self._names).as_string(self._connection).split(";\n"):
            self._connection.execute(statement.encode())
        if not keeps_positions:
            batch = self._renumbered(self._without_known(batch))
            if not batch:
                return
        first, last = batch[0].record.position, batch[-1].record.position
        # Before the rows can be seen: readers refuse positions that the sequence has not drawn.
        self._rows(_DRAW, (max(last, self._rows(_DRAWN)[0][0]),))
        copy_into(self._connection, SQL("{schema}.events").format(**self._names), batch)
        self._note_subjects(batch)
        self._check(first, last)
        self.count += len(batch)

    def _without_known(self, batch: list[Exported]) -> list[Exported]:
        """The events that the store does not hold at their places. Raises InvalidOperation for others at a place."""
        places = [each.record.stream_id for each in batch], [each.record.version for each in batch]
        there = {(stream_id, version): event_id for stream_id, version, event_id in self._rows(_THERE, places)}
        new: list[Exported] = []
        for each in batch:
            event_id = there.get((each.record.stream_id, each.record.version))
            if event_id is None:
                new.append(each)
            elif event_id.bytes != each.record.event_id:
                raise InvalidOperation(
                    f"the store holds another event as version {each.record.version} of stream "
                    f"{each.record.stream_id!r}: import into a store of its own"
                )
        self.there += len(batch) - len(new)
        return new

    def _renumbered(self, batch: list[Exported]) -> list[Exported]:
        """The events at the next positions."""
        drawn: int = self._rows(_DRAWN)[0][0]
        return [
            each._replace(record=each.record._replace(position=position))
            for position, each in enumerate(batch, drawn + 1)
        ]

    def _note_subjects(self, batch: list[Exported]) -> None:
        """Note whose personal data the streams hold, as an append does: whoever forgets a subject looks there."""
        found = {
            (subject, each.record.stream_id)
            for each in batch
            for packed in (each.record.data, each.record.metadata)
            for subject in subjects_in(packed)
        }
        if found:
            subjects, streams = zip(*sorted(found), strict=True)
            self._connection.execute(_SUBJECTS.format(**self._escaped), (list(subjects), list(streams)))

    def _check(self, first: int, last: int) -> None:
        """Refuse what would not be whole streams."""
        for stream_id, version, is_marked in self._rows(_GAPS, (first, last)):
            if not is_marked:
                raise InvalidOperation(
                    f"version {version - 1} of stream {stream_id!r} is neither in the export nor in the store: import "
                    "an export of whole streams"
                )
            self._connection.execute(_ARCHIVED.format(**self._escaped), (stream_id, version, f"import of {self._path}"))
        for stream_id, _ in self._rows(_AFTER_TOMBSTONE, (first, last)):
            raise InvalidOperation(f"stream {stream_id!r} is retired, and the export has events after its tombstone")

    def _rows(self, statement: SQL, parameters: Any = None) -> list[Any]:
        with Cursor(self._connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement.format(**(self._names if parameters is None else self._escaped)), parameters)
            return cursor.fetchall()


def _events(lines: IO[bytes], path: Path) -> Iterator[Exported]:
    before = 0
    for number, line in enumerate(lines, 2):
        if line.startswith(b'{"end"'):
            return
        try:
            exported = event_of(line)
        except InvalidArgument as error:
            raise ExportError(path, number, str(error)) from error
        if exported.record.position <= before:
            raise ExportError(path, number, f"position {exported.record.position} is not above {before}")
        before = exported.record.position
        yield exported
