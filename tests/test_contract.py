"""The contract, on every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg_pool import AsyncConnectionPool

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncInMemorySnapshotStore,
    AsyncPostgresEventStore,
    AsyncPostgresSnapshotStore,
    InMemoryEventStore,
    InMemorySnapshotStore,
    PostgresEventStore,
    PostgresSnapshotStore,
)
from eventstore.privacy import AsyncInMemorySubjectKeys, InMemorySubjectKeys
from eventstore.testing import (
    EventLoopThread,
    EventStoreContract,
    SnapshotStoreContract,
    SyncFromAsyncEventStore,
    SyncFromAsyncSnapshotStore,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg_pool import ConnectionPool


class TestInMemoryEventStore(EventStoreContract):
    @pytest.fixture
    def store(self) -> InMemoryEventStore:
        return InMemoryEventStore(subject_keys=InMemorySubjectKeys())


class TestPostgresEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, pool: ConnectionPool, schema: str) -> PostgresEventStore:
        return PostgresEventStore(pool, schema, subject_keys=InMemorySubjectKeys())


@pytest.fixture
def thread() -> Iterator[EventLoopThread]:
    with EventLoopThread() as thread:
        yield thread


@pytest.fixture
def async_pool(thread: EventLoopThread, dsn: str) -> Iterator[AsyncConnectionPool]:
    async def opened() -> AsyncConnectionPool:
        pool = AsyncConnectionPool(dsn, min_size=1, max_size=24, open=False, kwargs={"autocommit": True})
        await pool.open()
        return pool

    pool = thread.run(opened())
    yield pool
    thread.run(pool.close())


class TestAsyncInMemoryEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, thread: EventLoopThread) -> SyncFromAsyncEventStore:
        return SyncFromAsyncEventStore(AsyncInMemoryEventStore(subject_keys=AsyncInMemorySubjectKeys()), thread)


class TestAsyncPostgresEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, thread: EventLoopThread, async_pool: AsyncConnectionPool, schema: str) -> SyncFromAsyncEventStore:
        keys = AsyncInMemorySubjectKeys()
        return SyncFromAsyncEventStore(AsyncPostgresEventStore(async_pool, schema, subject_keys=keys), thread)


class TestInMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self) -> InMemorySnapshotStore:
        return InMemorySnapshotStore()


class TestPostgresSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self, pool: ConnectionPool, schema: str) -> PostgresSnapshotStore:
        return PostgresSnapshotStore(pool, schema)


class TestAsyncInMemorySnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self, thread: EventLoopThread) -> SyncFromAsyncSnapshotStore:
        return SyncFromAsyncSnapshotStore(AsyncInMemorySnapshotStore(), thread)


class TestAsyncPostgresSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(
        self, thread: EventLoopThread, async_pool: AsyncConnectionPool, schema: str
    ) -> SyncFromAsyncSnapshotStore:
        return SyncFromAsyncSnapshotStore(AsyncPostgresSnapshotStore(async_pool, schema), thread)
