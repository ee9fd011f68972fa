"""Schemas of other kinds than the one that each test has: those of tenants, and one whose events are divided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from spare_schemas import SpareSchemas

from eventstore.postgres import Tenants

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


@pytest.fixture(scope="session")
def _spare_partitioned(pool: ConnectionPool) -> Iterator[SpareSchemas]:
    schemas = SpareSchemas(PARTITIONS)
    yield schemas
    with pool.connection() as connection:
        schemas.drop_all(connection)


@pytest.fixture
def partitioned(pool: ConnectionPool, _spare_partitioned: SpareSchemas) -> Iterator[str]:
    """The schema of a store with partitions."""
    with pool.connection() as connection:
        name = _spare_partitioned.take(connection)
    yield name
    with pool.connection() as connection:
        _spare_partitioned.leave(connection, name)
