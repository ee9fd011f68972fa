"""Reading one stream: by range, in both directions, with a limit."""

from __future__ import annotations

import pytest

from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic
from eventstore.testing.contract.samples import events, versions


class ReadingContract(Topic):
    @pytest.fixture
    def ten(self, store: EventStore) -> EventStore:
        """The store with ten events in the stream "s", and some in others."""
        store.append("s", events(4), 0)
        store.append("other", events(3), 0)
        store.append("s", events(6), 4)
        return store

    def test_a_stream_that_does_not_exist_has_no_events(self, store: EventStore) -> None:
        assert store.read("nowhere") == []
        assert store.read("nowhere", backwards=True, limit=1) == []

    @pytest.mark.parametrize(
        ("bounds", "expected"),
        [
            ((), range(1, 11)),
            ((0,), range(1, 11)),
            ((3,), range(4, 11)),
            ((3, 5), range(4, 6)),
            ((0, 1), range(1, 2)),
            ((9,), range(10, 11)),
            ((10,), ()),
            ((11,), ()),
            ((5, 5), ()),
            ((5, 3), ()),
            ((0, 0), ()),
            ((0, 2**63 - 1), range(1, 11)),
            ((2**63 - 1,), ()),
        ],
    )
    def test_above_the_first_version_up_to_and_with_the_second(
        self, ten: EventStore, bounds: tuple[int, ...], expected: range
    ) -> None:
        assert versions(ten.read("s", *bounds)) == list(expected)
        assert versions(ten.read("s", *bounds, backwards=True)) == list(expected)[::-1]

    @pytest.mark.parametrize("limit", [0, 1, 3, 10, 11, 2**40])
    def test_a_limit_counts_in_the_direction_of_reading(self, ten: EventStore, limit: int) -> None:
        assert versions(ten.read("s", limit=limit)) == list(range(1, 11))[:limit]
        assert versions(ten.read("s", backwards=True, limit=limit)) == list(range(10, 0, -1))[:limit]
        assert versions(ten.read("s", 2, 8, limit=limit)) == list(range(3, 9))[:limit]

    def test_streams_whose_names_are_alike_are_different(self, store: EventStore) -> None:
        names = [
            "a",
            "A",
            "a ",
            " a",
            "a-",
            "a-b",
            "a-b-c",
            "ab",
            "á",
            "a\u0301",
            "%",
            "a%",
            "'",
            '"',
            "a\nb",
            "{}",
            "\\",
        ]
        for name in names:
            store.append(name, [Event(event_type="T", data={"name": name})], 0)
        for name in names:
            assert [event.data for event in store.read(name)] == [{"name": name}]

    def test_the_longest_stream_id_and_type(self, store: EventStore) -> None:
        name = "é" * 127 + "x"
        store.append(name, [Event(event_type=name)], 0)
        (found,) = store.read(name)
        assert (found.stream_id, found.event_type) == (name, name)
