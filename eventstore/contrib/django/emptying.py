"""Removing everything from a store: what tests do after each other, and `flush --events`."""

from __future__ import annotations

from django.db.transaction import atomic
from psycopg.sql import SQL, Identifier, Literal

from eventstore.contrib.django import conf
from eventstore.contrib.django.stores import event_store
from eventstore.errors import InvalidOperation

_IS_THERE = SQL("SELECT to_regclass({})")
_HOLDS_ANYTHING = SQL("""
    SELECT EXISTS (SELECT FROM {0}.events) OR EXISTS (SELECT FROM {0}.snapshots)
        OR EXISTS (SELECT FROM {0}.subscriptions)
""")
_TABLES = SQL("""
    SELECT {events}::regclass::text UNION ALL
    SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = {events}::regclass
""")
"""The table of events, and its partitions."""
_GUARD = SQL("ALTER TABLE {table} {action} TRIGGER USER")
_EMPTY = SQL("""
    TRUNCATE {0}.events, {0}.log_mark, {0}.snapshots, {0}.subscriptions, {0}.parked_events,
        {0}.subject_streams, {0}.archived_streams RESTART IDENTITY
""")


def holds_anything(using: str) -> bool:
    """Whether the schema is there, with an event, a snapshot or a checkpoint in it."""
    schema = Identifier(conf.setting("SCHEMA"))
    cursor = event_store(using).connection.cursor()
    there = cursor.execute(_IS_THERE.format(Literal(f"{schema.as_string(None)}.events"))).fetchone()
    found = cursor.execute(_HOLDS_ANYTHING.format(schema)).fetchone() if there and there[0] else None
    return bool(found and found[0])


def remove_everything(using: str) -> None:
    """Remove all events, snapshots and checkpoints, whichever database it is."""
    with atomic(using=using):
        if holds_anything(using):
            schema = Identifier(conf.setting("SCHEMA"))
            cursor = event_store(using).connection.cursor()
            events = Literal(f"{schema.as_string(None)}.events")
            guarded = [SQL(name) for (name,) in cursor.execute(_TABLES.format(events=events)).fetchall()]
            for action in ("DISABLE", "ENABLE"):
                for table in guarded:
                    cursor.execute(_GUARD.format(table=table, action=SQL(action)))
                if action == "DISABLE":
                    cursor.execute(_EMPTY.format(schema))


def empty_store(using: str | None = None) -> None:
    """Remove all events, snapshots and checkpoints of the project's store, in a test database.

    Raises InvalidOperation where the database is not named as test databases are.
    """
    using = event_store(using).using
    if not conf.is_test_database(using):
        raise InvalidOperation(f"{conf.database_name(using)!r} is not named as a test database: its events stay")
    remove_everything(using)
