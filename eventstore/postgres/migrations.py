"""Bringing a schema up to date with the numbered files of sql/."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.resources.abc import Traversable
from typing import Any, TypeVar, cast

import psycopg
from psycopg import Connection, Cursor, sql
from psycopg.rows import TupleRow, tuple_row

from eventstore.core.blocking import run
from eventstore.core.requests import Operation, Request, ask
from eventstore.errors import InvalidArgument, InvalidOperation, SchemaError
from eventstore.postgres._sql import sql_directory
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.failures import translated, unavailable
from eventstore.postgres.statements import check_schema, for_schema

R = TypeVar("R")
_OPTIONAL = "append_only"
"""The name of the file that an engine without triggers goes without."""
LOCK = """
    SELECT pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended(pg_catalog.concat('eventstore.migrate '::text, %s::text), 0::bigint))
    """
"""Taken first: migrations of one schema run one after the other."""
_HAS_MIGRATIONS = """
    SELECT relname FROM pg_namespace LEFT JOIN pg_class
    ON relnamespace = pg_namespace.oid AND relname = 'migrations' WHERE nspname = %s
    """
_PARTITIONS = """
    SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relname = 'events' AND nspname = %s
    """
_PATH = "pg_catalog, pg_temp"
"""The search_path while the files run: nobody's functions or operators take the place of those that they name."""


@dataclass(frozen=True, slots=True)
class Sql(Request[list[TupleRow]]):
    """A statement for a connection, as it is. Reply: its rows."""

    text: str
    parameters: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, line ends apart."""
        return sha256(self.text.encode()).hexdigest()


_SUBJECT_KEYS = "subject_keys"
"""The directory of sql/ for the keys of subjects."""


def migrations(directory: str = "") -> list[Migration]:
    """The files of sql/, or of a directory in it, in their order.

    Number 0 is the table that records the others; it is run every time, and is the same for every directory.
    """
    found = _files_in(sql_directory())
    return [found[0], *_files_in(sql_directory() / directory)] if directory else found


def _files_in(directory: Traversable) -> list[Migration]:
    found: list[Migration] = []
    for file in directory.iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


MIN_PARTITIONS, MAX_PARTITIONS = 2, 64
"""A statement that can't tell the stream in advance locks all of them, with their indexes."""


def migrate(
    dsn_or_connection: str | Connection[Any],
    schema: str = "eventstore",
    *,
    triggers: bool = True,
    partitions: int | None = None,
) -> list[str]:
    """Create the schema of a store or bring it up to date, all or nothing. Return the names of the files applied.

    Any number of processes may migrate at once.

    >>> migrate(dsn, "another_schema")[:2]
    ['0001_events', '0002_append']
    >>> migrate(dsn, "another_schema")
    []

    Args:
        dsn_or_connection: the database, or your connection to it. If that isn't in autocommit mode, you commit.
        schema: the name of the schema; it need not exist.
        triggers: False leaves out the triggers that keep even the owner from changing events, for an engine without
            triggers.
        partitions: into how many tables a new store divides its events, by stream: 2 to 64. None: one table, or what
            the store has. docs/postgresql.md says when it is worth it.

    Raises:
        SchemaError: the database is newer than this library, or a file was altered after it was applied.
        InvalidOperation: the store has another number of partitions, or none.
        StoreUnavailable: the database could not be reached.
        AccessDenied: the role may not create the schema.
        InvalidArgument: ``schema`` is not a valid name, ``partitions`` is out of range, or the DSN is malformed.
    """
    return _migrated(dsn_or_connection, schema, migrations(), triggers=triggers, partitions=partitions)


def migrate_subject_keys(dsn_or_connection: str | Connection[Any], schema: str = "eventstore_keys") -> list[str]:
    """Create the schema of a PostgresSubjectKeys, or bring it up to date. Return the names of the files applied.

    The arguments and errors are those of ``migrate``. The schema must not be that of an event store.
    """
    return _migrated(dsn_or_connection, schema, migrations(_SUBJECT_KEYS))


