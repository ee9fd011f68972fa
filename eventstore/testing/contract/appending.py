"""Appends: versions, expected versions, and that a refused one leaves nothing behind."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from eventstore.errors import ConcurrencyError
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import ContractItemAdded, event, events, versions
from eventstore.versions import ExpectedVersion


class AppendingContract(Topic):
    def test_append_returns_the_new_version(self, store: EventStore) -> None:
        assert store.append("s", events(1), 0) == 1
        assert store.append("s", events(3), 1) == 4

    def test_append_returns_the_position_of_its_last_event(self, store: EventStore) -> None:
        for count in (1, 3):
            stored = store.append("s", events(count), ExpectedVersion.ANY)
            assert stored.position == store.read("s")[-1].position > 0

    def test_appending_nothing_returns_the_position_of_the_streams_last_event(self, store: EventStore) -> None:
        assert store.append("s", [], 0).position == 0
        position = store.append("s", events(2), 0).position
        assert store.append("s", [], 2).position == position

    def test_what_an_append_returned_can_be_expected_read_from_and_stored_as_an_int(self, store: EventStore) -> None:
        version = store.append("s", events(1), 0)
        store.append("s", [Event(event_type="T", data={"based_on": version, version: 1})], version)
        found = store.read("s", version)[0].data
        assert found == {"based_on": 1, 1: 1}
        assert type(found["based_on"]) is int
        assert len(store.read("s", 0, version)) == 1

    def test_versions_are_1_2_3_without_a_gap(self, store: EventStore) -> None:
        store.append("s", events(2), 0)
        store.append("s", events(3), 2)
        assert versions(store.read("s")) == [1, 2, 3, 4, 5]

    def test_streams_count_each_for_itself(self, store: EventStore) -> None:
        store.append("a", events(2), 0)
        assert store.append("b", events(1), 0) == 1

    def test_what_is_read_equals_what_was_appended(self, store: EventStore) -> None:
        appended = [*events(2), ContractItemAdded(sku="x", quantity=3, metadata={"user": "ann"})]
        store.append("s", appended, 0)
        assert store.read("s") == appended

    def test_an_event_comes_back_as_its_class_with_all_that_it_carries(self, store: EventStore) -> None:
        sent = ContractItemAdded(sku="x", metadata={"user": "ann"})
        store.append("s", [sent], 0)
        found = store.read("s")[0]
        assert isinstance(found, ContractItemAdded)
        assert (found.sku, found.quantity, found.metadata) == ("x", 1, {"user": "ann"})
        assert (found.event_id, found.timestamp, found.event_type) == (sent.event_id, sent.timestamp, sent.event_type)
        assert (found.stream_id, found.version) == ("s", 1)

    @pytest.mark.parametrize("offset", [timedelta(0), timedelta(hours=5, minutes=45), timedelta(hours=-9, seconds=-7)])
    def test_a_timestamp_comes_back_with_its_offset_from_utc(self, store: EventStore, offset: timedelta) -> None:
        moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(offset))
        store.append("s", [Event(event_type="T", data={"at": moment}, timestamp=moment)], 0)
        found = store.read("s")[0]
        for back in (found.timestamp, found.data["at"]):
            assert (back, back.utcoffset()) == (moment, offset)

    def test_appending_does_not_change_the_event(self, store: EventStore) -> None:
        sent = events(1)[0]
        store.append("s", [sent], 0)
        assert (sent.stream_id, sent.version, sent.position) == ("", 0, 0)

    def test_an_event_changed_later_is_stored_as_it_was(self, store: EventStore) -> None:
        data = {"items": [1]}
        store.append("s", [Event(event_type="T", data=data)], 0)
        data["items"].append(2)
        store.read("s")[0].data["items"].append(3)
        assert store.read("s")[0].data == {"items": [1]}

    @pytest.mark.parametrize("expected", [0, ExpectedVersion.NO_STREAM, ExpectedVersion.ANY])
    def test_a_new_stream_is_expected(self, store: EventStore, expected: int) -> None:
        assert store.append("s", events(2), expected) == 2

    @pytest.mark.parametrize("expected", [2, ExpectedVersion.STREAM_EXISTS, ExpectedVersion.ANY])
    def test_an_existing_stream_is_expected(self, store: EventStore, expected: int) -> None:
        store.append("s", events(2), 0)
        assert store.append("s", events(2), expected) == 4

    @pytest.mark.parametrize("expected", [0, 1, 3, 100, 2**63 - 1, ExpectedVersion.NO_STREAM])
    def test_another_version_is_a_conflict(self, store: EventStore, expected: int) -> None:
        store.append("s", events(2), 0)
        with pytest.raises(ConcurrencyError) as caught:
            store.append("s", events(1), expected)
        assert caught.value.stream_id == "s"
        assert caught.value.expected_version == expected
        assert caught.value.actual_version == 2
        assert "s" in str(caught.value)

    @pytest.mark.parametrize("expected", [1, ExpectedVersion.STREAM_EXISTS])
    def test_a_stream_that_must_exist_but_does_not_is_a_conflict(self, store: EventStore, expected: int) -> None:
        with pytest.raises(ConcurrencyError) as caught:
            store.append("s", events(1), expected)
        assert caught.value.actual_version == 0

    def test_a_conflict_leaves_nothing_behind(self, store: EventStore) -> None:
        before = event()
        store.append("s", before, 0)
        with pytest.raises(ConcurrencyError):
            store.append("s", events(3), 0)
        assert store.read("s") == before
        assert store.append("s", events(1), 1) == 2

    @needs("global_order")
    def test_a_conflict_burns_no_position(self, store: EventStore) -> None:
        store.append("a", events(1), 0)
        with pytest.raises(ConcurrencyError):
            store.append("a", events(5), 0)
        store.append("b", events(1), 0)
        first, second = store.read_all()
        assert second.position == first.position + 1

    @pytest.mark.parametrize(
        ("expected", "version"), [(2, 2), (ExpectedVersion.ANY, 2), (ExpectedVersion.STREAM_EXISTS, 2)]
    )
    def test_appending_nothing_only_checks(self, store: EventStore, expected: int, version: int) -> None:
        store.append("s", events(2), 0)
        assert store.append("s", [], expected) == version
        assert len(store.read("s")) == version

    def test_appending_nothing_to_no_stream_is_version_0(self, store: EventStore) -> None:
        assert store.append("s", [], 0) == 0
        assert store.append("s", [], ExpectedVersion.ANY) == 0
        assert store.read("s") == []

    @pytest.mark.parametrize("expected", [0, 1, 3, ExpectedVersion.NO_STREAM])
    def test_appending_nothing_at_another_version_is_a_conflict(self, store: EventStore, expected: int) -> None:
        store.append("s", events(2), 0)
        with pytest.raises(ConcurrencyError):
            store.append("s", [], expected)

    def test_appending_nothing_to_a_stream_that_must_exist_is_a_conflict(self, store: EventStore) -> None:
        with pytest.raises(ConcurrencyError):
            store.append("s", [], ExpectedVersion.STREAM_EXISTS)

    def test_a_large_batch_is_one_append(self, store: EventStore) -> None:
        batch = events(2500, text="x" * 50)
        assert store.append("s", batch, 0) == len(batch)
        assert store.read("s") == batch
