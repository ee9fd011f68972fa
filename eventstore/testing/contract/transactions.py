"""Several appends as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from eventstore.errors import ConcurrencyError, EventStoreError, InvalidOperation
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import event, events
from eventstore.versions import ExpectedVersion


@needs("transactions")
class TransactionsContract(Topic):
    def test_a_transaction_stores_appends_to_several_streams_together(self, store: EventStore) -> None:
        with store.transaction() as transaction:
            assert transaction.append("a", events(2), 0) == 2
            assert transaction.append("b", events(1), 0) == 1
        assert len(store.read("a")) == 2
        assert len(store.read("b")) == 1

    @needs("concurrency")
    def test_nobody_else_sees_its_appends_before_its_end(self, store: EventStore) -> None:
        with store.transaction() as transaction:
            transaction.append("a", events(2), 0)
            assert store.read("a") == []
        assert len(store.read("a")) == 2

    def test_an_error_in_the_block_stores_none_of_its_appends(self, store: EventStore) -> None:
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            transaction.append("a", events(2), 0)
            transaction.append("b", events(1), 0)
            raise ZeroDivisionError
        assert store.read("a") == store.read("b") == []
        assert store.append("a", events(1), 0) == 1

    def test_a_transaction_sees_its_own_appends(self, store: EventStore) -> None:
        store.append("a", events(1), 0)
        with store.transaction() as transaction:
            batch = events(2)
            transaction.append("a", batch, 1)
            assert transaction.read("a")[1:] == batch
            assert transaction.read("a", backwards=True, limit=1) == batch[1:]
            assert transaction.append("a", events(1), 3) == 4

    @needs("global_order")
    def test_a_transaction_sees_its_own_appends_in_the_log(self, store: EventStore) -> None:
        store.append("a", events(1), 0)
        with store.transaction() as transaction:
            batch = events(2)
            transaction.append("a", batch, 1)
            assert list(transaction.read_all())[1:] == batch

    def test_a_transaction_stays_usable_after_a_conflict(self, store: EventStore) -> None:
        store.append("a", events(1), 0)
        with store.transaction() as transaction:
            transaction.append("b", events(1), 0)
            with pytest.raises(ConcurrencyError):
                transaction.append("a", events(1), 0)
            transaction.append("c", events(1), 0)
        assert [len(store.read(name)) for name in "abc"] == [1, 1, 1]

    def test_a_conflict_that_is_not_caught_stores_nothing(self, store: EventStore) -> None:
        with pytest.raises(ConcurrencyError), store.transaction() as transaction:
            transaction.append("a", events(1), 0)
            transaction.append("b", events(1), 5)
        assert store.read("a") == store.read("b") == []

    def test_an_inner_transaction_can_fail_alone(self, store: EventStore) -> None:
        with store.transaction() as outer:
            outer.append("a", events(1), 0)
            with pytest.raises(ZeroDivisionError), outer.transaction() as inner:
                inner.append("b", events(1), 0)
                inner.append("a", events(1), 1)
                raise ZeroDivisionError
            assert outer.read("b") == []
            with outer.transaction() as inner:
                inner.append("c", events(1), 0)
            outer.append("a", events(1), 1)
        assert [len(store.read(name)) for name in "abc"] == [2, 0, 1]

    @needs("concurrency")
    def test_a_stream_let_go_by_the_inner_one_is_free_for_others(self, store: EventStore) -> None:
        with store.transaction() as outer:
            with pytest.raises(ZeroDivisionError), outer.transaction() as inner:
                inner.append("b", events(1), 0)
                raise ZeroDivisionError
            assert store.append("b", events(1), 0) == 1
            assert len(store.read("b")) == 1

    def test_a_failed_outer_transaction_takes_the_inner_one_with_it(self, store: EventStore) -> None:
        with pytest.raises(ZeroDivisionError), store.transaction() as outer:
            with outer.transaction() as inner:
                inner.append("b", events(1), 0)
            raise ZeroDivisionError
        assert store.read("b") == []

    def test_a_transaction_can_not_be_used_after_its_end(self, store: EventStore) -> None:
        with store.transaction() as transaction:
            transaction.append("a", events(1), 0)
        with pytest.raises(InvalidOperation):
            transaction.append("a", events(1), 1)
        with pytest.raises(InvalidOperation):
            transaction.read("a")

    @needs("global_order")
    def test_the_log_can_not_be_read_in_it_after_its_end(self, store: EventStore) -> None:
        with store.transaction() as transaction:
            transaction.append("a", events(1), 0)
        with pytest.raises(InvalidOperation):
            list(transaction.read_all())

    def test_an_empty_one_does_nothing(self, store: EventStore) -> None:
        with store.transaction():
            pass
        with store.transaction() as transaction:
            assert transaction.append("a", [], 0) == 0
        assert store.read("a") == []

    def test_binding_a_bound_store_or_an_object_that_is_not_a_connection_is_refused(self, store: EventStore) -> None:
        with pytest.raises(EventStoreError):
            store.bind(object())
        with store.transaction() as transaction, pytest.raises(EventStoreError):
            transaction.bind(object())

    @needs("concurrency")
    def test_a_transaction_holds_off_writers_of_its_streams_only(self, store: EventStore) -> None:
        done = threading.Event()
        versions: list[int] = []

        def append_too() -> None:
            versions.append(store.append("a", event(), ExpectedVersion.ANY))
            done.set()

        with store.transaction() as transaction:
            transaction.append("a", events(2), 0)
            thread = threading.Thread(target=append_too)
            thread.start()
            assert store.append("b", events(1), 0) == 1
            assert not done.wait(0.05)
        thread.join(30)
        assert versions == [3]

    @needs("concurrency")
    def test_two_that_wait_for_each_other_end_in_one_conflict(self, store: EventStore) -> None:
        def append(transaction: EventStore, stream_id: str) -> None:
            transaction.append(stream_id, event(), ExpectedVersion.ANY)

        assert crossed(store, append) == ["ConcurrencyError", "stored"]
        assert len(store.read("a")) == len(store.read("b")) == 1

    @needs("concurrency")
    def test_a_failed_transaction_that_continues_stores_nothing_and_says_so(self, store: EventStore) -> None:
        def append_in_any_case(transaction: EventStore, stream_id: str) -> None:
            with suppress(ConcurrencyError):
                transaction.append(stream_id, event(), ExpectedVersion.ANY)

        assert crossed(store, append_in_any_case) == ["InvalidOperation", "stored"]
        assert len(store.read("a")) == len(store.read("b")) == 1


def crossed(store: EventStore, append: Callable[[EventStore, str], None]) -> list[str]:
    """Two transactions append to two streams in opposite orders, and meet in between; what each of them ended in."""
    meeting = threading.Barrier(2)

    def append_both(streams: tuple[str, str]) -> str:
        try:
            with store.transaction() as transaction:
                append(transaction, streams[0])
                meeting.wait(30)
                append(transaction, streams[1])
        except EventStoreError as error:
            return type(error).__name__
        return "stored"

    with ThreadPoolExecutor(2) as threads:
        return sorted(threads.map(append_both, [("a", "b"), ("b", "a")]))
