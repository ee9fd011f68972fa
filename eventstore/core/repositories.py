"""What a repository decides: loading, saving, and when a snapshot is taken, used or void. No I/O.

The generators yield calls of a store's methods, which a driver makes, or makes and awaits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore import codec
from eventstore.aggregate import Aggregate, stream_id_of
from eventstore.codec.showing import cleaned
from eventstore.core.logs import log as _log
from eventstore.core.operations import Operation, Pause
from eventstore.errors import AggregateNotFound, ConcurrencyError, InvalidArgument, SnapshotError
from eventstore.event import Event
from eventstore.store import Snapshot

A = TypeVar("A", bound=Aggregate[Any])

PAGE = 4000
"""Events that a load holds in memory at once."""


class RepositoryOperations(Generic[A]):
    """The operations of one repository; ``store`` and ``snapshot_store`` are both blocking or both async."""

    def __init__(self, store: Any, aggregate_type: type[A], snapshot_store: Any, snapshot_frequency: int) -> None:
        if not (isinstance(aggregate_type, type) and issubclass(aggregate_type, Aggregate)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"{aggregate_type!r} is no class of aggregates")
        if type(snapshot_frequency) is not int or snapshot_frequency < 1:
            raise InvalidArgument(f"snapshot_frequency must be an int of at least 1, not {snapshot_frequency!r}")
        self._store = store
        self._type = aggregate_type
        self._snapshots = snapshot_store
        self._frequency = snapshot_frequency

    def load(self, aggregate_id: UUID | str) -> Operation[A]:
        stream_id = stream_id_of(self._type, aggregate_id)
        aggregate, void = yield from self._from_snapshot(aggregate_id)
        started_at = aggregate.version
        # From the event that the snapshot stands at, which shows that the stream got there.
        events = yield from self._page(stream_id, max(started_at - 1, 0))
        if started_at and getattr(next(events, None), "version", 0) != started_at:
            _log.warning("the snapshot of %s is ahead of its stream, and is replaced", cleaned(stream_id))
            aggregate, void, started_at = self._type(aggregate_id), True, 0
            events = yield from self._page(stream_id, 0)
        end = max(started_at - 1, 0) + PAGE
        aggregate.replay(events)
        while aggregate.version == end:
            end += PAGE
            aggregate.replay((yield from self._page(stream_id, aggregate.version)))
        if not aggregate.version:
            raise AggregateNotFound(self._type, aggregate_id)
        if void or aggregate.version - started_at > self._frequency:
            yield from self._take_snapshot(aggregate)  # The next load need not go the whole way again.
        return aggregate

    def save(self, aggregate: A) -> Operation[None]:
        if not isinstance(aggregate, self._type):
            raise InvalidArgument(f"this repository keeps {self._type.__name__}s, not a {type(aggregate).__name__}")
        events = aggregate.pending
        if not events:
            return
        stream_id = stream_id_of(self._type, aggregate.id)
        before = aggregate.version
        version: int = yield lambda: self._store.append(stream_id, events, before)
        aggregate._version = version
        del aggregate._pending[: len(events)]
        if before // self._frequency != version // self._frequency:
            yield from self._take_snapshot(aggregate)

    def exists(self, aggregate_id: UUID | str) -> Operation[bool]:
        stream_id = stream_id_of(self._type, aggregate_id)
        events: list[Event] = yield lambda: self._store.read(stream_id, limit=1)
        return bool(events)

    def update(self, aggregate_id: UUID | str, change: Callable[[A], Any], attempts: int) -> Operation[A]:
        if type(attempts) is not int or attempts < 1:
            raise InvalidArgument(f"attempts must be an int of at least 1, not {attempts!r}")
        for attempt in range(1, attempts + 1):
            aggregate = yield from self.load(aggregate_id)
            yield lambda current=aggregate: change(current)
            try:
                yield from self.save(aggregate)
            except ConcurrencyError:
                if attempt == attempts:
                    raise
                # Those who met here should not all meet again.
                yield Pause(random.uniform(0, 0.002 * 2 ** min(attempt, 8)))  # noqa: S311 no secret
            else:
                return aggregate
        raise AssertionError  # unreachable: the last attempt returned or raised

    def _page(self, stream_id: str, from_version: int) -> Operation[Iterator[Event]]:
        events: Iterable[Event] = yield lambda: self._store._read_page(stream_id, from_version, PAGE)
        return iter(events)

    def _from_snapshot(self, aggregate_id: UUID | str) -> Operation[tuple[A, bool]]:
        """The aggregate as its snapshot has it, or a new one; and whether there was a snapshot that is void."""
        if self._snapshots is not None:
            category = self._type.category
            try:
                snapshot = yield lambda: self._snapshots.load(category, str(aggregate_id))
                if snapshot is not None:
                    return restored(self._type, aggregate_id, snapshot), False
            except SnapshotError as error:
                _log.warning("%s; the events are replayed and it is replaced", cleaned(str(error)))
                return self._type(aggregate_id), True
            except Exception:  # noqa: BLE001 a snapshot is only a shorter way: no error of its store stops a load
                _log.warning(
                    "no snapshot of %s %s could be loaded", category, cleaned(str(aggregate_id)), exc_info=True
                )
        return self._type(aggregate_id), False

    def _take_snapshot(self, aggregate: A) -> Operation[None]:
        if self._snapshots is None or aggregate._strayed:
            return
        try:
            snapshot = taken(aggregate)
            yield lambda: self._snapshots.save(snapshot)
        except Exception:  # noqa: BLE001 a snapshot is only a shorter way: failing to write one never fails the save
            _log.warning(
                "no snapshot of %s %s could be stored", aggregate.category, cleaned(str(aggregate.id)), exc_info=True
            )


def taken(aggregate: Aggregate[Any]) -> Snapshot:
    """A snapshot of an aggregate without pending events. Raises SerializationError for state that can't be stored."""
    cls = type(aggregate)
    class_schema = cls.class_schema()
    state = codec.encode(f"snapshot of {cls.category} {aggregate.id}", aggregate.snapshot_state())
    unsigned = Snapshot(cls.category, str(aggregate.id), aggregate.version, class_schema, state, b"")
    return Snapshot(
        cls.category, str(aggregate.id), aggregate.version, class_schema, state, checksum=_checksum(unsigned)
    )


