"""Event sourcing for Python: aggregates, an event store, snapshots; on PostgreSQL and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from eventstore.aggregate import Aggregate, handles
from eventstore.codec.registry import register_type
from eventstore.codec.upcasting import upcasts
from eventstore.core.checkpoints import ParkedEvent, SubscriptionState, SubscriptionStatus
from eventstore.errors import (
    AccessDenied,
    AggregateNotFound,
    AppendOutcomeUnknown,
    ArchiveError,
    ConcurrencyError,
    DeserializationError,
    DuplicateType,
    EventAlreadyStored,
    EventsLockError,
    EventStoreError,
    ForgottenSubject,
    InvalidArgument,
    InvalidOperation,
    NewerRevision,
    RevisionError,
    SchemaError,
    SerializationError,
    SnapshotError,
    StoreRefused,
    StoreUnavailable,
    StreamRetired,
    SubjectKeyError,
    SubscriptionBehind,
    SubscriptionFailed,
    UnknownEventType,
)
from eventstore.event import Event
from eventstore.log_cursor import LogCursor
from eventstore.memory.stores import InMemoryEventStore, InMemorySnapshotStore
from eventstore.repository import Repository
from eventstore.store import EventStore, Snapshot, SnapshotStore
from eventstore.tombstone import Tombstone
from eventstore.versions import ExpectedVersion, StreamVersion

if TYPE_CHECKING:
    from eventstore.async_repository import AsyncRepository
    from eventstore.memory.async_stores import AsyncInMemoryEventStore, AsyncInMemorySnapshotStore
    from eventstore.postgres.async_stores import (
        AsyncPostgresEventStore,
        AsyncPostgresSnapshotStore,
        AsyncPostgresTransaction,
    )
    from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore, PostgresTransaction
    from eventstore.store import AsyncEventStore, AsyncSnapshotStore
    from eventstore.subscriptions.asynchronous import AsyncProjection, AsyncSubscription
    from eventstore.subscriptions.batches import batched
    from eventstore.subscriptions.blocking import Projection, Subscription
    from eventstore.subscriptions.inline import async_inline, inline

__all__ = [
    "AccessDenied",
    "Aggregate",
    "AggregateNotFound",
    "AppendOutcomeUnknown",
    "ArchiveError",
    "AsyncEventStore",
    "AsyncInMemoryEventStore",
    "AsyncInMemorySnapshotStore",
    "AsyncPostgresEventStore",
    "AsyncPostgresSnapshotStore",
    "AsyncPostgresTransaction",
    "AsyncProjection",
    "AsyncRepository",
    "AsyncSnapshotStore",
    "AsyncSubscription",
    "ConcurrencyError",
    "DeserializationError",
    "DuplicateType",
    "Event",
    "EventAlreadyStored",
    "EventStore",
    "EventStoreError",
    "EventsLockError",
    "ExpectedVersion",
    "ForgottenSubject",
    "InMemoryEventStore",
    "InMemorySnapshotStore",
    "InvalidArgument",
    "InvalidOperation",
    "LogCursor",
    "NewerRevision",
    "ParkedEvent",
    "PostgresEventStore",
    "PostgresSnapshotStore",
    "PostgresTransaction",
    "Projection",
    "Repository",
    "RevisionError",
    "SchemaError",
    "SerializationError",
    "Snapshot",
    "SnapshotError",
    "SnapshotStore",
    "StoreRefused",
    "StoreUnavailable",
    "StreamRetired",
    "StreamVersion",
    "SubjectKeyError",
    "Subscription",
    "SubscriptionBehind",
    "SubscriptionFailed",
    "SubscriptionState",
    "SubscriptionStatus",
    "Tombstone",
    "UnknownEventType",
    "async_inline",
    "batched",
    "handles",
    "inline",
    "register_type",
    "upcasts",
]

_LAZY = {
    "AsyncEventStore": "eventstore.store",
    "AsyncInMemoryEventStore": "eventstore.memory.async_stores",
    "AsyncInMemorySnapshotStore": "eventstore.memory.async_stores",
    "AsyncPostgresEventStore": "eventstore.postgres.async_stores",
    "AsyncPostgresSnapshotStore": "eventstore.postgres.async_stores",
    "AsyncPostgresTransaction": "eventstore.postgres.async_stores",
    "AsyncProjection": "eventstore.subscriptions.asynchronous",
    "AsyncRepository": "eventstore.async_repository",
    "AsyncSnapshotStore": "eventstore.store",
    "AsyncSubscription": "eventstore.subscriptions.asynchronous",
    "PostgresEventStore": "eventstore.postgres.stores",
    "PostgresSnapshotStore": "eventstore.postgres.stores",
    "PostgresTransaction": "eventstore.postgres.stores",
    "Projection": "eventstore.subscriptions.blocking",
    "Subscription": "eventstore.subscriptions.blocking",
    "async_inline": "eventstore.subscriptions.inline",
    "batched": "eventstore.subscriptions.batches",
    "inline": "eventstore.subscriptions.inline",
}
"""Names whose modules take long to import, for those who need them only."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 only here

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