def _migrated(
    dsn_or_connection: str | Connection[Any],
    schema: str,
    files: list[Migration],
    *,
    triggers: bool = True,
    partitions: int | None = None,
) -> list[str]:
    operation = migration(check_schema(schema), files, triggers=triggers, partitions=partitions)
    with _cursor(dsn_or_connection, schema) as cursor:
        return carried_out(cursor, operation)


def migration(
    schema: str, files: list[Migration] | None = None, *, triggers: bool = True, partitions: int | None = None
) -> Operation[list[str]]:
    """What ``migrate`` does, in a transaction that is open."""
    check_partitions(partitions)
    return _migration(schema, migrations() if files is None else files, triggers, partitions)


def _migration(
    schema: str,
    files: list[Migration],
    triggers: bool,
    partitions: int | None,
) -> Operation[list[str]]:
    yield from ask(Sql(LOCK, (schema,)))
    before = yield from _look_up_names_in(_PATH)
    steps = yield from missing_steps(schema, triggers=triggers, files=files, partitions=partitions)
    for _, text in steps:
        for statement in statements_in(text):
            yield from ask(Sql(statement))
    yield from _look_up_names_in(before)  # An error fails the transaction, and the setting goes with it.
    return [name for name, _ in steps if name]


def _look_up_names_in(path: str) -> Operation[str]:
    """Set the search_path for the transaction, and return what it was."""
    ((before,),) = yield from ask(Sql("SELECT pg_catalog.current_setting('search_path'::text)"))
    yield from ask(Sql("SELECT pg_catalog.set_config('search_path'::text, %s::text, true)", (path,)))
    return cast("str", before)


def carried_out(cursor: Cursor[TupleRow], operation: Operation[R]) -> R:
    """Carry out an operation whose requests are SQL, and return its result."""
    return run(operation, partial(_rows_of, cursor))


def _rows_of(cursor: Cursor[TupleRow], request: Any) -> list[TupleRow]:
    cursor.execute(request.text.encode(), request.parameters or None)
    return cursor.fetchall() if cursor.description else []


def planned_sql(
    dsn_or_connection: str | Connection[Any],
    schema: str = "eventstore",
    *,
    triggers: bool = True,
    partitions: int | None = None,
) -> str:
    """Return the SQL that ``migrate`` would run now, without running it. Raises what ``migrate`` raises."""
    check_partitions(partitions)
    with _cursor(dsn_or_connection, check_schema(schema)) as cursor:
        texts = [text for _, text in carried_out(cursor, _planned(schema, triggers, partitions))]
    return "\n".join([f"SET LOCAL search_path = {_PATH};", *texts]) if texts else ""


def _planned(schema: str, triggers: bool, partitions: int | None) -> Operation[list[tuple[str, str]]]:
    before = yield from _look_up_names_in(_PATH)
    steps = yield from missing_steps(schema, triggers=triggers, partitions=partitions)
    yield from _look_up_names_in(before)
    return steps


def statements_in(text: str) -> list[str]:
    """The statements of a file of sql/, each for a message of its own, as some engines take no more than one at a time.

    One ends with a semicolon at the end of a line outside of a function's body.
    """
    found, rest = [""], text
    while rest:
        outside, mark, rest = rest.partition("$eventstore$")
        first, *others = re.split(r"(?<=;)\n", outside)
        found[-1] += first
        found += others
        if mark:
            body, end, rest = rest.partition("$eventstore$")
            found[-1] += mark + body + end
    return [statement for statement in found if re.sub(r"--.*", "", statement).strip()]


@contextmanager
def _cursor(dsn_or_connection: str | Connection[Any], schema: str) -> Generator[Cursor[Any], None, None]:
    """A cursor in a transaction that is committed at the end, unless it is yours."""
    try:
        if isinstance(dsn_or_connection, Connection):
            with dsn_or_connection.transaction() if dsn_or_connection.autocommit else nullcontext():
                yield Cursor(dsn_or_connection, row_factory=tuple_row)
        else:
            with connected(dsn_or_connection) as connection:
                yield Cursor(connection, row_factory=tuple_row)
    except psycopg.Error as error:
        raise translated(error, broken=False, schema=schema) from error


