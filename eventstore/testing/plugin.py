"""Fixtures for tests of applications. In conftest.py: ``pytest_plugins = ["eventstore.testing.plugin"]``.

PostgreSQL is brought up once a session, unless EVENTSTORE_TEST_DSN names one; each test has a schema of its own.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from eventstore.memory import InMemoryEventStore, InMemorySnapshotStore
from eventstore.postgres import PostgresEventStore, PostgresSnapshotStore, migrate
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.embedded import EmbeddedServer

_numbers = itertools.count(1)


_NAMED_FOR_TESTS = re.compile(r"(?<![^\W\d_])test", re.IGNORECASE)
"""shop_test and test-shop, but neither latest nor contest."""
_OTHER_TABLES = r"""
    SELECT pg_catalog.format('%I.%I', nspname, relname) FROM pg_catalog.pg_class
    JOIN pg_catalog.pg_namespace AS schema ON relnamespace = schema.oid
    WHERE relkind IN ('r', 'p') AND nspname NOT LIKE ALL (ARRAY['test\_%', 'pg\_%', 'information\_schema']) LIMIT 1
"""


def refuse_real_data(dsn: str) -> None:
    """Fail where a database is not named as one for tests, and has tables that are not the tests'."""
    with psycopg.connect(dsn) as connection:
        name = connection.info.dbname
        table = connection.execute(_OTHER_TABLES).fetchone()
    if table is not None and not _NAMED_FOR_TESTS.search(name):
        pytest.fail(
            f"EVENTSTORE_TEST_DSN leads to the database {name!r}, which has the table {table[0]}: the tests make and "
            "drop schemas there. Name an empty database, or one in whose name a word begins with 'test'.",
            pytrace=False,
        )


@pytest.fixture
def memory_event_store() -> InMemoryEventStore:
    """An empty store in memory."""
    return InMemoryEventStore()


@pytest.fixture
def memory_snapshot_store() -> InMemorySnapshotStore:
    """An empty snapshot store in memory."""
    return InMemorySnapshotStore()


@pytest.fixture(scope="session")
def eventstore_dsn() -> Iterator[str]:
    """A server for the session: EVENTSTORE_TEST_DSN, or one of its own out of the extra ``quickstart``."""
    given = os.environ.get("EVENTSTORE_TEST_DSN")
    if given:
        refuse_real_data(checked_dsn(given))
        yield given
        return
    with EmbeddedServer(durable=False) as server:
        yield server.dsn


@pytest.fixture(scope="session")
def eventstore_pool(eventstore_dsn: str) -> Iterator[ConnectionPool[psycopg.Connection[Any]]]:
    """Connections to it."""
    pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        eventstore_dsn, min_size=1, max_size=10, open=True, kwargs={"autocommit": True}
    )
    with pool:
        yield pool


@pytest.fixture
def eventstore_schema(eventstore_pool: ConnectionPool[psycopg.Connection[Any]]) -> Iterator[str]:
    """An empty schema, up to date, for one test."""
    # No schema that is there already has this name: it is dropped at the end.
    name = f"test_{os.getpid()}_{next(_numbers)}_{secrets.token_hex(4)}"
    with eventstore_pool.connection() as connection:
        migrate(connection, name)
    yield name
    with eventstore_pool.connection() as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        connection.execute("RESET client_min_messages")


@pytest.fixture
def postgres_event_store(
    eventstore_pool: ConnectionPool[psycopg.Connection[Any]], eventstore_schema: str
) -> PostgresEventStore:
    """An empty store on PostgreSQL."""
    return PostgresEventStore(eventstore_pool, eventstore_schema)


@pytest.fixture
def postgres_snapshot_store(
    eventstore_pool: ConnectionPool[psycopg.Connection[Any]], eventstore_schema: str
) -> PostgresSnapshotStore:
    """An empty snapshot store on PostgreSQL, in the schema of ``postgres_event_store``."""
    return PostgresSnapshotStore(eventstore_pool, eventstore_schema)
