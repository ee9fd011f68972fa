"""Event sourcing for Python: aggregates, an event store, snapshots; on PostgreSQL and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstore.aggregate import Aggregate, handles
from eventstore.errors import (
    AggregateNotFound,
    AppendOutcomeUnknown,
    ConcurrencyError,
    DeserializationError,
    DuplicateType,
    EventStoreError,
    InvalidArgument,
    InvalidOperation,
    SchemaError,
    SerializationError,
    SnapshotError,
    StoreUnavailable,
    UnknownEventType,
)
from eventstore.event import Event
from eventstore.memory.stores import InMemoryEventStore, InMemorySnapshotStore
from eventstore.repository import Repository
from eventstore.store import EventStore, ExpectedVersion, Snapshot, SnapshotStore
from eventstore.types import register_type

if TYPE_CHECKING:
    from eventstore.async_repository import AsyncRepository
    from eventstore.async_store import AsyncEventStore, AsyncSnapshotStore
    from eventstore.memory.async_stores import AsyncInMemoryEventStore, AsyncInMemorySnapshotStore
    from eventstore.postgres.async_stores import AsyncPostgresEventStore, AsyncPostgresSnapshotStore
    from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore

__all__ = [
    "Aggregate",
    "AggregateNotFound",
    "AppendOutcomeUnknown",
    "AsyncEventStore",
    "AsyncInMemoryEventStore",
    "AsyncInMemorySnapshotStore",
    "AsyncPostgresEventStore",
    "AsyncPostgresSnapshotStore",
    "AsyncRepository",
    "AsyncSnapshotStore",
    "ConcurrencyError",
    "DeserializationError",
    "DuplicateType",
    "Event",
    "EventStore",
    "EventStoreError",
    "ExpectedVersion",
    "InMemoryEventStore",
    "InMemorySnapshotStore",
    "InvalidArgument",
    "InvalidOperation",
    "PostgresEventStore",
    "PostgresSnapshotStore",
    "Repository",
    "SchemaError",
    "SerializationError",
    "Snapshot",
    "SnapshotError",
    "SnapshotStore",
    "StoreUnavailable",
    "UnknownEventType",
    "handles",
    "register_type",
]

_LAZY = {
    "AsyncEventStore": "eventstore.async_store",
    "AsyncInMemoryEventStore": "eventstore.memory.async_stores",
    "AsyncInMemorySnapshotStore": "eventstore.memory.async_stores",
    "AsyncPostgresEventStore": "eventstore.postgres.async_stores",
    "AsyncPostgresSnapshotStore": "eventstore.postgres.async_stores",
    "AsyncRepository": "eventstore.async_repository",
    "AsyncSnapshotStore": "eventstore.async_store",
    "PostgresEventStore": "eventstore.postgres.stores",
    "PostgresSnapshotStore": "eventstore.postgres.stores",
}
"""Names whose modules take long to import, for those who need them only."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 only here

    return getattr(import_module(_LAZY[name]), name)
