"""Repositories in async: the twin of repository.py, where the methods are explained."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate
from eventstore.core.arguments import check_instance
from eventstore.core.asynchronous import run
from eventstore.core.repositories import RepositoryOperations
from eventstore.store import AsyncEventStore, AsyncSnapshotStore
from eventstore.versions import StreamVersion

A = TypeVar("A", bound=Aggregate[Any])


class AsyncRepository(Generic[A]):
    """Repository in async: over an async store, and an async snapshot store."""

    def __init__(
        self,
        store: AsyncEventStore,
        aggregate_type: type[A],
        snapshot_store: AsyncSnapshotStore | None = None,
        snapshot_frequency: int = 100,
        *,
        cache: int | None = None,
    ) -> None:
        check_instance("store", store, AsyncEventStore)
        if snapshot_store is not None:
            check_instance("snapshot_store", snapshot_store, AsyncSnapshotStore)
        self._operations = RepositoryOperations(store, aggregate_type, snapshot_store, snapshot_frequency, cache)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operations.described()})"

    async def load(self, id: UUID | str) -> A:  # noqa: A002 it is called that everywhere
        """As Repository.load."""
        return await run(self._operations.load(id))

    def clear_cache(self) -> None:
        """As Repository.clear_cache."""
        self._operations.clear_cache()

    async def save(self, aggregate: A, *, metadata: Mapping[str, Any] | None = None) -> StreamVersion:
        """As Repository.save."""
        return await run(self._operations.save(aggregate, metadata))

    async def save_all(
        self, aggregates: Iterable[A], *, metadata: Mapping[str, Any] | None = None
    ) -> list[StreamVersion]:
        """As Repository.save_all."""
        return await run(self._operations.save_all(aggregates, metadata))

    async def exists(self, id: UUID | str) -> bool:  # noqa: A002
        """As Repository.exists."""
        return await run(self._operations.exists(id))

    async def update(
        self,
        id: UUID | str,  # noqa: A002
        change: Callable[[A], Awaitable[None] | None],
        attempts: int = 5,
        *,
        metadata: Mapping[str, Any] | None = None,
        command_id: UUID | str | None = None,
    ) -> A:
        """As Repository.update; ``change`` may be async."""
        return await run(self._operations.update(id, change, attempts, metadata, command_id))