def connected(dsn: str) -> Connection[Any]:
    """A connection of its own, which a block commits. Raises InvalidArgument, StoreUnavailable, AccessDenied."""
    checked_dsn(dsn)
    try:
        connection = psycopg.connect(dsn)
    except psycopg.Error as error:
        raise unavailable(error) from error
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


def missing_steps(
    schema: str, *, triggers: bool, files: list[Migration] | None = None, partitions: int | None = None
) -> Operation[list[tuple[str, str]]]:
    """What is to be run, each with the name of its file; none is named where the file is run every time."""
    first, *files = migrations() if files is None else files
    steps: list[tuple[str, str]] = []
    exists, recorded = yield from _state(schema)
    if not exists:
        steps.append(("", for_schema("CREATE SCHEMA {schema};", schema)))
    if recorded is None:
        steps.append(("", for_schema(first.text, schema)))
    applied = recorded or {}
    _check(applied, files, schema)
    there = (yield from partitions_of(schema)) if applied and partitions else partitions
    if there != partitions:
        raise InvalidOperation(
            f"the events of schema {schema!r} are in {f'{there} partitions' if there else 'one table'}, and the number "
            f"of partitions can't be changed to {partitions}: leave it out, or copy the store into a schema that has "
            f"{partitions} (docs/postgresql.md)"
        )
    for file in files:
        if file.number not in applied and (triggers or file.name != _OPTIONAL):
            record = sql.SQL(
                "INSERT INTO {schema}.migrations (number, name, checksum) VALUES ({number}, {name}, {checksum});"
            ).format(
                schema=sql.Identifier(schema),
                number=sql.Literal(file.number),
                name=sql.Literal(file.name),
                checksum=sql.Literal(file.checksum),
            )
            steps.append(
                (
                    f"{file.number:04}_{file.name}",
                    f"{for_schema(file.text, schema, partitions or 0)}\n{record.as_string(None)}\n",
                )
            )
    return steps


def check_partitions(partitions: object) -> None:
    """Raise InvalidArgument for what can't be a number of partitions; None is none."""
    if partitions is not None and (type(partitions) is not int or not MIN_PARTITIONS <= partitions <= MAX_PARTITIONS):
        raise InvalidArgument(
            f"partitions must be a whole number from {MIN_PARTITIONS} to {MAX_PARTITIONS}, not {partitions!r}"
        )


def partitions_of(schema: str) -> Operation[int]:
    """Into how many partitions the events of a store are divided; 0: they are in one table."""
    ((count,),) = yield from ask(Sql(_PARTITIONS, (schema,)))
    return cast("int", count)


def _state(schema: str) -> Operation[tuple[bool, dict[int, str] | None]]:
    """Whether the schema exists; and the checksums by number of what was applied, None without a table of it."""
    found = yield from ask(Sql(_HAS_MIGRATIONS, (schema,)))
    if not found or found[0][0] is None:
        return bool(found), None
    applied = sql.SQL("SELECT number, checksum FROM {}.migrations").format(sql.Identifier(schema))
    return True, dict((yield from ask(Sql(applied.as_string(None)))))


def _check(applied: dict[int, str], files: list[Migration], schema: str) -> None:
    known = {file.number: file for file in files}
    for number, checksum in sorted(applied.items()):
        if number not in known:
            raise SchemaError(schema, f"migration {number} was applied by a newer eventstore: upgrade this one")
        if checksum != known[number].checksum:
            raise SchemaError(
                schema,
                f"migration {number} ({known[number].name}) differs from the one that was applied here: files of sql/ "
                "are never edited after a release; put the file back, and change the schema by a new one",
            )
