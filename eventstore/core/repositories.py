"""What a repository decides: loading, saving, and when a snapshot is taken or used. No I/O.

The operations ask for calls of a store's methods, which a driver makes, or makes and awaits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate, stream_id_of
from eventstore.codec.showing import cleaned
from eventstore.core.commands import Command
from eventstore.core.logs import log as _log
from eventstore.core.requests import Call, Operation, Pause, WithTransaction, ask
from eventstore.core.signals import raised_by_a_signal
from eventstore.core.snapshots import aggregate_from, snapshot_of
from eventstore.errors import AggregateNotFound, ConcurrencyError, EventAlreadyStored, InvalidArgument, SnapshotError
from eventstore.event import Event, detached
from eventstore.versions import ExpectedVersion, StreamVersion

A = TypeVar("A", bound=Aggregate[Any])

PAGE = 4000
"""Events that a load holds in memory at once."""


class RepositoryOperations(Generic[A]):
    """The operations of one repository; ``store`` and ``snapshot_store`` are both blocking or both async."""

    def __init__(self, store: Any, aggregate_type: type[A], snapshot_store: Any, snapshot_frequency: int) -> None:
        if not (isinstance(aggregate_type, type) and issubclass(aggregate_type, Aggregate)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"{aggregate_type!r} is not a subclass of Aggregate")
        if type(snapshot_frequency) is not int or snapshot_frequency < 1:
            raise InvalidArgument(f"snapshot_frequency must be an int of at least 1, not {snapshot_frequency!r}")
        _claim(store.categories, aggregate_type)
        self._store = store
        self._type = aggregate_type
        self._snapshots = snapshot_store
        self._frequency = snapshot_frequency

    def described(self) -> str:
        """What the repository was made of."""
        made_of = f"{self._store!r}, {self._type.__name__}"
        if self._snapshots is not None:
            made_of += f", snapshot_store={self._snapshots!r}, snapshot_frequency={self._frequency}"
        return made_of

    def load(self, aggregate_id: UUID | str) -> Operation[A]:
        aggregate, _ = yield from self._load(aggregate_id, None)
        return aggregate

    def _load(self, aggregate_id: UUID | str, command: Command | None) -> Operation[tuple[A, bool]]:
        """The aggregate, and whether its stream shows that a command was carried out."""
        stream_id = stream_id_of(self._type, aggregate_id)
        aggregate, void = yield from self._from_snapshot(aggregate_id)
        started_at = aggregate.version
        # From the event that the snapshot stands at, which shows that it is of this stream as it is now.
        done, events = yield from self._page(self._store, stream_id, max(started_at - 1, 0), command)
        read = 0
        if started_at:
            there = next(events, None)
            read = 1
            if there is not None and there.version > started_at:  # The stream was closed since.
                aggregate, void, started_at = self._type(aggregate_id), True, StreamVersion(0)
                events, read = chain([there], events), 0
            elif there is not None and (there.version, there.event_id) == (started_at, aggregate._event_id):
                aggregate._version = StreamVersion(started_at, there.position)
            else:
                _log.warning("the snapshot of %s is not of its stream as it is now; it is replaced", cleaned(stream_id))
                aggregate, void, started_at = self._type(aggregate_id), True, StreamVersion(0)
                done, events = yield from self._page(self._store, stream_id, 0, command)
                read = 0
        read += aggregate.replay(events)
        if read == PAGE:
            yield from self._catch_up(self._store, stream_id, aggregate)
        if not aggregate.version:
            raise AggregateNotFound(self._type, aggregate_id)
        if void or aggregate.version - started_at > self._frequency:
            yield from self._take_snapshot(aggregate)  # The next load need not go the whole way again.
        return aggregate, done

    def save(self, aggregate: A, metadata: Mapping[str, Any] | None = None) -> Operation[StreamVersion]:
        if not isinstance(aggregate, self._type):
            raise InvalidArgument(
                f"this repository is for {self._type.__name__}, not for {type(aggregate).__name__}: save it "
                "in a repository of its class"
            )
        before = aggregate.version
        yield from self._store_events(self._store, aggregate, _checked_metadata(metadata))
        yield from self._snapshot_after(before, aggregate)
        return aggregate.version

    def exists(self, aggregate_id: UUID | str) -> Operation[bool]:
        stream_id = stream_id_of(self._type, aggregate_id)
        events: list[Event] = yield from ask(Call(lambda: self._store.read(stream_id, limit=1)))
        return bool(events)

    def update(
        self,
        aggregate_id: UUID | str,
        change: Callable[[A], Any],
        attempts: int,
        metadata: Mapping[str, Any] | None = None,
        command_id: UUID | str | None = None,
    ) -> Operation[A]:
        if type(attempts) is not int or attempts < 1:
            raise InvalidArgument(f"attempts must be an int of at least 1, not {attempts!r}")
        metadata = _checked_metadata(metadata)
        stream_id = stream_id_of(self._type, aggregate_id)
        command = None if command_id is None else Command(command_id, stream_id)
        for attempt in range(1, attempts + 1):
            aggregate, done = yield from self._load(aggregate_id, command)
            if done:
                return aggregate
            if attempt == attempts > 1:
                return (yield from self._change_locked(stream_id, aggregate, change, metadata, command))
            yield from ask(Call(partial(change, aggregate)))
            try:
                return (yield from self._store_decided(aggregate, metadata, command))
            except ConcurrencyError:
                if attempt == attempts:
                    raise
            # Those who met here should not all meet again.
            yield from ask(Pause(random.uniform(0, 0.002 * 2 ** min(attempt, 8))))  # noqa: S311 no secret
        raise AssertionError("the last attempt returns or raises")

    def _store_decided(self, aggregate: A, metadata: Mapping[str, Any], command: Command | None) -> Operation[A]:
        """Store what was decided. Returns the aggregate; loaded, if somebody else has carried out the command."""
        before = aggregate.version
        try:
            yield from self._store_events(self._store, aggregate, metadata, command)
        except EventAlreadyStored:
            if command is None:
                raise
        else:
            if command is None or not aggregate.version.repeated:
                yield from self._snapshot_after(before, aggregate)
                return aggregate
        return (yield from self.load(aggregate.id))

    def _change_locked(
        self,
        stream_id: str,
        aggregate: A,
        change: Callable[[A], Any],
        metadata: Mapping[str, Any],
        command: Command | None,
    ) -> Operation[A]:
        """Change and store an aggregate with its stream locked, so that nobody can be faster."""
        before = aggregate.version

        def locked(transaction: Any) -> Operation[None]:
            # No event: takes the stream's lock.
            yield from ask(Call(partial(transaction.append, stream_id, [], ExpectedVersion.ANY)))
            if (yield from self._catch_up(transaction, stream_id, aggregate, command)):
                return
            yield from ask(Call(partial(change, aggregate)))
            yield from self._store_events(transaction, aggregate, metadata, command)

        yield from ask(WithTransaction(self._store, locked))
        yield from self._snapshot_after(before, aggregate)
        return aggregate

    def _store_events(
        self, store: Any, aggregate: A, metadata: Mapping[str, Any], command: Command | None = None
    ) -> Operation[None]:
        """Append what is pending, after what a transaction that was not seen to commit may have taken back."""
        stream_id = stream_id_of(self._type, aggregate.id)
        for after, events in tuple(aggregate._unconfirmed):
            yield from ask(Call(partial(store.append, stream_id, events, after)))
            store.when_committed(partial(aggregate._confirm, after + len(events)))
        events = aggregate.pending
        if not events:
            return
        if metadata:
            events = tuple(_with_metadata(event, metadata) for event in events)
        if command is not None:
            events = command.identify(events)
        version: StreamVersion = yield from ask(Call(partial(store.append, stream_id, events, aggregate.version)))
        aggregate._mark_stored(events, version)
        store.when_committed(partial(aggregate._confirm, aggregate.version))

    def _catch_up(self, store: Any, stream_id: str, aggregate: A, command: Command | None = None) -> Operation[bool]:
        """Apply what the stream has above the aggregate's version. Returns whether it shows that a command was done."""
        done, events = yield from self._page(store, stream_id, aggregate.version, command)
        while aggregate.replay(events) == PAGE:
            _, events = yield from self._page(store, stream_id, aggregate.version, None)
        return done

    def _page(
        self, store: Any, stream_id: str, from_version: int, command: Command | None
    ) -> Operation[tuple[bool, Iterator[Event]]]:
        """Events above a version, and whether the stream, wherever, shows that a command was carried out."""
        done = False
        events: Iterable[Event]
        if command is None:
            events = yield from ask(Call(lambda: store._read_page(stream_id, from_version, PAGE)))
        else:
            read = partial(store._read_page_and_find, stream_id, from_version, PAGE, command.mark)
            done, events = yield from ask(Call(read))
        return done, iter(events)

    def _from_snapshot(self, aggregate_id: UUID | str) -> Operation[tuple[A, bool]]:
        """The aggregate as its snapshot has it, or a new one; and whether there was a snapshot that is void."""
        if self._snapshots is not None:
            category, class_schema = self._type.category, self._type.class_schema()
            try:
                snapshot = yield from ask(Call(lambda: self._snapshots.load(category, str(aggregate_id), class_schema)))
                if snapshot is not None:
                    return aggregate_from(self._type, aggregate_id, snapshot), False
            except SnapshotError as error:
                _log.warning("%s; the events are replayed and it is replaced", cleaned(str(error)))
                return self._type(aggregate_id), True
            except Exception as error:  # a snapshot is only a shorter way: no error of its store stops a load
                if raised_by_a_signal(error):
                    raise
                _log.warning(
                    "no snapshot of %s %s could be loaded", category, cleaned(str(aggregate_id)), exc_info=True
                )
        return self._type(aggregate_id), False

    def _snapshot_after(self, before: int, aggregate: A) -> Operation[None]:
        """Take a snapshot where a save that began at a version has crossed a multiple of the frequency."""
        if before // self._frequency != aggregate.version // self._frequency:
            yield from self._take_snapshot(aggregate)

    def _take_snapshot(self, aggregate: A) -> Operation[None]:
        if self._snapshots is None or aggregate._diverged:
            return
        try:
            snapshot = snapshot_of(aggregate)
            yield from ask(Call(lambda: self._snapshots.save(snapshot)))
        except Exception as error:  # a snapshot is only a shorter way: failing to write one never fails the save
            if raised_by_a_signal(error):
                raise
            _log.warning(
                "no snapshot of %s %s could be stored", aggregate.category, cleaned(str(aggregate.id)), exc_info=True
            )


