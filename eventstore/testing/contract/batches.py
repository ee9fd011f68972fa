"""Appends to many streams at once: all or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.errors import ConcurrencyError, EventAlreadyStored, InvalidArgument
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import event, events, versions
from eventstore.testing.contract.threads import THREADS, at_once
from eventstore.versions import ExpectedVersion


@needs("transactions")
class BatchesContract(Topic):
    def test_a_batch_returns_the_new_version_of_each_stream(self, store: EventStore) -> None:
        first = store.append("b", events(2), 0)
        added = store.append_many([("a", events(3), 0), ("b", event(), 2), ("c", [], ExpectedVersion.ANY)])
        assert added == {"a": 3, "b": 3, "c": 0}
        positions = [store.read(stream_id, backwards=True, limit=1)[0].position for stream_id in ("a", "b")]
        assert [added["a"].position, added["b"].position] == positions
        assert first.position < positions[0] < positions[1]
        assert versions(store.read("b")) == [1, 2, 3]

    def test_an_empty_batch_changes_nothing(self, store: EventStore) -> None:
        assert store.append_many([]) == {}
        assert store.read("a") == []

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_conflict_of_one_stream_stores_nothing(self, store: EventStore, position: int) -> None:
        store.append("there", events(2), 0)
        batch: list[Any] = [("a", events(2), 0), ("b", event(), 0)]
        batch.insert(position, ("there", event(), 1))
        with pytest.raises(ConcurrencyError) as conflict:
            store.append_many(batch)
        assert (conflict.value.stream_id, conflict.value.expected_version) == ("there", 1)
        assert conflict.value.actual_version == 2
        assert store.read("a") == store.read("b") == []
        assert len(store.read("there")) == 2

    def test_a_stream_that_must_exist_and_does_not_is_a_conflict(self, store: EventStore) -> None:
        with pytest.raises(ConcurrencyError):
            store.append_many([("a", event(), 0), ("b", event(), ExpectedVersion.STREAM_EXISTS)])
        assert store.append_many([("a", event(), 0), ("a", event(), ExpectedVersion.STREAM_EXISTS)]) == {"a": 2}

    @needs("idempotency")
    def test_a_batch_again_is_the_same_success(self, store: EventStore) -> None:
        batch = [("a", events(3), 0), ("b", event(), ExpectedVersion.ANY)]
        added = store.append_many(batch)
        store.append("a", event(), 3)
        again = store.append_many(batch)
        assert again == added
        assert [version.position for version in again.values()] == [version.position for version in added.values()]
        assert (len(store.read("a")), len(store.read("b"))) == (4, 1)

    @needs("idempotency")
    def test_what_a_batch_has_stored_already_is_left_out(self, store: EventStore) -> None:
        first = events(2)
        store.append("a", first, 0)
        assert store.append_many([("a", first, 0), ("b", event(), 0)]) == {"a": 2, "b": 1}
        assert (len(store.read("a")), len(store.read("b"))) == (2, 1)

    @needs("idempotency")
    def test_an_event_id_that_stands_elsewhere_in_its_stream_stores_nothing(self, store: EventStore) -> None:
        first = events(2)
        store.append("a", first, 0)
        with pytest.raises(EventAlreadyStored) as refusal:
            store.append_many([("b", event(), 0), ("a", [*event(), first[1]], ExpectedVersion.ANY)])
        assert (refusal.value.stream_id, refusal.value.version) == ("a", 2)
        assert store.read("b") == []

    @needs("global_order")
    def test_the_order_of_a_batch_is_that_of_the_log(self, store: EventStore) -> None:
        numbered = events(6)
        names = ["a", "b", "a", "c", "b", "a"]
        expected = [0, ExpectedVersion.ANY, 1, 0, ExpectedVersion.ANY, ExpectedVersion.ANY]
        batch = [(name, [each], version) for name, each, version in zip(names, numbered, expected, strict=True)]
        assert store.append_many(batch) == {"a": 3, "b": 2, "c": 1}
        found = list(store.read_all())
        assert [each.data["number"] for each in found] == list(range(6))
        assert [each.stream_id for each in found] == names
        assert versions(found) == [1, 1, 2, 1, 2, 3]

    def test_a_batch_in_a_transaction_is_a_part_of_it(self, store: EventStore) -> None:
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            transaction.append_many([("a", events(2), 0), ("b", event(), 0)])
            assert transaction.append_many([("a", event(), 2)]) == {"a": 3}
            raise ZeroDivisionError
        assert store.read("a") == store.read("b") == []
        with store.transaction() as transaction:
            transaction.append("a", event(), 0)
            with pytest.raises(ConcurrencyError):
                transaction.append_many([("b", event(), 0), ("a", event(), 0)])
            transaction.append_many([("b", events(2), 0)])
        assert (len(store.read("a")), len(store.read("b"))) == (1, 2)

    @pytest.mark.parametrize(
        "batch", [[("", event(), 0)], [("a", event(), -7)], [("a", event()[0], 0)], [("a", event(), 0), ("b", [7], 0)]]
    )
    def test_an_invalid_batch_is_refused_as_a_whole(self, store: EventStore, batch: Any) -> None:
        with pytest.raises(InvalidArgument):
            store.append_many([("before", event(), 0), *batch])
        assert store.read("before") == []

    @needs("concurrency")
    def test_batches_in_opposite_orders_do_not_wait_for_each_other(self, store: EventStore) -> None:
        names = ["a", "b", "c", "d"]

        def append(number: int) -> int:
            order = names if number % 2 else names[::-1]
            return sum(
                store.append_many([(name, events(2), ExpectedVersion.ANY) for name in order])[names[0]] > 0
                for _ in range(10)
            )

        assert at_once(THREADS, append) == [10] * THREADS
        for name in names:
            assert versions(store.read(name)) == list(range(1, 20 * THREADS + 1))
