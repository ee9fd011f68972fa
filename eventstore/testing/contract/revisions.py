"""Revisions: what an older class of events stored comes back as the present one has it."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.codec.upcasting import upcasts
from eventstore.errors import DeserializationError
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs


class ContractParcelWeighed(Event, revision=3, formerly=["eventstore.contract.Weighed"]):
    """An event whose first revision had kilograms as a text, and whose second had a number."""

    event_type: str = "eventstore.contract.ParcelWeighed"
    grams: int
    by: str = "unknown"


@upcasts(ContractParcelWeighed, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"kilograms": float(data["weight"])}


@upcasts(ContractParcelWeighed, from_revision=2)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"grams": round(data["kilograms"] * 1000)}


def weighed(revision: int, **data: Any) -> Event:
    """As a program with an older class would have appended it."""
    return Event(event_type="eventstore.contract.ParcelWeighed", data=data, revision=revision)


@needs("global_order")
class RevisionsContract(Topic):
    def test_each_event_says_which_revision_stored_it(self, store: EventStore) -> None:
        plain = Event(event_type="eventstore.contract.Elsewhere", data={"n": 1}, revision=7)
        store.append(
            "s", [weighed(1, weight="1.5"), weighed(2, kilograms=2.5), ContractParcelWeighed(grams=3), plain], 0
        )
        assert [event.revision for event in store.read("s")] == [1, 2, 3, 7]

    def test_an_event_of_an_older_revision_is_read_as_the_class_has_it_now(self, store: EventStore) -> None:
        store.append("s", [weighed(1, weight="1.5"), weighed(2, kilograms=2.5), weighed(3, grams=3, by="ann")], 0)
        found = store.read("s")
        assert [type(event) for event in found] == [ContractParcelWeighed] * 3
        assert [event.data for event in found] == [
            {"grams": 1500, "by": "unknown"},
            {"grams": 2500, "by": "unknown"},
            {"grams": 3, "by": "ann"},
        ]

    @needs("global_order")
    def test_the_log_is_read_as_its_streams_are(self, store: EventStore) -> None:
        store.append("s", [weighed(1, weight="1.5"), weighed(2, kilograms=2.5)], 0)
        assert list(store.read_all()) == store.read("s")
        assert [event.revision for event in store.read_all()] == [1, 2]

    @needs("global_order")
    def test_an_event_under_a_former_name_is_read_and_found_by_the_present_one(self, store: EventStore) -> None:
        store.append("s-1", [Event(event_type="eventstore.contract.Weighed", data={"weight": "1"}, revision=1)], 0)
        store.append("s-1", [ContractParcelWeighed(grams=2), Event(event_type="Other")], 1)
        for wanted in (ContractParcelWeighed, ContractParcelWeighed.event_type, "eventstore.contract.Weighed"):
            found = list(store.read_all(event_types=wanted))
            assert [event.data["grams"] for event in found] == [1000, 2]
            assert {event.event_type for event in found} == {"eventstore.contract.ParcelWeighed"}

    def test_an_event_that_is_appended_again_is_of_the_present_revision(self, store: EventStore) -> None:
        store.append("s", [weighed(1, weight="1.5")], 0)
        store.append("copy", store.read("s"), 0)
        (copy,) = store.read("copy")
        assert (copy.revision, copy.data) == (3, {"grams": 1500, "by": "unknown"})

    def test_an_upcaster_that_fails_is_named_with_the_event(self, store: EventStore) -> None:
        bad = Event(event_type="eventstore.contract.Elsewhere", data={"weight": "heavy"}, revision=1)
        store.append("s", [weighed(3, grams=1), bad], 0)
        # As the class that has the name now reads it.
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(_classes(), "eventstore.contract.Elsewhere", ContractParcelWeighed)
            with pytest.raises(DeserializationError, match="from revision 1 raised ValueError") as caught:
                store.read("s")
        error = caught.value
        assert (error.stream_id, error.version, error.revision) == ("s", 2, 1)
        assert isinstance(error.__cause__, ValueError)


def _classes() -> dict[str, type[Event]]:
    from eventstore import event_types  # noqa: PLC0415 its table, as tests replace it

    return event_types._event_classes
