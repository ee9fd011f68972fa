"""Bringing a schema up to date with the numbered files of sql/."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources.abc import Traversable
from typing import Any

import psycopg
from psycopg import Connection, Cursor, sql
from psycopg.rows import tuple_row

from eventstore.errors import SchemaError
from eventstore.postgres._sql import sql_directory
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.failures import translated, unavailable
from eventstore.postgres.statements import check_schema, for_schema

_OPTIONAL = "append_only"
"""The name of the file that an engine without triggers goes without."""
LOCK = """
    SELECT pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended(pg_catalog.concat('eventstore.migrate '::text, %s::text), 0::bigint))
    """
"""Taken first: migrations of one schema run one after the other."""
_PATH = "pg_catalog, pg_temp"
"""The search_path while the files run: nobody's functions or operators take the place of those that they name."""


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


def migrate(
    dsn_or_connection: str | Connection[Any], schema: str = "eventstore", *, triggers: bool = True
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

    Raises:
        SchemaError: the database is newer than this library, or a file was altered after it was applied.
        StoreUnavailable: the database could not be reached.
        AccessDenied: the role may not create the schema.
        InvalidArgument: ``schema`` is not a valid name, or the DSN is malformed.
    """
    return _migrated(dsn_or_connection, schema, migrations(), triggers=triggers)


def migrate_subject_keys(dsn_or_connection: str | Connection[Any], schema: str = "eventstore_keys") -> list[str]:
    """Create the schema of a PostgresSubjectKeys, or bring it up to date. Return the names of the files applied.

    The arguments and errors are those of ``migrate``. The schema must not be that of an event store.
    """
    return _migrated(dsn_or_connection, schema, migrations(_SUBJECT_KEYS))


def _migrated(
    dsn_or_connection: str | Connection[Any], schema: str, files: list[Migration], *, triggers: bool = True
) -> list[str]:
    with _cursor(dsn_or_connection, check_schema(schema)) as cursor:
        cursor.execute(LOCK, (schema,))
        with fixed_search_path(cursor):
            steps = missing_steps(cursor, schema, triggers=triggers, files=files)
            for _, text in steps:
                for statement in statements_in(text):
                    cursor.execute(statement.encode())
        return [name for name, _ in steps if name]


def planned_sql(dsn_or_connection: str | Connection[Any], schema: str = "eventstore", *, triggers: bool = True) -> str:
    """Return the SQL that ``migrate`` would run now, without running it. Raises what ``migrate`` raises."""
    with _cursor(dsn_or_connection, check_schema(schema)) as cursor, fixed_search_path(cursor):
        texts = [text for _, text in missing_steps(cursor, schema, triggers=triggers)]
    return "\n".join([f"SET LOCAL search_path = {_PATH};", *texts]) if texts else ""


@contextmanager
def fixed_search_path(cursor: Cursor[Any]) -> Generator[None, None, None]:
    """Look names up in pg_catalog only as long as the block lasts, in the transaction that is open."""
    cursor.execute("SELECT pg_catalog.current_setting('search_path'::text)")
    ((before,),) = cursor.fetchall()
    change = "SELECT pg_catalog.set_config('search_path'::text, %s::text, true)"
    cursor.execute(change, (_PATH,))
    yield
    cursor.execute(change, (before,))  # An error has failed the transaction, and the setting goes with it.


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
    cursor: Cursor[Any], schema: str, *, triggers: bool, files: list[Migration] | None = None
) -> list[tuple[str, str]]:
    """What is to be run, each with the name of its file; none is named where the file is run every time."""
    first, *files = migrations() if files is None else files
    steps: list[tuple[str, str]] = []
    exists, recorded = _state(cursor, schema)
    if not exists:
        steps.append(("", for_schema("CREATE SCHEMA {schema};", schema)))
    if recorded is None:
        steps.append(("", for_schema(first.text, schema)))
    applied = recorded or {}
    _check(applied, files, schema)
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
                (f"{file.number:04}_{file.name}", f"{for_schema(file.text, schema)}\n{record.as_string(None)}\n")
            )
    return steps


def _state(cursor: Cursor[Any], schema: str) -> tuple[bool, dict[int, str] | None]:
    """Whether the schema exists; and the checksums by number of what was applied, None without a table of it."""
    cursor.execute(
        "SELECT relname FROM pg_namespace LEFT JOIN pg_class"
        " ON relnamespace = pg_namespace.oid AND relname = 'migrations' WHERE nspname = %s",
        (schema,),
    )
    found = cursor.fetchone()
    if found is None or found[0] is None:
        return found is not None, None
    cursor.execute(sql.SQL("SELECT number, checksum FROM {}.migrations").format(sql.Identifier(schema)))
    return True, dict(cursor.fetchall())


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
