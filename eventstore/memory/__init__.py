"""The stores in memory."""

from __future__ import annotations

from eventstore.memory.stores import InMemoryEventStore, InMemorySnapshotStore

__all__ = ["InMemoryEventStore", "InMemorySnapshotStore"]
