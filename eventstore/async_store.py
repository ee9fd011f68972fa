"""The interfaces in async: the same names, arguments and promises as in store.py, where they are explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from eventstore.event import Event
from eventstore.store import Snapshot


class AsyncEventStore(ABC):
    """EventStore in async. Safe to be used by many tasks of one event loop, unless it is bound to a transaction."""

    @abstractmethod
    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        """As EventStore.append. Cancelled, it has stored all or nothing; the same events can be appended again."""

    @abstractmethod
    async def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        """As EventStore.read."""

    async def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        """As EventStore._read_page."""
        return await self.read(stream_id, from_version, limit=limit)

    @abstractmethod
    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: Sequence[str] | None = None,
        category: str | None = None,
    ) -> AsyncIterator[Event]:
        """As EventStore.read_all."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[AsyncEventStore]:
        """As EventStore.transaction; the store that it gives is for one task at a time."""

    @abstractmethod
    def bind(self, connection: Any) -> AsyncEventStore:
        """As EventStore.bind."""


class AsyncSnapshotStore(ABC):
    """SnapshotStore in async."""

    @abstractmethod
    async def load(self, aggregate_type: str, aggregate_id: str) -> Snapshot | None:
        """As SnapshotStore.load."""

    @abstractmethod
    async def save(self, snapshot: Snapshot) -> None:
        """As SnapshotStore.save."""

    @abstractmethod
    async def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        """As SnapshotStore.delete."""
