"""What may be the name of a schema, and SQL text for it."""

from __future__ import annotations

from typing import LiteralString, cast

from psycopg import sql

from eventstore.errors import InvalidArgument
from eventstore.names import check_name

MAX_SCHEMA_BYTES = 63
"""The longest identifier that PostgreSQL keeps whole."""


def check_schema(schema: object) -> str:
    """Return ``schema`` if PostgreSQL can have a schema of that name, and sql/ can be written for it."""
    name = check_name("schema", schema)
    size = len(name.encode())
    if size > MAX_SCHEMA_BYTES:
        raise InvalidArgument(
            f"schema {name!r} has {size} bytes, and PostgreSQL keeps {MAX_SCHEMA_BYTES} bytes of a "
            "name: choose a shorter one"
        )
    check_not_reserved("schema", name)
    return name


def check_not_reserved(what: str, name: str) -> None:
    """Raise InvalidArgument for a name, or the beginning of one, that PostgreSQL or sql/ has a use for."""
    if name.startswith("pg_"):
        raise InvalidArgument(f"{what} {name!r}: names that begin with 'pg_' are PostgreSQL's own")
    if "$eventstore$" in name:
        raise InvalidArgument(f"{what} {name!r} must not contain '$eventstore$', which ends a body in SQL")


def in_parameterized(schema: str) -> sql.Identifier:
    """The name of a schema in a statement that has parameters: a percent sign would be read as the beginning of one."""
    return sql.Identifier(schema.replace("%", "%%"))


def for_schema(text: str, schema: str, partitions: int = 0) -> str:
    """SQL text of the package: {schema} becomes an identifier, {event_positions} and {events} texts that name those.

    ``partitions``: for the file that makes the table of events, into how many it is divided; 0: it is one table.
    """
    positions, events = (sql.Identifier(schema, name).as_string(None) for name in ("event_positions", "events"))
    template = sql.SQL(cast("LiteralString", text))
    return template.format(
        schema=sql.Identifier(schema),
        event_positions=sql.Literal(positions),
        events=sql.Literal(events),
        partitions=sql.Literal(partitions),
        partition_by=sql.SQL("PARTITION BY HASH (stream_id)" if partitions else ""),
    ).as_string(None)
