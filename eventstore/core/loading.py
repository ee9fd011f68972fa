"""How a repository loads an aggregate: from its cache, from a snapshot, from its events. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate, stream_id_of
from eventstore.codec.showing import cleaned
from eventstore.core.cache import AggregateCache
from eventstore.core.commands import Command
from eventstore.core.logs import repository_log as _log
from eventstore.core.requests import Call, Operation, ask
from eventstore.core.sealed_snapshots import keys_to_take, keys_to_use, subjects_of_snapshot
from eventstore.core.snapshots import aggregate_from, snapshot_of
from eventstore.core.subject_keys import are_remembered
from eventstore.errors import AccessDenied, AggregateNotFound, InvalidArgument, SchemaError, SnapshotError
from eventstore.event import Event, detached
from eventstore.observing import Loading as Seen
from eventstore.signals import raised_by_a_signal
from eventstore.store import Snapshot, SnapshotAndEvents, SnapshotKey
from eventstore.versions import StreamVersion

A = TypeVar("A", bound=Aggregate[Any])

PAGE = 4000
"""Events that a load holds in memory at once."""


SNAPSHOT_BYTES = 4096
"""What snapshots may cost for each event. A state of 1 MB every ten events would be 100 kB of WAL for each of them."""

MOST_LARGE = 1000
"""Of how many aggregates a repository remembers that their states are large."""


class Loading(Generic[A]):
    """What a repository is made of; ``store`` and ``snapshot_store`` are both blocking or both async."""

    def __init__(
        self, store: Any, aggregate_type: type[A], snapshot_store: Any, snapshot_frequency: int, cache: int | None
    ) -> None:
        if not (isinstance(aggregate_type, type) and issubclass(aggregate_type, Aggregate)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"{aggregate_type!r} is not a subclass of Aggregate")
        if type(snapshot_frequency) is not int or snapshot_frequency < 1:
            raise InvalidArgument(f"snapshot_frequency must be an int of at least 1, not {snapshot_frequency!r}")
        if cache is not None and (type(cache) is not int or cache < 1):
            raise InvalidArgument(f"cache must be a number of aggregates, an int of at least 1, not {cache!r}")
        _claim(store.categories, aggregate_type)
        self._store = store
        self._type = aggregate_type
        self._snapshots = snapshot_store
        self._frequency = snapshot_frequency
        self._large: dict[UUID | str, int] = {}
        """The sizes of the large states that were met last."""
        self._size = cache
        self._cache: AggregateCache[A] | None = None if cache is None else AggregateCache(cache)

    def described(self) -> str:
        """What the repository was made of."""
        made_of = f"{self._store!r}, {self._type.__name__}"
        if self._snapshots is not None:
            made_of += f", snapshot_store={self._snapshots!r}, snapshot_frequency={self._frequency}"
        return made_of if self._size is None else f"{made_of}, cache={self._size}"

    def clear_cache(self) -> None:
        if self._cache is not None:
            self._cache.clear()

    def load(self, aggregate_id: UUID | str) -> Operation[A]:
        aggregate, _ = yield from self._load(aggregate_id, None)
        return aggregate

    def _load(self, aggregate_id: UUID | str, command: Command | None) -> Operation[tuple[A, bool]]:
        """The aggregate, and whether its stream shows that a command was carried out."""
        observer = self._store.observer
        if observer is None:
            return (yield from self._loaded(aggregate_id, command, Seen()))
        with observer.loading(self._type.category) as seen:
            return (yield from self._loaded(aggregate_id, command, seen))

    def _loaded(self, aggregate_id: UUID | str, command: Command | None, seen: Seen) -> Operation[tuple[A, bool]]:
        stream_id = stream_id_of(self._type, aggregate_id)
        aggregate, void, done, events = yield from self._begun(aggregate_id, stream_id, command)
        started_at = aggregate.version
        # With the event at which the aggregate began.
        if aggregate.replay(events) + bool(started_at) == PAGE:
            yield from self._catch_up(self._store, stream_id, aggregate)
        if not aggregate.version:
            raise AggregateNotFound(self._type, aggregate_id)
        seen.events, seen.from_snapshot = aggregate.version - started_at, started_at > 0
        if void or aggregate.version - started_at > self._versions_between(aggregate):
            yield from self._take_snapshot(aggregate)  # The next load need not go the whole way again.
        return self._lent(aggregate), done

    def _lent(self, aggregate: A) -> A:
        """An aggregate for the program. With a cache that is a copy, and the aggregate goes into the cache."""
        if self._cache is None or (lent := _copy_of(aggregate)) is None:
            return aggregate
        # Not before: in a transaction, it may hold events that are rolled back.
        self._store.when_committed(partial(self._cache.put, aggregate))
        return lent

    def _from_cache(self, aggregate_id: UUID | str) -> A | None:
        """A copy of a cached aggregate, which may have been changed elsewhere since."""
        if self._cache is None or (kept := self._cache.take(aggregate_id)) is None:
            return None
        if kept._subjects and not are_remembered(kept._subjects, self._store.subject_keys):
            return None  # Somebody whose data it holds may have been forgotten.
        lent = _copy_of(kept)
        if lent is not None:
            self._cache.put(kept)
        return lent

    def _advance(self, store: Any, aggregate: A, before: int, events: Iterable[Event]) -> None:
        """Bring a cached aggregate to where a save has brought the stream, once that is committed."""
        if self._cache is None:
            return
        kept = self._cache.take(aggregate.id)
        if aggregate._diverged:
            return  # A replay may lead elsewhere.
        if kept is None and not before:
            kept = self._type(aggregate.id)
        if kept is None or kept.version != before:
            return  # The next load catches up.
        try:
            # Copies: the program may have these events, and the state may come to share a list with them.
            kept.replay([detached(event) for event in events])
        except Exception as error:  # the events are stored
            if raised_by_a_signal(error):
                raise
            return
        kept._version = aggregate.version
        kept._subjects |= aggregate._subjects
        store.when_committed(partial(self._cache.put, kept))

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

    def _begun(
        self, aggregate_id: UUID | str, stream_id: str, command: Command | None
    ) -> Operation[tuple[A, bool, bool, Iterator[Event]]]:
        """The aggregate as its snapshot has it, or a new one, and the first page of events to apply to it.

        In between: whether there was a snapshot that is void, and whether the stream shows that the command was done.
        """
        if self._cache is not None and (kept := self._cache.take(aggregate_id)) is not None:
            keys = yield from keys_to_use(sorted(kept._subjects), self._store.subject_keys)
            if keys is not None:  # Nobody whose data it holds was forgotten.
                done, events = yield from self._page(self._store, stream_id, kept.version - 1, command)
                if _leads_to(events, kept):
                    return kept, False, done, events
        if self._snapshots is None:
            done, events = yield from self._page(self._store, stream_id, 0, command)
            return self._type(aggregate_id), False, done, events
        snapshot, done, found = yield from self._snapshot_and_events(aggregate_id, stream_id, command)
        events = iter(found)
        if snapshot is None:
            return self._type(aggregate_id), False, done, events
        keys = yield from keys_to_use(subjects_of_snapshot(snapshot), self._store.subject_keys)
        if keys is None:  # It is sealed for somebody who was forgotten, or this process has no keys.
            done, events = yield from self._page(self._store, stream_id, 0, command)
            return self._type(aggregate_id), False, done, events
        try:
            aggregate = aggregate_from(self._type, aggregate_id, snapshot, keys)
        except SnapshotError as error:
            text = cleaned(str(error))
            _log.warning("%s; the events are replayed and it is replaced", text, extra={"stream_id": stream_id})
        else:
            if _leads_to(events, aggregate):
                self._note_size(aggregate_id, len(snapshot.state))
                return aggregate, False, done, events
            _log.warning(
                "the snapshot of %s is not of its stream as it is now; it is replaced",
                cleaned(stream_id),
                extra={"stream_id": stream_id},
            )
        done, events = yield from self._page(self._store, stream_id, 0, command)
        return self._type(aggregate_id), True, done, events

    def _snapshot_and_events(
        self, aggregate_id: UUID | str, stream_id: str, command: Command | None
    ) -> Operation[SnapshotAndEvents]:
        """The snapshot, if there is one, and the events from its version on: in one request where that is possible."""
        key = SnapshotKey(self._type.category, str(aggregate_id), self._type.class_schema())
        snapshot: Snapshot | None = None
        beside = self._store._home is not None and self._store._home == self._snapshots._home
        try:
            if beside:
                mark = None if command is None else command.mark
                read = partial(self._store._read_from_snapshot, stream_id, key, PAGE, mark)
                found: SnapshotAndEvents = yield from ask(Call(read))
                return found
            snapshot = yield from ask(Call(partial(self._snapshots.load, *key)))
        except Exception as error:  # a snapshot is only a shorter way: no error of its store stops a load
            if raised_by_a_signal(error) or (beside and not isinstance(error, (AccessDenied, SchemaError))):
                raise
            _log.warning(
                "no snapshot of %s could be loaded",
                cleaned(stream_id),
                exc_info=True,
                extra={"stream_id": stream_id},
            )
        before = max(snapshot.version - 1, 0) if snapshot is not None else 0
        done, events = yield from self._page(self._store, stream_id, before, command)
        first = next(events, None)
        if first is None:
            return SnapshotAndEvents(snapshot, done, events)
        if snapshot is not None and first.version > snapshot.version:  # The stream was closed since.
            snapshot = None
        return SnapshotAndEvents(snapshot, done, chain([first], events))

    def _versions_between(self, aggregate: A) -> int:
        """The number of versions from one snapshot to the next: more than the frequency where the state is large."""
        return max(self._frequency, self._large.get(aggregate.id, 0) // SNAPSHOT_BYTES)

    def _note_size(self, aggregate_id: UUID | str, size: int) -> None:
        """Remember how large the state of an aggregate is, if that is a reason to store it more rarely."""
        self._large.pop(aggregate_id, None)
        if size // SNAPSHOT_BYTES > self._frequency:
            self._large[aggregate_id] = size
            if len(self._large) > MOST_LARGE:
                self._large.pop(next(iter(tuple(self._large))), None)

    def _take_snapshot(self, aggregate: A) -> Operation[None]:
        if self._snapshots is None or aggregate._diverged:
            return
        try:
            keys = yield from keys_to_take(aggregate, self._store.subject_keys)
            if keys is not None:
                snapshot = snapshot_of(aggregate, keys)
                yield from ask(Call(lambda: self._snapshots.save(snapshot)))
                self._note_size(aggregate.id, len(snapshot.state))
        except Exception as error:  # a snapshot is only a shorter way: failing to write one never fails the save
            if raised_by_a_signal(error):
                raise
            _log.warning(
                "no snapshot of %s %s could be stored",
                aggregate.category,
                cleaned(str(aggregate.id)),
                exc_info=True,
                extra={"stream_id": f"{aggregate.category}-{aggregate.id}"},
            )


def _copy_of(aggregate: A) -> A | None:
    """A copy of an aggregate; None if its state holds something that can't be copied."""
    try:
        return aggregate._copied()
    except Exception as error:  # of whatever the state holds
        if raised_by_a_signal(error):
            raise
        _log.warning(
            "%s %s can't be copied, so it is not cached",
            aggregate.category,
            cleaned(str(aggregate.id)),
            exc_info=True,
            extra={"stream_id": f"{aggregate.category}-{aggregate.id}"},
        )
        return None


def _leads_to(events: Iterator[Event], aggregate: Aggregate[Any]) -> bool:
    """Whether the first of these events is the one that an aggregate stands at: it is of this stream as it is now."""
    there = next(events, None)
    if there is None or (there.version, there.event_id) != (aggregate.version, aggregate._event_id):
        return False
    aggregate._version = StreamVersion(there.version, there.position)
    return True


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
