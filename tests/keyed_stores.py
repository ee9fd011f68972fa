"""Stores with keys for personal data: all four kinds, with the keys in the log's database and in another one."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fronts import AsyncFront, Blocking, Front
from psycopg.conninfo import make_conninfo

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncInMemorySnapshotStore,
    AsyncPostgresEventStore,
    AsyncPostgresSnapshotStore,
    AsyncRepository,
    InMemoryEventStore,
    InMemorySnapshotStore,
    PostgresEventStore,
    PostgresSnapshotStore,
    Repository,
)
from eventstore.privacy import (
    AsyncInMemorySubjectKeys,
    AsyncPostgresSubjectKeys,
    InMemorySubjectKeys,
    PostgresSubjectKeys,
    migrate_subject_keys,
)
from eventstore.testing import EventLoopThread, SyncFromAsyncEventStore, SyncFromAsyncSnapshotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

KEY_ENCRYPTION_KEY = bytes(range(32))


class Keyed:
    """A blocking store with keys, another one on the same log without them, and how to look at both."""

    def __init__(self, store: Any, keys: Any, without_keys: Any, snapshots: Any) -> None:
        self.front, self.front_without_keys = Front(store), Front(without_keys)
        self.store = store
        self.keys = keys
        self.without_keys = without_keys
        self.snapshots = snapshots

    def repository(self, cls: type[Any], frequency: int, *, keys: bool = True, cache: int | None = None) -> Any:
        return Repository(self.store if keys else self.without_keys, cls, self.snapshots, frequency, cache=cache)


class AsyncKeyed(Keyed):
    """The same of async stores, on an event loop in a thread."""

    def __init__(self, store: Any, keys: Any, without_keys: Any, snapshots: Any, thread: EventLoopThread) -> None:
        super().__init__(
            SyncFromAsyncEventStore(store, thread),
            BlockingKeys(keys, thread),
            SyncFromAsyncEventStore(without_keys, thread),
            SyncFromAsyncSnapshotStore(snapshots, thread),
        )
        self.front, self.front_without_keys = AsyncFront(store, thread), AsyncFront(without_keys, thread)
        self._snapshots = snapshots
        self._thread = thread

    def repository(self, cls: type[Any], frequency: int, *, keys: bool = True, cache: int | None = None) -> Any:
        front = self.front if keys else self.front_without_keys
        return Blocking(AsyncRepository(front.followed, cls, self._snapshots, frequency, cache=cache), self._thread)


class BlockingKeys:
    """Async keys whose methods block."""

    def __init__(self, keys: Any, thread: EventLoopThread) -> None:
        self._keys = keys
        self._thread = thread

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args: self._thread.run(getattr(self._keys, name)(*args))


@pytest.fixture
def keys_schema(dsn: str) -> Iterator[str]:
    """A schema for keys in the database of the tests."""
    with _keys_schema(dsn) as schema:
        yield schema


@pytest.fixture(scope="session")
def other_dsn(dsn: str) -> Iterator[str]:
    """Another database on the same server."""
    name = f"test_keys_{secrets.token_hex(4)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield make_conninfo(dsn, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _keys_schema(dsn: str) -> Generator[str, None, None]:
    name = f"test_keys_{secrets.token_hex(4)}"
    migrate_subject_keys(dsn, name)
    yield name
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def other_keys_schema(other_dsn: str) -> Iterator[str]:
    with _keys_schema(other_dsn) as schema:
        yield schema


@pytest.fixture(params=["memory", "postgres", "elsewhere", "async memory", "async postgres", "async elsewhere"])
def keyed(request: pytest.FixtureRequest) -> Iterator[Keyed]:
    """Each kind of store with keys. ``elsewhere``: on PostgreSQL, with the keys in another database."""
    kind: str = request.param
    if kind == "memory":
        keys = InMemorySubjectKeys()
        store, plain = InMemoryEventStore(subject_keys=keys), InMemoryEventStore()
        plain._engine = store._engine
        yield Keyed(store, keys, plain, InMemorySnapshotStore())
        return
    if kind == "async memory":
        with EventLoopThread() as thread:
            async_keys = AsyncInMemorySubjectKeys()
            async_store, async_plain = AsyncInMemoryEventStore(subject_keys=async_keys), AsyncInMemoryEventStore()
            async_plain._engine = async_store._engine
            yield AsyncKeyed(async_store, async_keys, async_plain, AsyncInMemorySnapshotStore(), thread)
        return
    dsn, schema = request.getfixturevalue("dsn"), request.getfixturevalue("schema")
    elsewhere = "elsewhere" in kind
    keys_dsn = request.getfixturevalue("other_dsn" if elsewhere else "dsn")
    keys_schema = request.getfixturevalue("other_keys_schema" if elsewhere else "keys_schema")
    if kind.startswith("async"):
        with EventLoopThread() as thread:
            keys_ = AsyncPostgresSubjectKeys.connect(keys_dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema)
            store_ = AsyncPostgresEventStore.connect(dsn, schema, subject_keys=keys_)
            plain_ = AsyncPostgresEventStore(store_.connections, schema)
            snapshots_ = AsyncPostgresSnapshotStore(store_.connections, schema)
            yield AsyncKeyed(store_, keys_, plain_, snapshots_, thread)
            thread.run(store_.close())
            thread.run(keys_.close())
        return
    with (
        PostgresSubjectKeys.connect(keys_dsn, wrap=KEY_ENCRYPTION_KEY, schema=keys_schema) as pg_keys,
        PostgresEventStore.connect(dsn, schema, subject_keys=pg_keys) as pg_store,
    ):
        pg_plain = PostgresEventStore(pg_store.connections, schema)
        yield Keyed(pg_store, pg_keys, pg_plain, PostgresSnapshotStore(pg_store.connections, schema))
