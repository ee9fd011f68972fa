"""What a store is, blocking and async: the interfaces that applications program against, and that stores implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from eventstore.errors import InvalidOperation
from eventstore.event import Event
from eventstore.observing import Observer
from eventstore.tombstone import closing, tombstone
from eventstore.versions import ExpectedVersion, StreamVersion

EventTypes: TypeAlias = str | type[Event] | Iterable[str | type[Event]]
"""Types of events to read: names, or classes of events; one or several."""
Appends: TypeAlias = Sequence[tuple[str, Sequence[Event], int]]
"""What ``append_many`` is given: for each append the stream, its events, and the expected version."""
Categories: TypeAlias = str | Iterable[str]
"""Categories of streams to read: one or several."""


class SnapshotKey(NamedTuple):
    """Which snapshot of an aggregate is meant."""

    aggregate_type: str
    aggregate_id: str
    class_schema: str


class SnapshotAndEvents(NamedTuple):
    """What one view of the database holds of an aggregate."""

    snapshot: Snapshot | None
    done: bool
    """Whether the stream holds the event id that was looked for."""
    events: Iterable[Event]
    """From the one that the snapshot stands at; without a snapshot, from the first."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An aggregate's state at one version, encoded. Repositories take snapshots, check them and use them."""

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
    """What repositories need of a store, blocking or async, besides its methods."""

    subject_keys: Any = None
    """The keys of personal data, if the store has any."""

    @property
    def categories(self) -> dict[str, type[Any]]:
        """The classes of aggregates that repositories keep here, by category. A transaction has its store's."""
        found: dict[str, type[Any]] = self.__dict__.setdefault("_categories", {})
        return found

    @property
    def observer(self) -> Observer | None:
        """Who watches this store: a transaction, or a store that hands everything on, has its store's."""
        found: Observer | None = self.__dict__.get("_observer")
        if found is None and (store := self.__dict__.get("_store")) is not None:
            found = store.observer
        return found

    def observe(self, observer: Observer | None) -> None:
        """Let somebody watch this store: ``eventstore.contrib.opentelemetry.instrument`` does. None: nobody."""
        self.__dict__["_observer"] = observer

    @property
    def _home(self) -> object:
        """The schema of a database that the rows are in. A snapshot store with an equal one is in the same schema.

        None if no other store can be there.
        """
        return None

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Call back once everything appended so far is known to be committed.

        That is at once in a store that commits each append, and after the commit in a ``transaction()``. It is never in
        your own transaction, whose commit the store does not see. ``callback`` must not block or raise.
        """
        callback()


class EventStore(_KnownToRepositories, ABC):
    """A log of events in streams.

    Many threads can use a store at once. A store in a transaction, which ``transaction()`` and ``bind()`` give, is for
    one thread at a time.
    """

    @abstractmethod
    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        """Append events to a stream and return its new version.

        All of them are stored, or none. If the stream holds the same event ids at this place already, nothing is stored
        and the call succeeds as it did the first time. An empty list only checks the expected version.

        >>> store = InMemoryEventStore()
        >>> version = store.append("Order-7", [OrderShipped(tracking_number="1Z")], ExpectedVersion.NO_STREAM)
        >>> version, version.position
        (1, 1)

        Args:
            stream_id: the stream; it need not exist.
            events: the events, in their order.
            expected_version: the version that the stream must have (0: it must not exist), or an ExpectedVersion.

        Returns:
            The version of the last event, an int that also has its ``position``.

        Raises:
            ConcurrencyError: the stream has another version.
            EventAlreadyStored: the stream holds one of the event ids at another place.
            StreamRetired: the stream is retired.
            SerializationError: a value can't be stored.
            ForgottenSubject: an event holds personal data of a subject that was forgotten.
            InvalidArgument: an argument is invalid.
            StoreUnavailable: nothing was stored; the same call may succeed later.
            AppendOutcomeUnknown: the answer was lost, and whether the events are stored could not be found out.
            SchemaError: the schema is missing or has another version than this library.
        """

    def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        """Append to several streams, all or nothing, and return the new version of each stream.

        On PostgreSQL it is one round trip. Positions follow the order of the list.

        >>> store = InMemoryEventStore()
        >>> shipped = OrderShipped(tracking_number="1Z")
        >>> store.append_many([("Order-7", [shipped], 0), ("Parcel-1", [Event(event_type="Packed")], 0)])
        {'Order-7': 1, 'Parcel-1': 1}

        Args:
            appends: for each append the stream, its events and the expected version, as for ``append``. If a stream
                comes again, its expected version must be the one that the append before leaves, or ExpectedVersion.ANY.
                At most 256 streams.

        Raises:
            InvalidArgument: an argument is invalid, or there are more streams. Split the list.

        It also raises what ``append`` raises, for the first append that is refused.
        """
        versions: dict[str, StreamVersion] = {}
        with self.transaction() as transaction:
            for stream_id, events, expected_version in appends:
                versions[stream_id] = transaction.append(stream_id, events, expected_version)
        return versions

    def close_stream(self, stream_id: str, event: Event, expected_version: int) -> StreamVersion:
        """Append an event at which loads of the stream begin from now on, and return its version.

        The event must carry everything that the aggregate needs of those before it: repositories apply it first, to a
        new aggregate. ``read`` and followers still see all events. You can close a stream again later.

        >>> class BalanceCarried(Event):
        ...     balance: int
        >>> store = InMemoryEventStore()
        >>> deposited = [Event(event_type="Deposited", data={"amount": amount}) for amount in (20, 22)]
        >>> _ = store.append("Account-7", deposited, 0)
        >>> store.close_stream("Account-7", BalanceCarried(balance=42), expected_version=2)
        3

        Args:
            stream_id: the stream.
            event: the closing event.
            expected_version: the version that the event was made from, at least 1. The modes of ExpectedVersion are
                refused, because loads would miss what others append meanwhile.

        Raises:
            InvalidArgument: an argument is invalid.
            Otherwise what ``append`` raises.
        """
        return self.append(stream_id, [closing(event)], expected_version)

    def retire(
        self, stream_id: str, *, reason: str, expected_version: int = ExpectedVersion.STREAM_EXISTS
    ) -> StreamVersion:
        """Append a Tombstone, which is the last event of the stream for ever, and return its version.

        From now on appends and ``Repository.load`` raise StreamRetired. ``read`` and followers still see all events.

        >>> store = InMemoryEventStore()
        >>> _ = store.append("Cart-9", [OrderShipped(tracking_number="1Z")], 0)
        >>> store.retire("Cart-9", reason="checked out")
        2
        >>> store.read("Cart-9", from_version=1)[0].data
        {'reason': 'checked out'}

        Args:
            stream_id: the stream.
            reason: why, for those who find the tombstone later.
            expected_version: as for ``append``.

        Raises:
            ConcurrencyError: the stream does not exist, or has another version.
            StreamRetired: the stream is retired already.
            Otherwise what ``append`` raises.
        """
        return self.append(stream_id, [tombstone(reason)], expected_version)

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
        """Return events of a stream in the order of their versions.

        A stream that does not exist has no events.

        >>> store = InMemoryEventStore()
        >>> _ = store.append("Order-7", [OrderShipped(tracking_number=number) for number in ("1Z", "2Z", "3Z")], 0)
        >>> store.read("Order-7", from_version=1)
        [OrderShipped(tracking_number='2Z'), OrderShipped(tracking_number='3Z')]
        >>> store.read("Order-7", backwards=True, limit=1)
        [OrderShipped(tracking_number='3Z')]

        Args:
            stream_id: the stream.
            from_version: read only versions above this one.
            to_version: read only versions up to this one, included; None: up to the newest.
            backwards: begin with the newest event.
            limit: return at most this many events, the first ones in the direction of reading.

        Raises:
            DeserializationError: an event can't be read.
            InvalidArgument: an argument is invalid.
            StoreUnavailable: the store could not be reached.
            SchemaError: the schema is missing or has another version than this library.
        """

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        """Read as ``read`` does, for a repository, which releases each event once applied: it may be decoded lazily."""
        return self.read(stream_id, from_version, limit=limit)

    def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        """Read as ``_read_page`` does, and also say whether the stream holds an event id anywhere."""
        events = self.read(stream_id)
        return any(event.event_id == event_id for event in events), events[from_version : from_version + limit]

    def _read_from_snapshot(
        self, stream_id: str, key: SnapshotKey, limit: int, event_id: UUID | None
    ) -> SnapshotAndEvents:
        """Read a snapshot and the events from its version on in one request; ask only a store that has a ``_home``."""
        raise NotImplementedError

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
        """Iterate over the events of all streams in the order of their positions.

        Stops at the highest position below which, when the call began, no open transaction could still commit. So a
        reader that resumes from the last position it saw never misses an event.

        >>> store = InMemoryEventStore()
        >>> _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
        >>> _ = store.append("Parcel-1", [OrderShipped(tracking_number="2Z")], 0)
        >>> for event in store.read_all(categories="Order"):
        ...     print(event.position, event.stream_id, event)
        1 Order-7 OrderShipped(tracking_number='1Z')

        Args:
            from_position: read only positions above this one.
            batch_size: how many events to fetch at a time.
            to_position: read only positions up to this one, included; None: to the end.
            event_types: read only events of this type or these types, given as names or classes.
            categories: read only streams of this category or these categories: ids that begin with one and "-".
            backwards: begin with the newest event.
            limit: read at most this many events.

        Raises:
            DeserializationError: an event can't be read. It is raised when the iteration comes to it.
            InvalidArgument: an argument is invalid. It is raised by the call, before the iteration begins.
            StoreUnavailable: the store could not be reached.
            InvalidOperation: the server is a standby, and nobody marks how far it may read: see ``mark_log``.
        """

    def last_position(self) -> int:
        """Return the position at which ``read_all`` would stop now; 0 if there is no event.

        A reader that continues from it misses no event. An open transaction that appends can hold it below the position
        of an event that is stored already. To wait for that event, use the position that its append returned.
        """
        return next((event.position for event in self.read_all(backwards=True, limit=1)), 0)

    @abstractmethod
    def transaction(self) -> AbstractContextManager[EventStore]:
        """Return a context manager whose store makes several appends one, also to several streams.

        All of them are stored when the block ends, or none if it raises. ``read`` then sees all of them. Who reads the
        log gets them in the order of their positions: perhaps the first ones alone, as long as another transaction that
        appends is open between them, or at the end of a batch.

        The store that the block gets sees its own appends at once. It is for one thread, and can't be used after the
        block. Its own ``transaction()`` is a savepoint.
        """

    def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:  # noqa: ARG002 the interface's
        """Forget a subject of personal data, and return the version of the SubjectForgotten event that says so.

        Its key is destroyed, so that its personal data reads as placeholders. The snapshots of every stream in which it
        occurs are deleted, and it never gets another key. Other processes may still read for ``key_ttl`` seconds. In a
        ``transaction()`` it is forgotten when the block is committed. Forgetting it again only makes sure of all that.

        >>> keys = InMemorySubjectKeys()
        >>> store = InMemoryEventStore(subject_keys=keys)
        >>> class CustomerMoved(Event):
        ...     customer_id: Annotated[int, Subject]
        ...     street: Annotated[str, Personal("(erased)")]
        >>> _ = store.append("Customer-7", [CustomerMoved(customer_id=7, street="Long Lane 1")], 0)
        >>> _ = store.forget(7, reason="Art. 17, ticket 4711")
        >>> store.read("Customer-7")[0].street
        '(erased)'

        Args:
            subject: a UUID, a str or an int; a UUID and its text are one subject.
            reason: why, as it stands in the log and in the key store; nothing personal.

        Raises:
            InvalidArgument: ``subject`` is invalid.
            InvalidOperation: the store has no subject keys; or they are in another database, and the store is bound to
                your transaction, whose commit it does not see.
            StoreUnavailable: the store or the key store could not be reached. Forget it again.
        """
        raise InvalidOperation(
            f"a {type(self).__name__} has no subject keys, so it can't forget anybody: use another store"
        )

    @abstractmethod
    def bind(self, connection: Any) -> EventStore:
        """Return the same store in your transaction on a connection. It neither commits nor rolls back."""


class _BesideEvents:
    """What repositories need to know of a snapshot store, blocking or async."""

    @property
    def _home(self) -> object:
        """The schema of a database that the snapshots are in. None if they can't be read together with events."""
        return None


