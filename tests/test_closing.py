"""Closed and retired streams beside snapshots, pages, projections and the server's plans."""

from __future__ import annotations

import pytest
from baskets import Basket, SnapshotsAdded, warnings_in
from psycopg_pool import ConnectionPool

from eventstore import (
    Event,
    EventStore,
    InMemoryEventStore,
    InMemorySnapshotStore,
    PostgresEventStore,
    PostgresSnapshotStore,
    Projection,
    Repository,
    SnapshotStore,
    StreamRetired,
    Tombstone,
    handles,
    inline,
)
from eventstore.core.loading import PAGE


class ClosedTotal(Event):
    total: int


class Book(Basket):
    category = "Book"

    @handles(ClosedTotal)
    def _closed(self, event: ClosedTotal) -> None:
        self.total = event.total


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest, pool: ConnectionPool, schema: str) -> tuple[EventStore, SnapshotStore]:
    if request.param == "memory":
        return InMemoryEventStore(), InMemorySnapshotStore()
    return PostgresEventStore(pool, schema), PostgresSnapshotStore(pool, schema)


def added(*numbers: int) -> list[Event]:
    return [SnapshotsAdded(number=number) for number in numbers]


def test_a_snapshot_from_before_the_closing_event_is_replaced_and_nothing_of_it_stays(
    stores: tuple[EventStore, SnapshotStore], caplog: pytest.LogCaptureFixture
) -> None:
    store, snapshots = stores
    books = Repository(store, Book, snapshots, snapshot_frequency=2)
    store.append("Book-1", added(1, 2, 3), 0)
    assert books.load("1").last_by_digit == {1: 1, 2: 2, 3: 3}
    assert snapshots.load("Book", "1", Book.class_schema()) is not None
    store.close_stream("Book-1", ClosedTotal(total=42), 3)
    store.append("Book-1", added(9), 4)
    for _ in range(2):  # The second one begins at the new snapshot.
        book = books.load("1")
        assert (book.version, book.total, book.last_by_digit) == (5, 42 * 31 + 9, {9: 9})
        found = snapshots.load("Book", "1", Book.class_schema())
        assert found is not None
        assert found.version == 5
    assert not warnings_in(caplog)


@pytest.mark.parametrize("behind", [PAGE - 2, PAGE - 1, PAGE, PAGE + 1])
def test_a_load_of_more_than_a_page_behind_the_closing_event_is_whole(
    stores: tuple[EventStore, SnapshotStore], behind: int
) -> None:
    store, _ = stores
    store.append("Book-1", added(*range(7)), 0)
    store.close_stream("Book-1", ClosedTotal(total=0), 7)
    store.append("Book-1", added(*[1] * behind), 8)
    book = Repository(store, Book).load("1")
    assert (book.version, book.last_by_digit) == (8 + behind, {1: 1})


def test_a_stream_that_is_closed_between_two_pages_of_a_load_is_loaded_from_there(
    stores: tuple[EventStore, SnapshotStore],
) -> None:
    store, _ = stores
    store.append("Book-1", added(*[1] * (PAGE + 5)), 0)
    book = Book.from_events("1", store.read("Book-1", limit=PAGE))
    store.close_stream("Book-1", ClosedTotal(total=42), PAGE + 5)
    book.replay(store._read_page("Book-1", book.version, PAGE))
    assert (book.version, book.total, book.last_by_digit) == (PAGE + 6, 42, {})


def test_inline_projections_see_closing_events_and_tombstones_and_loads_begin_where_they_should(
    stores: tuple[EventStore, SnapshotStore],
) -> None:
    store, _ = stores
    seen: list[str] = []
    projected = inline(store, Projection(store, "seen", lambda event, _: seen.append(event.event_type)))
    projected.append("Book-1", added(1), 0)
    projected.close_stream("Book-1", ClosedTotal(total=42), 1)
    assert Repository(projected, Book).load("1").last_by_digit == {}
    projected.retire("Book-1", reason="done")
    assert seen == ["SnapshotsAdded", "ClosedTotal", "eventstore.Tombstone"]
    with pytest.raises(StreamRetired):
        Repository(projected, Book).load("1")
    with pytest.raises(StreamRetired):
        projected.append("Book-1", added(1), 3)


def test_a_follower_gets_the_tombstone_as_an_event_of_its_class(stores: tuple[EventStore, SnapshotStore]) -> None:
    store, _ = stores
    seen: list[Event] = []
    store.append("Book-1", added(1), 0)
    store.retire("Book-1", reason="done")
    projection = Projection(store, "seen", lambda event, _: seen.append(event), event_types=[Tombstone])
    projection.run_until_caught_up()
    assert [event.data for event in seen] == [{"reason": "done"}]


def test_an_aggregate_that_was_loaded_before_the_retirement_can_not_be_saved(
    stores: tuple[EventStore, SnapshotStore],
) -> None:
    store, _ = stores
    books = Repository(store, Book)
    store.append("Book-1", added(1), 0)
    book = books.load("1")
    store.retire("Book-1", reason="done")
    book.add(2)
    with pytest.raises(StreamRetired, match="was retired at version 2"):
        books.save(book)
    assert [event.data for event in book.pending] == [{"number": 2}]


def test_an_update_that_meets_a_retirement_ends_with_it(stores: tuple[EventStore, SnapshotStore]) -> None:
    store, _ = stores
    store.append("Book-1", added(1), 0)

    def change(book: Book) -> None:
        book.add(2)
        store.retire("Book-1", reason="done")

    with pytest.raises(StreamRetired):
        Repository(store, Book).update("1", change)
    assert len(store.read("Book-1")) == 2
