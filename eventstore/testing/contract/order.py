"""Reading the whole log: one order, nothing skipped, filters."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import event, events
from eventstore.versions import ExpectedVersion


@needs("global_order")
class OrderContract(Topic):
    @pytest.fixture
    def log(self, store: EventStore) -> EventStore:
        """Two orders, an invoice, and a stream whose name only begins like a category."""
        store.append("Order-1", [Event(event_type="Created"), Event(event_type="Shipped")], 0)
        store.append("Invoice-1", [Event(event_type="Created")], 0)
        store.append("Order-2", [Event(event_type="Created")], 0)
        store.append("Order", [Event(event_type="Created")], 0)
        store.append("Orders-1", [Event(event_type="Created")], 0)
        store.append("Order-1", [Event(event_type="Closed")], 2)
        return store

    def test_an_empty_store_has_an_empty_log(self, store: EventStore) -> None:
        assert list(store.read_all()) == []
        assert list(store.read_all(from_position=100)) == []

    def test_positions_rise_and_versions_follow_them(self, log: EventStore) -> None:
        found = list(log.read_all())
        assert [e.position for e in found] == sorted({e.position for e in found})
        assert found[0].position > 0
        assert [(e.stream_id, e.version) for e in found] == [
            ("Order-1", 1),
            ("Order-1", 2),
            ("Invoice-1", 1),
            ("Order-2", 1),
            ("Order", 1),
            ("Orders-1", 1),
            ("Order-1", 3),
        ]

    def test_the_log_holds_the_events_that_the_streams_hold(self, log: EventStore) -> None:
        assert [e for e in log.read_all() if e.stream_id == "Order-1"] == log.read("Order-1")

    def test_reading_continues_above_a_position(self, log: EventStore) -> None:
        found = list(log.read_all())
        for index, each in enumerate(found):
            assert list(log.read_all(each.position)) == found[index + 1 :]

    def test_reading_ends_at_a_position(self, log: EventStore) -> None:
        found = list(log.read_all())
        assert list(log.read_all(found[0].position, to_position=found[3].position)) == found[1:4]
        assert list(log.read_all(to_position=0)) == []
        assert list(log.read_all(found[3].position, to_position=found[1].position)) == []

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 1000])
    def test_the_size_of_batches_changes_nothing(self, log: EventStore, batch_size: int) -> None:
        assert list(log.read_all(batch_size=batch_size)) == list(log.read_all())
        types = ["Created"]
        assert list(log.read_all(batch_size=batch_size, event_types=types)) == list(log.read_all(event_types=types))

    @pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
    def test_backwards_the_log_begins_with_the_newest_event(self, log: EventStore, batch_size: int) -> None:
        found = list(log.read_all())
        assert list(log.read_all(batch_size=batch_size, backwards=True)) == found[::-1]
        between = log.read_all(found[0].position, batch_size, to_position=found[4].position, backwards=True)
        assert list(between) == found[1:5][::-1]
        created = log.read_all(event_types="Created", categories="Order", batch_size=batch_size, backwards=True)
        assert [event.stream_id for event in created] == ["Order-2", "Order-1"]

    @pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 100])
    @pytest.mark.parametrize("batch_size", [1, 2, 1000])
    def test_a_limit_of_the_log_counts_in_the_direction_of_reading(
        self, log: EventStore, batch_size: int, limit: int
    ) -> None:
        found = list(log.read_all())
        assert list(log.read_all(batch_size=batch_size, limit=limit)) == found[:limit]
        assert list(log.read_all(batch_size=batch_size, limit=limit, backwards=True)) == found[::-1][:limit]
        created = [event for event in found if event.event_type == "Created"]
        assert list(log.read_all(batch_size=batch_size, event_types="Created", limit=limit)) == created[:limit]

    def test_the_last_position_is_that_of_the_newest_event(self, store: EventStore) -> None:
        assert store.last_position() == 0
        for _ in range(3):
            stored = store.append("s", events(2), ExpectedVersion.ANY)
            assert store.last_position() == stored.position
        assert list(store.read_all(store.last_position())) == []

    def test_thousands_of_events_are_all_in_the_log_at_the_positions_that_their_streams_show(
        self, store: EventStore
    ) -> None:
        for stream_id, count in (("a", 1001), ("b", 1500)):
            store.append(stream_id, events(count), 0)
        log = {(e.stream_id, e.version): (e.position, e.event_id) for e in store.read_all()}
        assert len(log) == 2501
        for stream_id in ("a", "b"):
            for each in store.read(stream_id):
                assert log[stream_id, each.version] == (each.position, each.event_id)
        assert len(list(store.read_all(event_types="Numbered"))) == 2501

    def test_read_all_filters_by_event_type(self, log: EventStore) -> None:
        assert [e.event_type for e in log.read_all(event_types=["Shipped", "Closed", "Never"])] == ["Shipped", "Closed"]
        assert list(log.read_all(event_types=[])) == []

    def test_read_all_filters_by_category(self, log: EventStore) -> None:
        assert [e.stream_id for e in log.read_all(categories="Order")] == ["Order-1", "Order-1", "Order-2", "Order-1"]
        assert list(log.read_all(categories="Ord")) == []

    def test_read_all_filters_by_type_and_category_together(self, log: EventStore) -> None:
        found = log.read_all(categories="Order", event_types=["Created"], batch_size=1)
        assert [e.stream_id for e in found] == ["Order-1", "Order-2"]

    def test_read_all_ends_where_the_log_ended_when_it_began(self, store: EventStore) -> None:
        store.append("s", events(3), 0)
        reading = store.read_all(batch_size=1)
        next(reading)
        store.append("s", events(3), 3)
        assert len(list(reading)) == 2

    @needs("transactions", "concurrency")
    def test_an_open_append_holds_the_log_back_below_it(self, store: EventStore) -> None:
        store.append("before", events(1), 0)
        with store.transaction() as transaction:
            transaction.append("open", events(1), 0)
            store.append("after", events(2), 0)
            assert [e.stream_id for e in store.read_all()] == ["before"]
            assert [e.stream_id for e in store.read("after")] == ["after", "after"]
        assert [e.stream_id for e in store.read_all()] == ["before", "open", "after", "after"]

    @needs("transactions", "concurrency")
    def test_a_reader_continues_after_a_rolled_back_append(self, store: EventStore) -> None:
        store.append("before", events(1), 0)
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            transaction.append("open", events(2), 0)
            store.append("after", events(1), 0)
            raise ZeroDivisionError
        assert [e.stream_id for e in store.read_all()] == ["before", "after"]

    @needs("transactions", "concurrency")
    def test_what_was_appended_before_the_oldest_open_append_is_read(self, store: EventStore) -> None:
        with store.transaction() as first:
            store.append("between", events(2), 0)
            first.append("open", events(1), 0)
            store.append("after", event(), 0)
            assert [e.stream_id for e in store.read_all()] == ["between", "between"]

    @needs("transactions", "concurrency")
    def test_a_reader_of_the_log_may_get_the_first_part_of_a_transaction_alone_and_never_misses_the_rest(
        self, store: EventStore
    ) -> None:
        store.append("before", events(1), 0)
        with ExitStack() as transfer:
            appending = transfer.enter_context(store.transaction())
            appending.append("first", events(1), 0)
            with store.transaction() as other:
                other.append("open", events(1), 0)
                appending.append("second", events(1), 0)
                transfer.close()
                assert len(store.read("first")) == len(store.read("second")) == 1
                seen = list(store.read_all())
                assert [e.stream_id for e in seen] in (["before"], ["before", "first"])
        seen += store.read_all(seen[-1].position)
        assert [e.stream_id for e in seen] == ["before", "first", "open", "second"]

    @needs("transactions", "concurrency")
    def test_an_open_transaction_that_appends_nothing_holds_nobody_back(self, store: EventStore) -> None:
        with store.transaction() as transaction:
            transaction.read("s")
            list(transaction.read_all())
            store.append("s", events(2), 0)
            assert len(list(store.read_all())) == 2
