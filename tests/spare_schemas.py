"""Schemas that one test leaves to the next: to empty one takes an eighth of the time of making and dropping it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

from psycopg import sql

from eventstore.postgres import migrate

if TYPE_CHECKING:
    import psycopg

LARGEST = 2_000_000
"""Bytes of tables and indexes above which a schema is dropped. A new one has 280,000."""

# What is created or altered has a new row in the catalog. What is analyzed or vacuumed keeps it, and has other plans.
_STATE = """
    WITH home AS (SELECT %(schema)s::regnamespace AS oid),
    classes AS (SELECT * FROM pg_class WHERE relnamespace = (SELECT oid FROM home)),
    found (kind, oid, xmin, more) AS (
        SELECT 'schema', oid, xmin, '' FROM pg_namespace WHERE oid = (SELECT oid FROM home)
        UNION ALL SELECT 'default grant', oid, xmin, '' FROM pg_default_acl
            WHERE defaclnamespace = (SELECT oid FROM home)
        UNION ALL SELECT 'type', oid, xmin, '' FROM pg_type WHERE typnamespace = (SELECT oid FROM home)
        UNION ALL SELECT 'function', oid, xmin, '' FROM pg_proc WHERE pronamespace = (SELECT oid FROM home)
        UNION ALL SELECT 'constraint', oid, xmin, '' FROM pg_constraint WHERE connamespace = (SELECT oid FROM home)
        UNION ALL SELECT 'class', oid, pg_class.xmin, format('%%s %%s', reltuples, relallvisible) FROM pg_class
            WHERE oid IN (SELECT oid FROM classes)
        UNION ALL SELECT 'column', attrelid, xmin, attname FROM pg_attribute
            WHERE attrelid IN (SELECT oid FROM classes)
        UNION ALL SELECT 'index', indexrelid, xmin, '' FROM pg_index WHERE indrelid IN (SELECT oid FROM classes)
        UNION ALL SELECT 'trigger', oid, xmin, '' FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM classes)
        UNION ALL SELECT 'rule', oid, xmin, '' FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM classes)
        UNION ALL SELECT 'sequence', seqrelid, xmin, '' FROM pg_sequence WHERE seqrelid IN (SELECT oid FROM classes)
        UNION ALL SELECT 'migration', number, xmin, '' FROM {schema}.migrations
    )
    SELECT md5(string_agg(format('%%s %%s %%s %%s', kind, oid, xmin, more), ',' ORDER BY kind, oid, xmin::text, more)),
        (SELECT sum(pg_relation_size(oid)) FROM classes) <= %(largest)s
    FROM found
"""

_TABLES = [
    "archived_streams",
    "events",
    "log_mark",
    "parked_events",
    "restored_events",
    "snapshots",
    "subject_streams",
    "subscriptions",
]


class SpareSchemas:
    """Schemas that are as new, but for their names. The events of each are divided into so many partitions."""

    def __init__(self, partitions: int | None = None) -> None:
        self._partitions = partitions
        self._spare: list[str] = []
        self._new: dict[str, Any] = {}

    def take(self, connection: psycopg.Connection) -> str:
        """Return an empty schema: one that a test has left as it was, or a new one."""
        if self._spare:
            return self._spare.pop()
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        migrate(connection, name, partitions=self._partitions)
        self._new[name] = _state(connection, name)
        return name

    def leave(self, connection: psycopg.Connection, name: str) -> None:
        """Empty it if that makes a new one of it; else drop it."""
        exists = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (name,)).fetchone()
        if exists == (True,) and _state(connection, name) == self._new[name]:
            _empty(connection, name)
            self._spare.append(name)
        else:
            _drop(connection, name)

    def drop_all(self, connection: psycopg.Connection) -> None:
        while self._spare:
            _drop(connection, self._spare.pop())


def _state(connection: psycopg.Connection, name: str) -> Any:
    """What differs as soon as anything in the schema but its rows does. Only a small one has a state."""
    query = sql.SQL(_STATE).format(schema=sql.Identifier(name))
    state, is_small = connection.execute(query, {"schema": name, "largest": LARGEST}).fetchone() or (None, False)
    return state if is_small else object()


def _empty(connection: psycopg.Connection, name: str) -> None:
    tables = [sql.Identifier(name, table) for table in _TABLES]
    with connection.transaction():
        # Whoever is still at work in it is waited for, as DROP SCHEMA does.
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(tables)))
        # Events can not be deleted: this leaves out the trigger that says so.
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in tables:
            connection.execute(sql.SQL("DELETE FROM {}").format(table))
        positions = sql.Literal(sql.Identifier(name, "event_positions").as_string())
        connection.execute(sql.SQL("SELECT setval({}, 1, false)").format(positions))


def _drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute("SET client_min_messages = warning")
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
    connection.execute("RESET client_min_messages")
