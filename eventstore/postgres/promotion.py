"""A logical replica that takes over: its sequence of positions is set, as logical replication leaves it alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from eventstore.errors import InvalidOperation
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected
from eventstore.postgres.statements import check_schema, for_schema

_SUBSCRIBED = """
    SELECT subname FROM pg_catalog.pg_subscription JOIN pg_catalog.pg_subscription_rel ON srsubid = pg_subscription.oid
    WHERE subenabled AND (
        srrelid = %(events)s::pg_catalog.regclass
        OR srrelid IN (SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = %(events)s::pg_catalog.regclass)
    )
    ORDER BY subname
    """
# Nobody inserts, and so nobody draws a position, while this is held.
_LOCK = "LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE"
_LOOK = """
    SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END,
        coalesce((SELECT position FROM {schema}.events ORDER BY position DESC LIMIT 1), 0)
    FROM {schema}.event_positions
    """
_SET = "SELECT pg_catalog.setval({event_positions}::pg_catalog.regclass, %s::bigint)"


class Promotion(NamedTuple):
    """What a promotion sets, or has set."""

    drawn: int
    """The last position that the sequence had drawn before; 0 for none."""
    newest: int
    """The position of the newest event, above which the store continues."""


def promote(dsn: str, schema: str = "eventstore", *, dry_run: bool = False) -> Promotion:
    """Let a logical replica of a store take over: let its sequence continue above the newest event.

    Logical replication copies events, and not the sequence that draws their positions. Until the sequence is set, the
    replica refuses appends, and reads of the log. End the replication first. Appends wait meanwhile.

    Args:
        dsn: the database of the replica. The role must own the store.
        schema: the schema of the store.
        dry_run: only find out what would be set.

    Raises:
        InvalidOperation: there is nothing to set, a subscription of the database still brings events, or the server is
            a standby, whose sequence needs nothing.
        SchemaError: the schema is missing or not up to date.
        AccessDenied: the role lacks a privilege.
        StoreUnavailable: the server can't be reached.
        InvalidArgument: ``schema`` is not a valid name, or the DSN is malformed.
    """
    check_schema(schema)
    try:
        with connected(dsn) as connection:
            return _promoted(connection, schema, dry_run=dry_run)
    except psycopg.Error as error:
        raise translated(error, broken=False, schema=schema) from error


def _promoted(connection: psycopg.Connection[Any], schema: str, *, dry_run: bool) -> Promotion:
    cursor = connection.execute("SELECT pg_catalog.pg_is_in_recovery()")
    if cursor.fetchone() == (True,):
        raise InvalidOperation(
            "this server is a standby, to which the sequence of positions is replicated too: promote the server, for "
            "example with pg_promote(), and nothing else"
        )
    connection.execute(for_schema(_LOCK, schema).encode())
    events = sql.Identifier(schema, "events").as_string(None)
    subscribed = connection.execute(_SUBSCRIBED, {"events": events}).fetchone()
    if subscribed is not None:
        raise InvalidOperation(
            f"the subscription {subscribed[0]!r} still brings events to schema {schema!r}: stop appending on the other "
            "server, wait until everything has arrived, and drop or disable the subscription"
        )
    ((drawn, newest),) = connection.execute(for_schema(_LOOK, schema).encode()).fetchall()
    promotion = Promotion(drawn, newest)
    if promotion.drawn >= promotion.newest:
        raise InvalidOperation(
            f"there is nothing to set in schema {schema!r}: the sequence of positions is at {promotion.drawn}, and the "
            f"newest event at {promotion.newest}"
        )
    if not dry_run:
        connection.execute(for_schema(_SET, schema.replace("%", "%%")).encode(), (promotion.newest,))
    return promotion