def _checked_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"metadata must be a mapping, not {type(metadata).__name__}")
    return metadata


def _with_metadata(event: Event, metadata: Mapping[str, Any]) -> Event:
    """The event with metadata beside its own, which wins."""
    added = detached(event)
    added.__dict__["metadata"] = {**metadata, **added.metadata}
    return added


def _claim(categories: dict[str, type[Aggregate[Any]]], aggregate_type: type[Aggregate[Any]]) -> None:
    """Note that a store keeps aggregates of a class under its category.

    Raises InvalidArgument where another class has it: each would read the other's streams. A class and one below it
    may share a category, and so may two definitions of one class, as a module that is reloaded makes them.
    """
    category = aggregate_type.category
    owner = categories.setdefault(category, aggregate_type)
    same = (owner.__module__, owner.__qualname__) == (aggregate_type.__module__, aggregate_type.__qualname__)
    if not same and not issubclass(aggregate_type, owner) and not issubclass(owner, aggregate_type):
        raise InvalidArgument(
            f"{aggregate_type.__module__}.{aggregate_type.__qualname__} has the category {category!r}, and so has "
            f"{owner.__module__}.{owner.__qualname__}, which this store keeps already: each would read the other's "
            f'streams. Give one a category of its own, by `category = "..."` in its body, or a store in another schema'
        )
    categories[category] = aggregate_type
