"""Repositories: aggregates out of a store, and back into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate
from eventstore.core.blocking import run
from eventstore.core.repositories import RepositoryOperations
from eventstore.store import EventStore, SnapshotStore

A = TypeVar("A", bound=Aggregate[Any])


class Repository(Generic[A]):
    """Loads and saves aggregates of one class. As safe for threads as its store; an aggregate is for one at a time.

    With a ``snapshot_store``, a save that crosses a multiple of ``snapshot_frequency`` versions takes a snapshot, and a
    load starts from the newest one. A snapshot that is void (of another class schema, damaged, ahead of its stream) is
    ignored with a logged warning and replaced; no error of a snapshot or its store reaches the caller.
    """

    def __init__(
        self,
        store: EventStore,
        aggregate_type: type[A],
        snapshot_store: SnapshotStore | None = None,
        snapshot_frequency: int = 100,
    ) -> None:
        self._operations = RepositoryOperations(store, aggregate_type, snapshot_store, snapshot_frequency)

    def load(self, id: UUID | str) -> A:  # noqa: A002 it is called that everywhere
        """The aggregate at its newest version. Raises AggregateNotFound, and what EventStore.read does."""
        return run(self._operations.load(id))

    def save(self, aggregate: A) -> None:
        """Append the pending events at the aggregate's version, and clear them once they are stored.

        Raises what EventStore.append does, and then leaves the aggregate as it is. After ConcurrencyError, load it
        again; after AppendOutcomeUnknown, the same aggregate can be saved again.
        """
        run(self._operations.save(aggregate))

    def exists(self, id: UUID | str) -> bool:  # noqa: A002
        """Whether any event of this aggregate is stored."""
        return run(self._operations.exists(id))

    def update(self, id: UUID | str, change: Callable[[A], object], attempts: int = 5) -> A:  # noqa: A002
        """Load, change, save; and again after a conflict, ``attempts`` times in all. Returns the aggregate as saved.

        ``change`` is called once for each attempt, so it should do nothing but change the aggregate. Raises what it
        raises, and the last ConcurrencyError.
        """
        return run(self._operations.update(id, change, attempts))
