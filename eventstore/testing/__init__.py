"""For tests of applications, and for whoever writes a store: the suite that every store has to pass. Needs pytest."""

from __future__ import annotations

from eventstore.testing.adapters import EventLoopThread, SyncFromAsyncEventStore, SyncFromAsyncSnapshotStore
from eventstore.testing.contract import Capabilities, EventStoreContract, SnapshotStoreContract
from eventstore.testing.scenario import given

__all__ = [
    "Capabilities",
    "EventLoopThread",
    "EventStoreContract",
    "SnapshotStoreContract",
    "SyncFromAsyncEventStore",
    "SyncFromAsyncSnapshotStore",
    "given",
]
