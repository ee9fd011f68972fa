"""Schemas of other kinds than the one that each test has: those of tenants, and one whose events are divided."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from eventstore.postgres import Tenants, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg_pool import ConnectionPool

PARTITIONS = 4


@pytest.fixture
def prefix(schema: str, dsn: str) -> Iterator[str]:
    yield f"{schema}_t_"
    with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname::text, %s)", (f"{schema}_t_",)
        ).fetchall()
        for (name,) in found:
            connection.execute(f'DROP SCHEMA "{name}" CASCADE')


@pytest.fixture
def tenants(pool: ConnectionPool, prefix: str) -> Tenants:
    return Tenants(pool, prefix)


@pytest.fixture
def partitioned(pool: ConnectionPool) -> Iterator[str]:
    """The schema of a store with partitions."""
    name = f"test_partitions_{secrets.token_hex(4)}"
    with pool.connection() as connection:
        migrate(connection, name, partitions=PARTITIONS)
    yield name
    with pool.connection() as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
        connection.execute("RESET client_min_messages")
