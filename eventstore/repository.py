"""Repositories: aggregates out of a store, and back into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    """Loads and saves aggregates of one class.

    >>> orders = Repository(InMemoryEventStore(), Order)
    >>> order = Order("7")
    >>> order.create(uuid4(), [{"sku": "teapot", "quantity": 1}])
    >>> orders.save(order)
    1
    >>> orders.update("7", lambda order: order.ship("1Z")).status
    'shipped'

    It is as safe for threads as its store. An aggregate is for one thread at a time.

    With a ``snapshot_store``, a save that crosses a multiple of ``snapshot_frequency`` versions takes a snapshot, and a
    load starts from the newest one. An unusable snapshot (damaged, of another class, or not of this stream) is ignored
    with a warning in the log, and replaced. No error of a snapshot or of its store reaches the caller.

    Args:
        store: where the events are.
        aggregate_type: the class of the aggregates. Two classes with one category can't share a store.
        snapshot_store: where snapshots are; None if there are none.
        snapshot_frequency: the number of versions from one snapshot to the next. Large states are stored more rarely:
            snapshots write at most about 4 kB for each event.
        cache: how many aggregates to keep in memory, those that were used last; None: none. ``update`` then decides on
            the cached state, and appends at its version: one round trip. If the append meets a conflict, or ``change``
            raises or records nothing, it reads what happened since and tries again. ``load`` reads only what happened
            since. Both return copies, made as ``copy.deepcopy`` does.

    Raises:
        InvalidArgument: an argument is invalid, or another class with the same category uses the store.
    """

    def __init__(
        self,
        store: EventStore,
        aggregate_type: type[A],
        snapshot_store: SnapshotStore | None = None,
        snapshot_frequency: int = 100,
        *,
        cache: int | None = None,
    ) -> None:
        check_instance("store", store, EventStore)
        if snapshot_store is not None:
            check_instance("snapshot_store", snapshot_store, SnapshotStore)
        self._operations = RepositoryOperations(store, aggregate_type, snapshot_store, snapshot_frequency, cache)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operations.described()})"

    def load(self, id: UUID | str) -> A:  # noqa: A002 it is called that everywhere
        """Return the aggregate at its newest version.

        Raises:
            AggregateNotFound: no event of it is stored.
            StreamRetired: its stream is retired.
            UnknownEventType: it has no handler for one of its events.
            DeserializationError: an event can't be read.
            StoreUnavailable: the store could not be reached.
        """
        return run(self._operations.load(id))

    def clear_cache(self) -> None:
        """Let all cached aggregates go: the next call of each loads it."""
        self._operations.clear_cache()

    def save(self, aggregate: A, *, metadata: Mapping[str, Any] | None = None) -> StreamVersion:
        """Append the pending events at the aggregate's version, and clear them once they are stored.

        If the transaction around a save rolls back, the aggregate still has those events, and its next save stores
        them. After a rollback either save the same aggregate again, or load it and decide again, but never both.

        Args:
            aggregate: an instance of the repository's class. If the save fails, it stays as it was.
            metadata: added to the metadata of each event. Where both have a key, the event's own value is kept.

        Returns:
            The new version, an int that also has the ``position`` of the last event. A subscription's
            ``wait_until_processed`` takes that position.

        Raises:
            ConcurrencyError: somebody else has changed the stream. Load the aggregate again and decide again.
            EventAlreadyStored: the stream holds one of the events already.
            SerializationError: a value can't be stored.
            StoreUnavailable: nothing was stored; the same save may succeed later.
            AppendOutcomeUnknown: the events may or may not be stored. Save the same aggregate again.
        """
        return run(self._operations.save(aggregate, metadata))

    def save_all(self, aggregates: Iterable[A], *, metadata: Mapping[str, Any] | None = None) -> list[StreamVersion]:
        """Save several aggregates, all or none, in one round trip.

        >>> orders = Repository(InMemoryEventStore(), Order)
        >>> first, second = Order("7"), Order("8")
        >>> first.create(uuid4(), [])
        >>> second.create(uuid4(), [])
        >>> orders.save_all([first, second])
        [1, 1]

        Args:
            aggregates: at most 256, each once.
            metadata: as for ``save``.

        Returns:
            The new versions, in the order of the aggregates.

        Raises:
            InvalidArgument: there are more, or one of them comes twice.

        It also raises what ``save`` raises. Then nothing is stored, and all of them stay as they were.
        """
        return run(self._operations.save_all(aggregates, metadata))

    def exists(self, id: UUID | str) -> bool:  # noqa: A002
        """Return whether any event of this aggregate is stored."""
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
        """Load the aggregate, change it and save it; retry after a conflict.

        The last of several attempts holds the stream's lock, so that it can't meet another conflict.

        Args:
            id: the aggregate's id.
            change: called with the aggregate, once for each attempt. It should do nothing but change the aggregate.
                With a cache, an attempt with the cached state comes first, and is not counted.
            attempts: how often to try in all.
            metadata: as for ``save``.
            command_id: a UUID, or a text such as a message's id, under which the command is carried out once, however
                often it is delivered. The events get ids derived from it. If the stream holds the first of them
                already, ``change`` is not called, or what it does to a cached state has no effect. A command that
                records no event leaves no trace, so it is carried out again.

        Returns:
            The aggregate as it was saved, or as it is if the command was carried out before.

        Raises:
            ConcurrencyError: each attempt met a conflict.
            AggregateNotFound: no event of the aggregate is stored.

        It also raises what ``change``, ``load`` and ``save`` raise.
        """
        check_blocking("change", change, instead="AsyncRepository")
        return run(self._operations.update(id, change, attempts, metadata, command_id))