def restored(cls: type[A], aggregate_id: UUID | str, snapshot: Snapshot) -> A:
    """The aggregate that a snapshot holds. Raises SnapshotError if it is damaged, or of another class schema or id."""
    what = f"the snapshot of {cls.category} {aggregate_id}"
    if snapshot.class_schema != cls.class_schema():
        raise SnapshotError(f"{what} was taken of other fields than {cls.__name__} has now")
    if snapshot.checksum != _checksum(snapshot):
        raise SnapshotError(f"{what} is damaged")
    if (snapshot.aggregate_type, snapshot.aggregate_id) != (cls.category, str(aggregate_id)):
        raise SnapshotError(f"{what} is of {snapshot.aggregate_type} {snapshot.aggregate_id}")
    try:
        aggregate = cls(aggregate_id)
        aggregate.restore_state(codec.decode(snapshot.state))
    except Exception as error:  # also what a restore_state of the application's raises
        raise SnapshotError(f"{what} can't be used: {error}") from error
    aggregate._version = snapshot.version
    return aggregate


def _checksum(snapshot: Snapshot) -> bytes:
    """BLAKE2b of all that a snapshot says, each part with its length before it."""
    digest = blake2b(digest_size=16)
    for part in (
        snapshot.aggregate_type.encode(),
        snapshot.aggregate_id.encode(),
        str(snapshot.version).encode(),
        snapshot.class_schema.encode(),
        snapshot.state,
    ):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
