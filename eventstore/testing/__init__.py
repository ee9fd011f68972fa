"""For tests of applications, and for whoever writes a store: the suite that every store has to pass. Needs pytest."""

from __future__ import annotations

from eventstore.testing.adapters import BlockingEventStore, BlockingSnapshotStore, EventLoopThread
from eventstore.testing.contract import Capabilities, EventStoreContract, SnapshotStoreContract
from eventstore.testing.scenario import given

__all__ = [
    "BlockingEventStore",
    "BlockingSnapshotStore",
    "Capabilities",
    "EventLoopThread",
    "EventStoreContract",
    "SnapshotStoreContract",
    "given",
]
