"""The roles of a store, and what each may do: sql/roles.sql for one schema."""

from __future__ import annotations

from typing import LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql

from eventstore.errors import InvalidArgument
from eventstore.names import check_name
from eventstore.postgres._sql import sql_directory
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected, statements_in
from eventstore.postgres.statements import MAX_SCHEMA_BYTES, check_not_reserved, check_schema


class Roles(NamedTuple):
    """The names of the roles of a store."""

    owner: str
    """Owns the schema and what is in it. Migrates."""
    writer: str
    """Appends, reads, and keeps snapshots."""
    reader: str
    """Reads."""
    follower: str
    """Reads, and keeps checkpoints and parked events."""
    operator: str
    """Reads, and manages subscriptions; deletes snapshots. Appends nothing."""


def roles_of(prefix: str) -> Roles:
    """The roles whose names begin with a prefix. Raises InvalidArgument for invalid names of roles."""
    check_name("prefix", prefix)
    roles = Roles(*(f"{prefix}_{role}" for role in Roles._fields))
    size = max(len(role.encode()) for role in roles)
    if size > MAX_SCHEMA_BYTES:
        raise InvalidArgument(
            f"prefix {prefix!r} would make names of {size} bytes for roles, and PostgreSQL keeps "
            f"{MAX_SCHEMA_BYTES} bytes of a name: "
            "give a shorter prefix"
        )
    check_not_reserved("prefix", prefix)
    return roles


def roles_sql(schema: str = "eventstore", prefix: str | None = None) -> str:
    """Return the SQL that creates the roles of the store in a schema and grants them what they need.

    Args:
        schema: the schema of the store, which must exist when the SQL is run.
        prefix: the beginning of the names of the roles; None: the name of the schema.

    Raises:
        InvalidArgument: ``schema`` or ``prefix`` is invalid.
    """
    check_schema(schema)
    roles = roles_of(schema if prefix is None else prefix)
    text = (sql_directory() / "roles.sql").read_text(encoding="utf-8")
    return (
        sql.SQL(cast("LiteralString", text))
        .format(
            schema=sql.Identifier(schema),
            events=sql.Literal(sql.Identifier(schema, "events").as_string(None)),
            names=sql.Literal(list(roles)),
            owner_name=sql.Literal(roles.owner),
            **{name: sql.Identifier(role) for name, role in roles._asdict().items()},
        )
        .as_string(None)
    )


def apply_roles(dsn: str, schema: str = "eventstore", prefix: str | None = None) -> Roles:
    """Create the roles of a store, grant them what they need, and return their names. It is all or nothing.

    You can repeat it. The login must be a superuser, or own the schema and be allowed to create roles.

    Raises:
        SchemaError: the schema is missing or not up to date.
        AccessDenied: the login lacks a privilege.
        InvalidArgument: ``schema`` or ``prefix`` is invalid.
        StoreUnavailable: the server can't be reached.
    """
    statements = statements_in(roles_sql(schema, prefix))
    try:
        with connected(dsn) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    except psycopg.Error as error:
        raise translated(error, broken=False, schema=schema) from error
    return roles_of(schema if prefix is None else prefix)
