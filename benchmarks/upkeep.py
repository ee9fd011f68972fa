"""What the server has to clean up after: the settings of the tables, as ``python -m benchmarks upkeep`` chose them."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL, Identifier, Literal

from benchmarks.measuring import Table, seconds
from benchmarks.partitions import CHUNK, fill
from eventstore.postgres import migrate
from eventstore.postgres.migrations import migrate_subject_keys

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

_UPDATED = {
    "snapshots": (
        20_000,
        """
        INSERT INTO {schema}.snapshots (aggregate_type, aggregate_id, class_schema, version, event_id, state, checksum)
        SELECT 'Order', number, 'a1b2c3d4e5f60718', 1, gen_random_uuid(), {state}, {checksum}
        FROM generate_series(1, {rows}) AS number ORDER BY random()
        """,
        """
        UPDATE {schema}.snapshots SET version = version + 1, state = {state}, taken_at = now()
        WHERE aggregate_type = 'Order' AND aggregate_id = _key
        """,
    ),
    "subscriptions": (
        64,
        """
        INSERT INTO {schema}.subscriptions (name, partition, partitions, position)
        SELECT number, 0, 1, 0 FROM generate_series(1, {rows}) AS number
        """,
        """
        UPDATE {schema}.subscriptions SET position = position + 1, moved_at = now() WHERE name = _key AND partition = 0
        """,
    ),
    "subject_keys": (
        20_000,
        """
        INSERT INTO {schema}.subject_keys (subject, wrapped, wrapped_by, created_at)
        SELECT number, {checksum} || {checksum}, 'key-1', now()
        FROM generate_series(1, {rows}) AS number ORDER BY random()
        """,
        "UPDATE {schema}.subject_keys SET wrapped_by = 'key-2' WHERE subject = _key",
    ),
}
_LOOP = """
    DO $$
    DECLARE _key text;
    BEGIN
        FOR _number IN 1 .. {updates} LOOP
            _key := 1 + floor(random() * {rows});
            {update};
            COMMIT;
        END LOOP;
    END $$
"""
_OUTCOME = """
    SELECT 100.0 * n_tup_hot_upd / n_tup_upd, pg_total_relation_size(relid) / 1e6
    FROM pg_stat_user_tables WHERE schemaname = %s AND relname = %s
"""


def in_place(pool: ConnectionPool[Any]) -> None:
    """Tables whose rows are updated: each update a transaction, between two runs of autovacuum."""
    table = Table("Updates in place, by fillfactor", "table, fillfactor", "heap-only updates, %", "MB after", "seconds")
    for name, (rows, insert, update) in _UPDATED.items():
        for fillfactor in (100, 90, 70, 50):
            schema = f"upkeep_{name}_{fillfactor}"
            with pool.connection() as connection:
                (migrate_subject_keys if name == "subject_keys" else migrate)(connection, schema)
                parts: dict[str, Any] = {
                    "schema": Identifier(schema),
                    "table": Identifier(name),
                    "rows": Literal(rows),
                    "state": SQL("decode(repeat('a7', 500), 'hex')"),
                    "checksum": SQL("decode(repeat('a7', 20), 'hex')"),
                    "updates": Literal(40_000),
                }
                for statement in (f"ALTER TABLE {{schema}}.{{table}} SET (fillfactor = {fillfactor})", insert):
                    connection.execute(SQL(statement).format(**parts))  # type: ignore[arg-type] ours
                connection.execute(SQL("VACUUM ANALYZE {schema}.{table}").format(**parts))
                loop = SQL(_LOOP.replace("{update}", update)).format(**parts)  # type: ignore[arg-type] ours
                connection.execute("SET synchronous_commit = off")
                took = seconds(partial(connection.execute, loop))
                connection.execute("RESET synchronous_commit")
                connection.execute("SELECT pg_stat_force_next_flush()")
                row = connection.execute(_OUTCOME, (schema, name)).fetchone()
            assert row is not None
            table.row(f"{name}, {fillfactor}", f"{row[0]:.0f}", f"{row[1]:.1f}", f"{took:.1f}")


def insert_only(pool: ConnectionPool[Any], size: int) -> None:
    """The log: vacuums after so many new events, with rows frozen at once or later."""
    ages = {"later": "50000000", "at once": "0"}
    cells: dict[str, list[str]] = {}
    for number, age in enumerate(ages.values()):
        schema = f"upkeep_{number}"
        with pool.connection() as connection:
            migrate(connection, schema)
            connection.execute(f"ALTER TABLE {schema}.events SET (autovacuum_enabled = off)")
        for first in range(0, size, CHUNK):
            fill(pool, schema, first)
            took = _vacuum(pool, schema, age)
        cells.setdefault(f"VACUUM of {size:,} events, {CHUNK:,} of them new", []).append(took)
        cells.setdefault("then VACUUM (FREEZE), as against wraparound", []).append(
            _vacuum(pool, schema, "0", "(FREEZE) ")
        )
    table = Table("The log: vacuums", "work", *(f"frozen {when}: seconds, MB of WAL" for when in ages))
    for name, found in cells.items():
        table.row(name, *found)


def _vacuum(pool: ConnectionPool[Any], schema: str, age: str, options: str = "") -> str:
    with pool.connection() as connection:
        connection.execute(f"SET vacuum_freeze_min_age = {age}".encode())
        before = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        started = time.perf_counter()
        connection.execute(f"VACUUM {options}{schema}.events".encode())
        took = time.perf_counter() - started
        assert before is not None
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s) / 1e6", before).fetchone()
        connection.execute("RESET vacuum_freeze_min_age")
    assert row is not None
    return f"{took:.1f}, {row[0]:.0f}"


def upkeep(pool: ConnectionPool[Any], size: int) -> None:
    """All of it."""
    in_place(pool)
    insert_only(pool, size)
