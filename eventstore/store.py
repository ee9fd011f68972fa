"""What a store is, blocking and async: the interfaces that applications program against, and that stores implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from eventstore.event import Event
from eventstore.versions import StreamVersion

EventTypes: TypeAlias = str | type[Event] | Iterable[str | type[Event]]
"""Types of events to read: names, or classes of events; one or several."""
Categories: TypeAlias = str | Iterable[str]
"""Categories of streams to read: one or several."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An aggregate's state at one version, as bytes of the codec. Repositories take, check and use them."""

    aggregate_type: str
    """The aggregate's category."""
    aggregate_id: str
    class_schema: str
    """A fingerprint of the class's fields. Releases that differ in them have snapshots of their own."""
    version: int
    """The stream's version that the state stands at."""
    event_id: UUID
    """The id of the event at that version: it shows whether the snapshot is of this stream as it is now."""
    state: bytes
    checksum: bytes
    """Over all of the above."""


class _KnownToRepositories:
    """What repositories ask of a store, blocking or async, beside its methods."""

    @property
    def categories(self) -> dict[str, type[Any]]:
        """The classes of aggregates that repositories keep here, by category; a transaction has its store's."""
        found: dict[str, type[Any]] = self.__dict__.setdefault("_categories", {})
        return found

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Call back once what was appended so far is known to be committed.

        That is at once in a store that commits each append, and after the commit in a ``transaction()``. It is never
        in a transaction of the caller's, whose commit is not seen. ``callback`` must not block or raise.
        """
        callback()


class EventStore(_KnownToRepositories, ABC):
    """A log of events in streams. Safe to be used by many threads at once, unless it is bound to a transaction."""

    @abstractmethod
    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        """Append events to a stream, all or none, and return the version of the last of them, which has its position.

        ``expected_version`` is the version that the stream must have (0: it must not exist), or an ExpectedVersion.
        Events with the same ids at the same place already are the same success again. No events: only the check.

        Raises ConcurrencyError if the stream is elsewhere; SerializationError for a value that can't be stored;
        InvalidArgument for arguments that can't be; StoreUnavailable if nothing was stored; AppendOutcomeUnknown if
        that could not be found out; SchemaError if the database is not prepared.
        """

    @abstractmethod
    def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        """The events of a stream with versions above ``from_version``, up to and with ``to_version``.

        In order, or ``backwards``; the first ``limit`` in that direction. A stream that does not exist has none.
        Raises InvalidArgument, DeserializationError, StoreUnavailable, SchemaError.
        """

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        """As ``read``, for a repository, which lets an event go once it is applied: it may be decoded only then."""
        return self.read(stream_id, from_version, limit=limit)

    def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        """As ``_read_page``, and whether the whole stream holds an event id."""
        events = self.read(stream_id)
        return any(event.event_id == event_id for event in events), events[from_version : from_version + limit]

    @abstractmethod
    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: EventTypes | None = None,
        categories: Categories | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """The events of all streams with positions above ``from_position``, in the order of their positions.

        Ends where, at its start, no transaction could commit a lower position any more: a reader that goes on from the
        last position later never misses one. Reads ``batch_size`` events at a time. With ``event_types`` only those of
        these types, with ``categories`` only those of streams whose id begins
        with one of them and "-". Both are one or several: an event type is a name or a class of events.

        ``backwards`` begins with the newest event. ``limit`` is the number of events to read at most.
        """

    def last_position(self) -> int:
        """Return the position where ``read_all`` ends now; 0 if there is no event.

        Whoever reads on from here later misses no event. An open transaction that appends can hold it below the
        position of an event that is stored: to wait for that one, use the position that its append returned.
        """
        return next((event.position for event in self.read_all(backwards=True, limit=1)), 0)

    @abstractmethod
    def transaction(self) -> AbstractContextManager[EventStore]:
        """A context manager that gives a store on which several appends, to several streams, are one.

        They are stored when the block ends, and none of them if it raises. The store that it gives sees them at once;
        it is for one thread, and of no use after the block. Its own ``transaction()`` is a savepoint.
        """

    @abstractmethod
    def bind(self, connection: Any) -> EventStore:
        """The same store inside a transaction of the caller's, which neither commits nor rolls back."""


class SnapshotStore(ABC):
    """Keeps the newest snapshots of each aggregate. Safe to be used by many threads at once."""

    @abstractmethod
    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        """Return the newest snapshot of an aggregate that was taken with a class schema, or None."""

    @abstractmethod
    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the one with the same aggregate and class schema.

        Of an aggregate's snapshots with other class schemas the one saved last is kept and any others are deleted, so
        that two releases can run side by side, and what older ones left goes away.
        """

    @abstractmethod
    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        """Delete the snapshots of an aggregate, whatever their class schemas. Nothing happens if there are none."""


class AsyncEventStore(_KnownToRepositories, ABC):
    """EventStore in async. Safe to be used by many tasks of one event loop, unless it is bound to a transaction."""

    @abstractmethod
    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
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

    async def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        """As EventStore._read_page_and_find."""
        events = await self.read(stream_id)
        return any(event.event_id == event_id for event in events), events[from_version : from_version + limit]

    @abstractmethod
    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: EventTypes | None = None,
        categories: Categories | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Event]:
        """As EventStore.read_all."""

    async def last_position(self) -> int:
        """As EventStore.last_position."""
        async for event in self.read_all(backwards=True, limit=1):
            return event.position
        return 0

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[AsyncEventStore]:
        """As EventStore.transaction; the store that it gives is for one task at a time."""

    @abstractmethod
    def bind(self, connection: Any) -> AsyncEventStore:
        """As EventStore.bind."""


class AsyncSnapshotStore(ABC):
    """SnapshotStore in async."""

    @abstractmethod
    async def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        """As SnapshotStore.load."""

    @abstractmethod
    async def save(self, snapshot: Snapshot) -> None:
        """As SnapshotStore.save."""

    @abstractmethod
    async def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        """As SnapshotStore.delete."""
