"""Closed and retired streams: where loads begin, and what can never be appended again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventstore.aggregate import Aggregate
from eventstore.errors import ConcurrencyError, InvalidArgument, StreamRetired
from eventstore.event import Event
from eventstore.repository import Repository
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import event, events, versions
from eventstore.tombstone import Tombstone
from eventstore.versions import ExpectedVersion


class ContractAccount(Aggregate["ContractAccount"]):
    """Keeps the data of its events: what it has after a load says from where on it was loaded."""

    category = "eventstore.contract.Account"
    seen: list[object] = []  # noqa: RUF012 each instance has its own

    def apply(self, event: Event) -> None:
        self.seen.append(event.data.get("number", event.data.get("carried")))


ACCOUNT = f"{ContractAccount.category}-1"


def carried(value: int) -> Event:
    """A closing event."""
    return Event(event_type="Carried", data={"carried": value})


@needs("closing")
class ClosingContract(Topic):
    def test_loads_begin_at_the_closing_event(self, store: EventStore) -> None:
        accounts = Repository(store, ContractAccount)
        store.append(ACCOUNT, events(3), 0)
        assert store.close_stream(ACCOUNT, carried(42), 3) == 4
        assert store.close_stream(ACCOUNT, carried(43), expected_version=4) == 5
        store.append(ACCOUNT, event(number="last"), 5)
        account = accounts.load("1")
        assert (account.seen, account.version) == ([43, "last"], 6)
        account._record(event()[0])
        assert accounts.save(account) == 7

    def test_update_finds_a_command_that_was_done_before_the_stream_was_closed(self, store: EventStore) -> None:
        accounts = Repository(store, ContractAccount)
        for before in (0, 2):
            store.append(ACCOUNT, events(1), before)
            accounts.update("1", lambda account: account._record(event()[0]), command_id=f"command {before}")
        store.close_stream(ACCOUNT, carried(42), 4)
        again: list[Any] = []
        for number in (0, 2):
            account = accounts.update("1", again.append, command_id=f"command {number}")
            assert (account.seen, account.version) == ([42], 5)
        assert again == []

    @needs("global_order")
    def test_a_closed_stream_is_read_from_its_first_event_on(self, store: EventStore) -> None:
        store.append("s", events(3), 0)
        version = store.close_stream("s", closing := carried(42), 3)
        found = store.read("s")
        assert versions(found) == [1, 2, 3, 4]
        assert found[3] == closing
        assert version.position == found[3].position
        assert versions(list(store.read_all())) == [1, 2, 3, 4]

    @pytest.mark.parametrize("expected", [0, 2, 4, 100])
    def test_a_stream_is_not_closed_at_another_version(self, store: EventStore, expected: int) -> None:
        store.append("s", events(3), 0)
        with pytest.raises((ConcurrencyError, InvalidArgument)):
            store.close_stream("s", carried(42), expected)
        assert len(store.read("s")) == 3

    @pytest.mark.parametrize("expected", [*ExpectedVersion])
    def test_a_stream_is_closed_at_an_exact_version_only(self, store: EventStore, expected: int) -> None:
        store.append("s", events(3), 0)
        with pytest.raises(InvalidArgument, match="expected_version must be the version that the closing event"):
            store.close_stream("s", carried(42), expected)

    @pytest.mark.parametrize("wrong", [None, [carried(1)], "Carried", Tombstone(reason="no")])
    def test_a_stream_is_closed_by_one_event(self, store: EventStore, wrong: Any) -> None:
        store.append("s", events(1), 0)
        with pytest.raises(InvalidArgument):
            store.close_stream("s", wrong, 1)

    @needs("idempotency")
    def test_closing_again_with_the_same_event_is_the_same_success(self, store: EventStore) -> None:
        store.append("s", events(1), 0)
        closing = carried(42)
        first, second = (store.close_stream("s", closing, 1) for _ in range(2))
        assert (first, first.position) == (second, second.position)
        assert len(store.read("s")) == 2

    @needs("global_order")
    def test_a_retired_stream_ends_with_a_tombstone_that_says_why(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        version = store.retire("s", reason="checked out")
        last = store.read("s")[-1]
        assert isinstance(last, Tombstone)
        assert (version, version.position, last.reason) == (3, last.position, "checked out")
        assert list(store.read_all())[-1] == last

    @pytest.mark.parametrize("expected", [*ExpectedVersion, 1, 3, 4])
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_nothing_can_be_appended_to_a_retired_stream(self, store: EventStore, expected: int, count: int) -> None:
        store.append("s", events(2), 0)
        tombstone = store.retire("s", reason="done")
        with pytest.raises(StreamRetired) as refused:
            store.append("s", events(count), expected)
        caught = refused.value
        assert (caught.stream_id, caught.version, caught.position) == ("s", 3, tombstone.position)
        assert len(store.read("s")) == 3

    def test_a_batch_to_many_streams_is_refused_if_one_of_them_is_retired(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        store.retire("s", reason="done")
        for expected in (3, ExpectedVersion.ANY):
            with pytest.raises(StreamRetired, match="'s' was retired at version 3"):
                store.append_many([("t", events(1), 0), ("s", events(1), expected)])
        assert store.read("t") == []

    def test_a_batch_to_many_streams_retires_none(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        with pytest.raises(InvalidArgument, match="a tombstone is appended alone"):
            store.append_many([("t", events(1), 0), ("s", [Tombstone(reason="done")], 2)])
        assert store.read("t") == []

    def test_a_retired_stream_can_be_neither_closed_nor_retired(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        store.retire("s", reason="done")
        with pytest.raises(StreamRetired):
            store.retire("s", reason="done")
        with pytest.raises(StreamRetired):
            store.close_stream("s", carried(42), 3)

    @needs("idempotency")
    def test_an_append_from_before_the_retirement_is_still_the_same_success(self, store: EventStore) -> None:
        before = events(2)
        store.append("s", before, 0)
        store.retire("s", reason="done")
        assert store.append("s", before, 0) == 2

    def test_no_aggregate_can_be_loaded_from_a_retired_stream(self, store: EventStore) -> None:
        accounts = Repository(store, ContractAccount)
        store.append(ACCOUNT, events(2), 0)
        store.retire(ACCOUNT, reason="moved to another bank")
        never: list[Any] = []
        attempts: list[Callable[[], object]] = [
            lambda: accounts.load("1"),
            lambda: accounts.update("1", never.append),
            lambda: accounts.update("1", never.append, command_id="c"),
        ]
        for attempt in attempts:
            with pytest.raises(StreamRetired, match="moved to another bank") as refused:
                attempt()
            assert refused.value.reason == "moved to another bank"
        assert not never
        assert accounts.exists("1")

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_stream_is_not_retired_at_another_version(self, store: EventStore, expected: int) -> None:
        store.append("s", events(2), 0)
        with pytest.raises(ConcurrencyError):
            store.retire("s", reason="done", expected_version=expected)
        assert len(store.read("s")) == 2

    def test_a_stream_that_does_not_exist_can_not_be_retired(self, store: EventStore) -> None:
        with pytest.raises(ConcurrencyError, match="does not exist"):
            store.retire("s", reason="done")

    @pytest.mark.parametrize("reason", ["", "  ", None, 7])
    def test_a_stream_is_retired_for_a_reason(self, store: EventStore, reason: Any) -> None:
        store.append("s", events(1), 0)
        with pytest.raises(InvalidArgument, match="reason"):
            store.retire("s", reason=reason)

    def test_a_tombstone_is_appended_alone(self, store: EventStore) -> None:
        with pytest.raises(InvalidArgument, match="retire the stream after"):
            store.append("s", [*events(1), Tombstone(reason="done")], 0)

    @needs("transactions")
    def test_a_transaction_closes_and_retires_and_a_rollback_takes_it_back(self, store: EventStore) -> None:
        store.append(ACCOUNT, events(2), 0)
        with store.transaction() as transaction:
            transaction.close_stream(ACCOUNT, carried(42), 2)
            with pytest.raises(ZeroDivisionError), transaction.transaction() as inner:
                inner.retire(ACCOUNT, reason="done")
                with pytest.raises(StreamRetired):
                    inner.append(ACCOUNT, events(1), 4)
                raise ZeroDivisionError
            assert Repository(transaction, ContractAccount).load("1").seen == [42]
        assert Repository(store, ContractAccount).load("1").seen == [42]
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
            transaction.retire(ACCOUNT, reason="done")
            raise ZeroDivisionError
        assert store.append(ACCOUNT, events(1), 3) == 4
