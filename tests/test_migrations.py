"""Migrations: what is missing is applied, once, whoever asks; what does not fit is refused."""

from __future__ import annotations

import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from eventstore import Event, PostgresEventStore, SchemaError, StoreRefused, StoreUnavailable
from eventstore.postgres import migrate, planned_sql
from eventstore.postgres.migrations import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg_pool import ConnectionPool

ALL = [f"{file.number:04}_{file.name}" for file in migrations() if file.number]


@pytest.fixture
def name(pool: ConnectionPool) -> Iterator[str]:
    """The name of a schema that does not exist."""
    name = f"to_be_migrated_{secrets.token_hex(4)}"  # Sessions of the pool have plans for what stood in the last one.
    yield name
    with pool.connection() as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def change(pool: ConnectionPool, statement: str, schema: str) -> None:
    with pool.connection() as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(schema)))


def test_files_are_numbered_without_a_gap() -> None:
    assert [file.number for file in migrations()] == list(range(len(migrations())))


def test_migrate_applies_every_file_and_then_nothing(dsn: str, name: str, pool: ConnectionPool) -> None:
    assert migrate(dsn, name) == ALL
    assert migrate(dsn, name) == []
    assert PostgresEventStore(pool, name).append("s", [Event(event_type="T")], 0) == 1


def test_the_plan_is_what_would_be_run_and_runs_nothing(dsn: str, name: str, pool: ConnectionPool) -> None:
    plan = planned_sql(dsn, name)
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchone() is None
        connection.execute(plan.encode())
    assert migrate(dsn, name) == []
    assert planned_sql(dsn, name) == ""


def test_several_processes_can_migrate_at_once(dsn: str, name: str) -> None:
    program = "import sys; from eventstore.postgres import migrate; print(len(migrate(*sys.argv[1:])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, dsn, name], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    counts = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(counts) == ["0", "0", "0", str(len(ALL))]


def test_a_connection_of_the_callers_is_left_in_its_transaction(
    connection: psycopg.Connection, name: str, pool: ConnectionPool
) -> None:
    assert migrate(connection, name) == ALL
    connection.rollback()
    assert migrate(connection, name) == ALL
    connection.commit()
    with pool.connection() as other:
        assert migrate(other, name) == []


def test_triggers_can_be_left_out_and_come_later(dsn: str, name: str, pool: ConnectionPool) -> None:
    assert migrate(dsn, name, triggers=False) == [step for step in ALL if "append_only" not in step]
    PostgresEventStore(pool, name).append("s", [Event(event_type="T")], 0)
    change(pool, "UPDATE {}.events SET event_type = 'U'", name)
    assert migrate(dsn, name) == [step for step in ALL if "append_only" in step]
    with pytest.raises(psycopg.errors.RestrictViolation):
        change(pool, "UPDATE {}.events SET event_type = 'V'", name)


def test_an_altered_file_is_refused(dsn: str, schema: str, pool: ConnectionPool) -> None:
    change(pool, "UPDATE {}.migrations SET checksum = 'x' WHERE number = 2", schema)
    for use in (migrate, planned_sql):
        with pytest.raises(SchemaError, match=r"migration 2 \(append\) differs") as caught:
            use(dsn, schema)
        assert caught.value.schema == schema


def test_a_newer_database_is_refused(dsn: str, schema: str, pool: ConnectionPool) -> None:
    change(pool, "INSERT INTO {}.migrations (number, name, checksum) VALUES (9000, 'later', 'x')", schema)
    with pytest.raises(SchemaError, match="newer"):
        migrate(dsn, schema)


def test_an_older_database_is_brought_up_to_date(dsn: str, schema: str, pool: ConnectionPool) -> None:
    change(pool, "DROP TABLE {}.snapshots", schema)
    change(pool, "DELETE FROM {}.migrations WHERE number = 5", schema)
    assert migrate(dsn, schema) == ["0005_snapshots"]


def test_a_failure_leaves_nothing_behind(dsn: str, name: str, pool: ConnectionPool) -> None:
    change(pool, "CREATE SCHEMA {}", name)
    change(pool, "CREATE TABLE {}.snapshots (somebody_elses int)", name)
    with pytest.raises(StoreRefused, match="already exists"):
        migrate(dsn, name)
    with pool.connection() as connection:
        tables = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace", (name,))
        assert tables.fetchall() == [("snapshots",)]


def test_no_server_is_the_librarys_error() -> None:
    with pytest.raises(StoreUnavailable):
        migrate("host=127.0.0.1 port=1 connect_timeout=2")