class SnapshotStore(_BesideEvents, ABC):
    """Keeps the newest snapshots of each aggregate. Safe to be used by many threads at once."""

    @abstractmethod
    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        """Return the newest snapshot of an aggregate that was taken with a class schema, or None."""

    @abstractmethod
    def save(self, snapshot: Snapshot) -> None:
        """Store a snapshot in place of the one with the same aggregate and class schema.

        Of the aggregate's snapshots with other class schemas, only the one saved last is kept. So two releases can run
        side by side, and snapshots of older ones are deleted.
        """

    @abstractmethod
    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        """Delete the snapshots of an aggregate, whatever their class schemas. Nothing happens if there are none."""


class AsyncEventStore(_KnownToRepositories, ABC):
    """EventStore in async. Safe to be used by many tasks of one event loop, unless it is bound to a transaction."""

    @abstractmethod
    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        """As EventStore.append. Cancelled, it has stored all or nothing; the same events can be appended again."""

    async def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        """As EventStore.append_many."""
        versions: dict[str, StreamVersion] = {}
        async with self.transaction() as transaction:
            for stream_id, events, expected_version in appends:
                versions[stream_id] = await transaction.append(stream_id, events, expected_version)
        return versions

    async def close_stream(self, stream_id: str, event: Event, expected_version: int) -> StreamVersion:
        """As EventStore.close_stream."""
        return await self.append(stream_id, [closing(event)], expected_version)

    async def retire(
        self, stream_id: str, *, reason: str, expected_version: int = ExpectedVersion.STREAM_EXISTS
    ) -> StreamVersion:
        """As EventStore.retire."""
        return await self.append(stream_id, [tombstone(reason)], expected_version)

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

    async def _read_from_snapshot(
        self, stream_id: str, key: SnapshotKey, limit: int, event_id: UUID | None
    ) -> SnapshotAndEvents:
        """As EventStore._read_from_snapshot."""
        raise NotImplementedError

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

    async def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:  # noqa: ARG002 the interface's
        """As EventStore.forget."""
        raise InvalidOperation(
            f"a {type(self).__name__} has no subject keys, so it can't forget anybody: use another store"
        )

    @abstractmethod
    def bind(self, connection: Any) -> AsyncEventStore:
        """As EventStore.bind."""


class AsyncSnapshotStore(_BesideEvents, ABC):
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
