"""What a repository decides: how aggregates are saved and updated. How they are loaded is in loading.py. No I/O.

The operations ask for calls of a store's methods, which a driver makes, or makes and awaits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate, stream_id_of
from eventstore.context import with_metadata
from eventstore.core.commands import Command
from eventstore.core.loading import Loading
from eventstore.core.personal_data import subjects_of
from eventstore.core.requests import Call, Operation, Pause, WithTransaction, ask
from eventstore.errors import ConcurrencyError, EventAlreadyStored, InvalidArgument
from eventstore.event import Event
from eventstore.signals import raised_by_a_signal
from eventstore.versions import ExpectedVersion, StreamVersion

A = TypeVar("A", bound=Aggregate[Any])

FIRST_WAIT, DOUBLINGS = 0.004, 2
"""The longest wait after a first conflict, in seconds, and how often it doubles: who met should not all meet again.

Measured with 8 processes on one aggregate, 50 attempts each: two doublings carry out 1.7 times as many commands as
eight do, and 1.4 times with the server 1 ms away. The slowest process then takes twice as long as the fastest, and not
4 to 7 times.
"""


class RepositoryOperations(Loading[A]):
    """The operations of one repository."""

    def save(self, aggregate: A, metadata: Mapping[str, Any] | None = None) -> Operation[StreamVersion]:
        self._check_type(aggregate)
        before = aggregate.version
        yield from self._store_events(self._store, aggregate, _checked_metadata(metadata))
        yield from self._snapshot_after(before, aggregate)
        return aggregate.version

    def _check_type(self, aggregate: A) -> None:
        if not isinstance(aggregate, self._type):
            raise InvalidArgument(
                f"this repository is for {self._type.__name__}, not for {type(aggregate).__name__}: save it "
                "in a repository of its class"
            )

    def save_all(
        self, aggregates: Iterable[A], metadata: Mapping[str, Any] | None = None
    ) -> Operation[list[StreamVersion]]:
        several, metadata = list(aggregates), _checked_metadata(metadata)
        for aggregate in several:
            self._check_type(aggregate)
        if len({stream_id_of(self._type, aggregate.id) for aggregate in several}) != len(several):
            raise InvalidArgument("save_all was given the same aggregate twice: save each once")
        befores: list[int] = [aggregate.version for aggregate in several]
        if any(aggregate._unconfirmed for aggregate in several):
            yield from ask(WithTransaction(self._store, partial(self._store_each, several, metadata)))
        else:
            yield from self._store_batch(several, metadata)
        for before, aggregate in zip(befores, several, strict=True):
            yield from self._snapshot_after(before, aggregate)
        return [aggregate.version for aggregate in several]

    def _store_each(self, aggregates: Iterable[A], metadata: Mapping[str, Any], transaction: Any) -> Operation[None]:
        """Store what is pending, and what a transaction may have taken back: each of these may be stored or not."""
        for aggregate in aggregates:
            yield from self._store_events(transaction, aggregate, metadata)

    def _store_batch(self, aggregates: Iterable[A], metadata: Mapping[str, Any]) -> Operation[None]:
        """Store what is pending in one request."""
        pending = [
            (each, stream_id_of(self._type, each.id), _with_all_metadata(each.pending, metadata))
            for each in aggregates
            if each.pending
        ]
        appends = [(stream_id, events, aggregate.version) for aggregate, stream_id, events in pending]
        versions: dict[str, StreamVersion] = yield from ask(Call(lambda: self._store.append_many(appends)))
        for aggregate, stream_id, events in pending:
            self._mark_stored(self._store, aggregate, events, versions[stream_id])

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
        if (cached := self._from_cache(aggregate_id)) is not None:
            updated = yield from self._update_cached(cached, change, metadata, command)
            if updated is not None:
                return updated
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
            if (observer := self._store.observer) is not None:
                observer.retried()
            yield from ask(Pause(random.uniform(0, FIRST_WAIT * 2 ** min(attempt - 1, DOUBLINGS))))  # noqa: S311 no secret
        raise AssertionError("the last attempt returns or raises")

    def _update_cached(
        self, aggregate: A, change: Callable[[A], Any], metadata: Mapping[str, Any], command: Command | None
    ) -> Operation[A | None]:
        """Change and store an aggregate out of the cache. None if it has to be loaded, to be sure.

        The append finds out whether the state was old, but an append that is not made finds out nothing. So where the
        change raises or records nothing, that may be because of what the state lacks.
        """
        try:
            yield from ask(Call(partial(change, aggregate)))
        except Exception as error:
            if raised_by_a_signal(error):
                raise
            return None
        if not aggregate.pending:
            return None
        try:
            return (yield from self._store_decided(aggregate, metadata, command))
        except (ConcurrencyError, EventAlreadyStored):
            return None

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
        for after, again in tuple(aggregate._unconfirmed):
            yield from ask(Call(partial(store.append, stream_id, again, after)))
            store.when_committed(partial(aggregate._confirm, after + len(again)))
        events: Sequence[Event] = aggregate.pending
        if not events:
            return
        events = _with_all_metadata(events, metadata)
        if command is not None:
            events = command.identify(events)
        version: StreamVersion = yield from ask(Call(partial(store.append, stream_id, events, aggregate.version)))
        self._mark_stored(store, aggregate, events, version)

    def _mark_stored(self, store: Any, aggregate: A, events: Sequence[Event], version: StreamVersion) -> None:
        before = aggregate.version
        aggregate._mark_stored(events, version)
        aggregate._subjects.update(subjects_of(events))
        self._advance(store, aggregate, before, events)
        store.when_committed(partial(aggregate._confirm, aggregate.version))

    def _snapshot_after(self, before: int, aggregate: A) -> Operation[None]:
        """Take a snapshot where a save that began at a version has crossed a multiple of what lies between two."""
        between = self._versions_between(aggregate)
        if before // between != aggregate.version // between:
            yield from self._take_snapshot(aggregate)


def _checked_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"metadata must be a mapping, not {type(metadata).__name__}")
    return metadata


def _with_all_metadata(events: Sequence[Event], metadata: Mapping[str, Any]) -> Sequence[Event]:
    return [with_metadata(event, metadata) for event in events] if metadata else events
