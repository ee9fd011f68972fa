"""``eventstore migrate``, ``drop``, ``roles`` and ``promote``: what prepares a database, or what would be done."""

from __future__ import annotations

import sys

import psycopg
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned
from eventstore.errors import InvalidArgument
from eventstore.postgres import apply_roles, migrate, planned_sql, promote, roles_sql
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import carried_out, connected
from eventstore.postgres.statements import check_schema
from eventstore.postgres.tenants import drop_schema, is_store


def run(dsn: str, schema: str, *, dry_run: bool, triggers: bool, partitions: int | None = None) -> int:
    """Apply what is missing and say what it was; or print it."""
    up_to_date = f"schema {schema!r} is up to date"
    if dry_run:
        print(planned_sql(dsn, schema, triggers=triggers, partitions=partitions).strip() or f"-- {up_to_date}")
        return 0
    applied = migrate(dsn, schema, triggers=triggers, partitions=partitions)
    print(f"schema {schema!r}: applied {', '.join(applied)}" if applied else up_to_date)
    return 0


def drop(dsn: str, schema: str, *, is_sure: bool) -> int:
    """Drop a store, after its name was typed again."""
    try:
        with connected(dsn) as connection:
            cursor = Cursor(connection, row_factory=tuple_row)
            if not carried_out(cursor, is_store(check_schema(schema))):
                raise InvalidArgument(f"there is no store in schema {schema!r}: nothing was dropped")
            cursor.execute(SQL("SELECT coalesce(max(position), 0) FROM {}.events").format(Identifier(schema)))
            ((newest,),) = cursor.fetchall()
            connection.commit()  # Nothing is locked while somebody types.
            what = f"schema {schema!r} with all its events, up to position {newest:,}, and everything else in it"
            if not is_sure and not _is_typed(schema, what):
                return 1
            if not carried_out(cursor, drop_schema(schema)):
                raise InvalidArgument(f"somebody else has dropped schema {schema!r} meanwhile")
    except psycopg.Error as error:
        raise translated(error, broken=False, schema=schema) from error
    print(cleaned(f"dropped {what}"))
    return 0


def _is_typed(schema: str, what: str) -> bool:
    if not sys.stdin.isatty():
        complain(f"this would drop {what}, for ever: say --yes")
        return False
    print(cleaned(f"This drops {what}, for ever. Type the name of the schema: "), end="", flush=True)
    if sys.stdin.readline().rstrip("\n") == schema:
        return True
    print("That is not its name. Nothing was dropped.")
    return False


def roles(dsn: str | None, schema: str, prefix: str | None) -> int:
    """Make the roles of a store in a database, and say what they are called; or, without a database, print the SQL."""
    if dsn is None:
        print(roles_sql(schema, prefix).strip())
        return 0
    made = apply_roles(dsn, schema, prefix)
    done = (
        f"schema {schema!r}: {', '.join(made)} have what they need. Make a login a member: GRANT {made.writer} TO ..."
    )
    print(cleaned(done))
    return 0


def promotion(dsn: str, schema: str, *, apply: bool) -> int:
    """Let a logical replica take over, or say what that would change."""
    drawn, newest = promote(dsn, schema, dry_run=not apply)
    if apply:
        print(cleaned(f"schema {schema!r}: the sequence of positions was at {drawn}, and continues above {newest}"))
    else:
        print(
            cleaned(
                f"schema {schema!r}: the sequence of positions is at {drawn}, and would continue above {newest}, the "
                "newest event; --apply sets it"
            )
        )
    return 0
