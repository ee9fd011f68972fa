"""What the tests themselves rest on: a schema that one test leaves to the next is as a new one."""

from __future__ import annotations

from secrets import token_bytes
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from spare_schemas import LARGEST, SpareSchemas

from eventstore import Event, PostgresEventStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from psycopg_pool import ConnectionPool


@pytest.fixture
def connection(pool: ConnectionPool) -> Iterator[psycopg.Connection]:
    with pool.connection() as connection:
        yield connection


@pytest.fixture
def schemas(connection: psycopg.Connection) -> Iterator[SpareSchemas]:
    schemas = SpareSchemas()
    yield schemas
    schemas.drop_all(connection)


def events(count: int, size: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"of": token_bytes(size)}) for _ in range(count)]


def test_what_was_only_filled_is_emptied_and_left(
    schemas: SpareSchemas, connection: psycopg.Connection, pool: ConnectionPool
) -> None:
    name = schemas.take(connection)
    PostgresEventStore(pool, name).append("s", events(3), 0)
    schemas.leave(connection, name)
    assert schemas.take(connection) == name
    store = PostgresEventStore(pool, name)
    assert list(store.read_all()) == []
    store.append("s", events(1), 0)
    assert [event.position for event in store.read_all()] == [1]
    schemas.leave(connection, name)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE {}.one (of integer)",
        "CREATE TYPE {}.one AS (of integer)",
        "CREATE INDEX ON {}.events (timestamp)",
        "CREATE FUNCTION {}.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION {}.refuse_change() RESET ALL",
        "ALTER TABLE {}.events DISABLE TRIGGER append_only",
        "ALTER TABLE {}.events ADD CHECK (version > 0)",
        "ALTER TABLE {}.events ALTER COLUMN timestamp SET STATISTICS 7",
        "ALTER SEQUENCE {}.event_positions CACHE 7",
        "GRANT USAGE ON SCHEMA {} TO PUBLIC",
        "GRANT SELECT ON {}.events TO PUBLIC",
        "GRANT SELECT (timestamp) ON {}.events TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {} GRANT SELECT ON TABLES TO PUBLIC",
        "DELETE FROM {}.migrations WHERE number = 1",
        "UPDATE {}.migrations SET name = name",
        "ANALYZE {}.events",
        "VACUUM FULL {}.events",
        "DROP SCHEMA {} CASCADE",
    ],
)
def test_what_was_changed_is_not_left(schemas: SpareSchemas, connection: psycopg.Connection, change: str) -> None:
    name = schemas.take(connection)
    connection.execute(sql.SQL(change).format(sql.Identifier(name)))
    schemas.leave(connection, name)
    assert connection.execute("SELECT to_regnamespace(%s)", (name,)).fetchone() == (None,)
    other = schemas.take(connection)
    assert other != name
    schemas.leave(connection, other)


def test_what_has_grown_large_is_not_left(
    schemas: SpareSchemas, connection: psycopg.Connection, pool: ConnectionPool
) -> None:
    name = schemas.take(connection)
    PostgresEventStore(pool, name).append("s", events(LARGEST // 1_000, 1_100), 0)
    schemas.leave(connection, name)
    assert connection.execute("SELECT to_regnamespace(%s)", (name,)).fetchone() == (None,)
