"""The contract, on every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eventstore import InMemoryEventStore, InMemorySnapshotStore, PostgresEventStore, PostgresSnapshotStore
from eventstore.testing import EventStoreContract, SnapshotStoreContract

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


class TestInMemoryEventStore(EventStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryEventStore:
        return InMemoryEventStore()


class TestPostgresEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, pool: ConnectionPool, schema: str) -> PostgresEventStore:
        return PostgresEventStore(pool, schema)


class TestInMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self) -> InMemorySnapshotStore:
        return InMemorySnapshotStore()


class TestPostgresSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self, pool: ConnectionPool, schema: str) -> PostgresSnapshotStore:
        return PostgresSnapshotStore(pool, schema)
