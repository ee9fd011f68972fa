"""Aggregates, stores that watch and stores that fail: what the tests of snapshots and repositories share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from eventstore import (
    Aggregate,
    Event,
    EventStore,
    Repository,
    Snapshot,
    SnapshotStore,
    handles,
)


class SnapshotsAdded(Event):
    number: int


@dataclass
class SnapshotsPart:
    number: int
    tags: tuple[str, ...] = ()


class Basket(Aggregate["Basket"]):
    """Its state depends on the order of the events, and on every one of them."""

    total: int = 0
    parts: list[SnapshotsPart] = field(default_factory=list)
    last_by_digit: dict[int, int] = field(default_factory=dict)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self._record(SnapshotsAdded(number=number))

    @handles(SnapshotsAdded)
    def _added(self, event: SnapshotsAdded) -> None:
        self.total = self.total * 31 % 1_000_003 + event.number
        self.parts = [*self.parts[-5:], SnapshotsPart(event.number, (str(event.number),))]
        self.last_by_digit[event.number % 10] = event.number


class Watched(EventStore):
    """A store that notes what it was asked for; a wrapper as users may write one."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.reads: list[tuple[str, int, int | None]] = []
        self.read_count = 0
        self.before_append: Any = None

    def append(self, stream_id: str, events: Any, expected_version: int) -> int:
        if self.before_append is not None:
            self.before_append()
        return self._store.append(stream_id, events, expected_version)

    def read(self, stream_id: str, from_version: int = 0, to_version: int | None = None, **options: Any) -> list[Event]:
        self.reads.append((stream_id, from_version, options.get("limit")))
        found = self._store.read(stream_id, from_version, to_version, **options)
        self.read_count += len(found)
        return found

    def read_all(self, *args: Any, **options: Any) -> Any:
        return self._store.read_all(*args, **options)

    def transaction(self) -> Any:
        return self._store.transaction()

    def bind(self, connection: Any) -> EventStore:
        return self._store.bind(connection)


class WatchedSnapshots(SnapshotStore):
    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self.saved: list[Snapshot] = []

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        return self._store.load(aggregate_type, aggregate_id, class_schema)

    def save(self, snapshot: Snapshot) -> None:
        self._store.save(snapshot)
        self.saved.append(snapshot)

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        self._store.delete(aggregate_type, aggregate_id)


class Failing(SnapshotStore):
    """As a store that is down, or was written by somebody in a hurry."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:  # noqa: ARG002 the interface's
        raise self._error

    def save(self, snapshot: Snapshot) -> None:  # noqa: ARG002 the interface's
        raise self._error

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:  # noqa: ARG002 the interface's
        raise self._error


@pytest.fixture
def events(store: EventStore) -> Watched:
    return Watched(store)


@pytest.fixture
def saved(snapshots: SnapshotStore) -> WatchedSnapshots:
    return WatchedSnapshots(snapshots)


@pytest.fixture
def baskets(events: Watched, saved: WatchedSnapshots) -> Repository[Basket]:
    return Repository(events, Basket, saved, snapshot_frequency=10)


def fill(repository: Repository[Basket], aggregate_id: UUID | str, count: int) -> Basket:
    basket = Basket(aggregate_id)
    basket.add(*range(count))
    repository.save(basket)
    return basket


def assert_loads_as_replayed(store: EventStore, snapshots: SnapshotStore | None, aggregate_id: UUID | str) -> Basket:
    """What is loaded through snapshots is what the events alone lead to."""
    replayed = Basket.from_events(aggregate_id, store.read(f"Basket-{aggregate_id}"))
    loaded = Repository(store, Basket, snapshots, snapshot_frequency=10).load(aggregate_id)
    assert loaded.__dict__ == replayed.__dict__
    return loaded


def snapshot_in(store: SnapshotStore, aggregate_id: str, cls: type[Aggregate[Any]] = Basket) -> Snapshot | None:
    return store.load(cls.category, aggregate_id, cls.class_schema())


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    assert {record.name for record in caplog.records} <= {"eventstore.repository"}
    return caplog.messages
