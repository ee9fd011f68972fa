"""Repositories: aggregates out of a store, and back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate
from eventstore.core.arguments import check_blocking, check_instance
from eventstore.core.blocking import run
from eventstore.core.repositories import RepositoryOperations
from eventstore.store import EventStore, SnapshotStore
from eventstore.versions import StreamVersion

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
        check_instance("store", store, EventStore)
        if snapshot_store is not None:
            check_instance("snapshot_store", snapshot_store, SnapshotStore)
        self._operations = RepositoryOperations(store, aggregate_type, snapshot_store, snapshot_frequency)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operations.described()})"

    def load(self, id: UUID | str) -> A:  # noqa: A002 it is called that everywhere
        """The aggregate at its newest version. Raises AggregateNotFound, and what EventStore.read does."""
        return run(self._operations.load(id))

    def save(self, aggregate: A, *, metadata: Mapping[str, Any] | None = None) -> StreamVersion:
        """Append the pending events at the aggregate's version, and clear them once they are stored.

        Returns the new version, an int that also has the ``position`` of its event: ``wait_until_processed`` of a
        subscription takes it.

        ``metadata`` is added to that of each event, whose own wins. In a transaction that is rolled back afterwards
        nothing is forgotten: the next save stores those events as well. After a rollback either save the same
        aggregate again, or load it and decide again, but never both.

        Raises what EventStore.append does, and then leaves the aggregate as it is. After ConcurrencyError, load it
        again; after AppendOutcomeUnknown, the same aggregate can be saved again.
        """
        return run(self._operations.save(aggregate, metadata))

    def exists(self, id: UUID | str) -> bool:  # noqa: A002
        """Whether any event of this aggregate is stored."""
        return run(self._operations.exists(id))

    def update(
        self,
        id: UUID | str,  # noqa: A002
        change: Callable[[A], None],
        attempts: int = 5,
        *,
        metadata: Mapping[str, Any] | None = None,
        command_id: UUID | str | None = None,
    ) -> A:
        """Load, change, save; and again after a conflict, ``attempts`` times in all. Returns the aggregate as saved.

        ``change`` is called once for each attempt, so it should do nothing but change the aggregate. The last of
        several attempts holds the stream's lock, so that it can't meet another conflict. ``metadata`` is that of
        ``save``.

        With ``command_id``, a UUID or a text such as a message's id, a command that is delivered again is carried out
        once: the events get ids that follow from it and their order, whatever ids they had. If the stream holds the
        first of them already, ``change`` is not called, and the aggregate is returned as it is. A command that
        recorded nothing leaves no trace: delivered again, it is tried again.

        Raises what ``change`` raises, and what ``load`` and ``save`` do.
        """
        check_blocking("change", change, instead="AsyncRepository")
        return run(self._operations.update(id, change, attempts, metadata, command_id))
