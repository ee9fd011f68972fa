"""The suite that every store has to pass, for whoever writes one. Needs pytest."""

from __future__ import annotations

from eventstore.testing.blocking import BlockingEventStore, BlockingSnapshotStore, EventLoopThread
from eventstore.testing.contract import EventStoreContract, SnapshotStoreContract

__all__ = [
    "BlockingEventStore",
    "BlockingSnapshotStore",
    "EventLoopThread",
    "EventStoreContract",
    "SnapshotStoreContract",
]
