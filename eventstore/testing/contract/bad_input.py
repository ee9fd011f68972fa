"""Invalid arguments are refused with a typed error, and nothing happens."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.errors import InvalidArgument, SerializationError
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import events

BAD_NAMES = ["", "x" * 256, "é" * 128, "a\0b", "\ud800", None, 1, b"s", ["s"]]


class BadInputContract(Topic):
    @pytest.mark.parametrize("stream_id", BAD_NAMES)
    def test_a_stream_id_that_can_not_be(self, store: EventStore, stream_id: Any) -> None:
        with pytest.raises(InvalidArgument):
            store.append(stream_id, events(1), 0)
        with pytest.raises(InvalidArgument):
            store.read(stream_id)

    @pytest.mark.parametrize("expected", [-1, -2, -100, 2**63, 1.0, "1", None, True])
    def test_an_expected_version_that_can_not_be(self, store: EventStore, expected: Any) -> None:
        with pytest.raises(InvalidArgument):
            store.append("s", events(1), expected)

    @pytest.mark.parametrize("number", [-1, 2**63, 1.0, "1", True])
    def test_a_version_that_can_not_be(self, store: EventStore, number: Any) -> None:
        for arguments in ({"from_version": number}, {"to_version": number}, {"limit": number}):
            with pytest.raises(InvalidArgument):
                store.read("s", **arguments)

    @needs("global_order")
    @pytest.mark.parametrize("number", [-1, 2**63, 1.0, "1", True])
    def test_a_position_that_can_not_be(self, store: EventStore, number: Any) -> None:
        for name in ("from_position", "to_position", "batch_size", "limit"):
            arguments = {name: number}
            with pytest.raises(InvalidArgument):
                store.read_all(**arguments)

    @needs("global_order")
    def test_read_all_refuses_at_once_not_when_it_is_iterated(self, store: EventStore) -> None:
        wrong: list[dict[str, Any]] = [
            {"batch_size": 0},
            {"event_types": 7},
            {"event_types": [""]},
            {"categories": "a-b"},
        ]
        for arguments in wrong:
            with pytest.raises(InvalidArgument):
                store.read_all(**arguments)

    def test_what_is_no_event(self, store: EventStore) -> None:
        not_events: list[Any] = [{"event_type": "T"}, None, "T", object()]
        for wrong in not_events:
            with pytest.raises(InvalidArgument):
                store.append("s", [*events(1), wrong], 0)
        assert store.read("s") == []

    def test_one_event_twice_in_an_append(self, store: EventStore) -> None:
        batch = events(2)
        with pytest.raises(InvalidArgument):
            store.append("s", [*batch, batch[0]], 0)
        assert store.read("s") == []

    def test_a_value_that_can_not_be_stored_names_its_type_and_path(self, store: EventStore) -> None:
        broken = Event(event_type="Broken", data={"items": [{"price": object()}]})
        with pytest.raises(SerializationError) as caught:
            store.append("s", [*events(1), broken], 0)
        assert (caught.value.subject, caught.value.path) == ("Broken", "items[0].price")
        assert store.read("s") == []
