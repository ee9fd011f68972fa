"""The same event ids at the same place again: the same success, and nothing stored twice."""

from __future__ import annotations

import copy
import pickle
from uuid import uuid4

import pytest

from eventstore.errors import ConcurrencyError, EventAlreadyStored
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import events
from eventstore.versions import ExpectedVersion

MODES = [ExpectedVersion.ANY, ExpectedVersion.STREAM_EXISTS]


class IdempotencyContract(Topic):
    @needs("idempotency")
    def test_the_same_append_again_is_the_same_success(self, store: EventStore) -> None:
        batch = events(3)
        assert store.append("s", batch, 0) == 3
        assert store.append("s", batch, 0) == 3
        assert store.append("s", batch, ExpectedVersion.NO_STREAM) == 3
        assert store.read("s") == batch

    @needs("idempotency")
    def test_the_same_append_again_returns_the_same_version_and_position(self, store: EventStore) -> None:
        batch = events(3)
        stored = store.append("s", batch, 0)
        assert not stored.repeated
        assert not store.append("s", events(1), 3).repeated
        for expected in (0, ExpectedVersion.ANY):
            again = store.append("s", batch, expected)
            assert (again, again.position, again.repeated) == (3, stored.position, True)

    @needs("idempotency")
    def test_repeating_an_append_succeeds_after_others_have_appended(self, store: EventStore) -> None:
        first, second, third = events(2), events(1), events(4)
        store.append("s", first, 0)
        store.append("s", second, 2)
        store.append("s", third, 3)
        assert store.append("s", first, 0) == 2
        assert store.append("s", second, 2) == 3
        assert store.read("s") == [*first, *second, *third]

    @needs("idempotency")
    @pytest.mark.parametrize("mode", MODES)
    def test_repeating_an_append_succeeds_if_no_version_is_expected(self, store: EventStore, mode: int) -> None:
        first, second = events(2), events(1)
        store.append("s", first, 0)
        store.append("s", second, 2)
        assert store.append("s", first, mode) == 2
        assert store.append("s", second, mode) == 3
        assert store.read("s") == [*first, *second]

    def test_other_events_at_the_same_place_are_a_conflict(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        with pytest.raises(ConcurrencyError):
            store.append("s", events(2), 0)

    @needs("idempotency")
    @needs("idempotency")
    @pytest.mark.parametrize("expected", [*MODES, 0, 3])
    def test_a_part_of_an_append_with_others_is_stored_already(self, store: EventStore, expected: int) -> None:
        first, second = events(2), events(1)
        store.append("s", first, 0)
        store.append("s", second, 2)
        before = store.read("s")
        for batch, there in (
            ([first[0], *events(1)], 1),
            ([*events(1), first[0]], 1),
            ([first[1], first[0]], 1),
            ([*second, *events(1)], 3),
        ):
            with pytest.raises(EventAlreadyStored) as caught:
                store.append("s", batch, expected)
            assert (caught.value.stream_id, caught.value.version) == ("s", there)
            assert caught.value.position == before[there - 1].position
        assert store.read("s") == before

    @needs("idempotency")
    def test_an_id_that_was_given_stands_once_in_a_stream_also_at_an_expected_version(self, store: EventStore) -> None:
        first, second = (Event(event_type="T", event_id=uuid4()) for _ in range(2))
        store.append("s", [first], 0)
        for batch, expected in (([first], 1), ([second, first], 1), ([first, second], 0), ([first], 5)):
            with pytest.raises(EventAlreadyStored) as caught:
                store.append("s", batch, expected)
            assert (caught.value.stream_id, caught.value.version) == ("s", 1)
        assert store.read("s") == [first]
        assert store.append("s", [second], 1) == 2

    @needs("idempotency")
    def test_a_beginning_of_an_append_is_there_already(self, store: EventStore) -> None:
        batch = events(3)
        store.append("s", batch, 0)
        assert store.append("s", batch[:2], 0) == 2

    @needs("idempotency")
    def test_an_event_is_not_stored_at_a_second_place_of_its_stream(self, store: EventStore) -> None:
        first, second = events(2)
        store.append("s", [first, second], 0)
        before = store.read("s")
        for again in (second, copy.deepcopy(second), pickle.loads(pickle.dumps(second))):  # noqa: S301 its own
            for expected in (0, 2):
                with pytest.raises(EventAlreadyStored) as caught:
                    store.append("s", [again], expected)
                assert caught.value.version == 2
        assert store.read("s") == before

    def test_an_id_may_stand_in_two_streams(self, store: EventStore) -> None:
        batch = events(1)
        assert store.append("a", batch, ExpectedVersion.ANY) == 1
        assert store.append("b", batch, ExpectedVersion.ANY) == 1
        assert store.read("a") == store.read("b") == batch

    @needs("transactions", "idempotency")
    def test_events_appended_again_within_their_own_transaction_are_stored_once(self, store: EventStore) -> None:
        batch = events(2)
        with store.transaction() as transaction:
            assert transaction.append("s", batch, 0) == 2
            assert transaction.append("s", batch, 0) == 2
            assert transaction.append("s", batch, ExpectedVersion.ANY) == 2
        assert store.read("s") == batch
