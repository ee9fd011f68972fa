"""A connection of a command that moves events out of the log or back into it: one such command at a time."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from eventstore.errors import InvalidOperation
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected
from eventstore.postgres.statements.schema import in_parameterized

_LOCKED = SQL("""
    SELECT pg_catalog.pg_try_advisory_lock(
        pg_catalog.hashtextextended('eventstore.archiving', {sequence}::regclass::oid::bigint))
""")


class StoreConnection:
    """A connection in autocommit mode. As a context manager it raises what the library raises for psycopg's errors."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.schema = schema
        self.connection = connected(dsn)
        self.connection.autocommit = True

    def lock(self) -> None:
        """Keep others out until the connection ends. Raises InvalidOperation if somebody is there."""
        sequence = Literal(Identifier(self.schema, "event_positions").as_string(self.connection))
        if not self.rows(_LOCKED.format(sequence=sequence))[0][0]:
            raise InvalidOperation(
                "another `eventstore archive`, `restore` or `truncate` of this store is running: wait for its end"
            )

    def rows(self, statement: SQL | Composed, parameters: Any = None) -> list[Any]:
        """The reply to a statement, in which ``schema`` stands for the schema."""
        if isinstance(statement, SQL):
            schema = Identifier(self.schema) if parameters is None else in_parameterized(self.schema)
            statement = statement.format(schema=schema)
        with Cursor(self.connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        broken = self.connection.broken
        self.connection.close()
        if isinstance(error, psycopg.Error):
            raise translated(error, broken=broken, schema=self.schema) from error
