"""Personal data is sealed under its subject's key, comes back with it, and reads as placeholders without it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import psycopg
import pytest
from keyed_stores import AsyncKeyed, Keyed

from eventstore import (
    DeserializationError,
    Event,
    ExpectedVersion,
    ForgottenSubject,
    InMemoryEventStore,
    InvalidArgument,
    InvalidOperation,
    SerializationError,
    register_type,
    upcasts,
)
from eventstore.codec import decode
from eventstore.codec.sealing import Cipher, associated_data, opened, subjects_in
from eventstore.context import causing
from eventstore.privacy import InMemorySubjectKeys, Personal, Sealed, Subject, SubjectForgotten


@register_type
@dataclass
class PrivacyAddress:
    street: Annotated[str, Personal("(erased)")]
    country: str


class PrivacyRegistered(Event, personal_metadata={"ip": Personal("0.0.0.0")}):  # noqa: S104 no address to bind to
    customer_id: Annotated[UUID, Subject]
    email: Annotated[str, Personal("(erased)")]
    birthday: Annotated[date | None, Personal(None)] = None
    addresses: list[PrivacyAddress] = field(default_factory=list)
    by_kind: dict[str, tuple[PrivacyAddress, ...]] = field(default_factory=dict)


class PrivacyMessageSent(Event):
    sender_id: Annotated[int, Subject]
    recipient_id: str | None
    text: Annotated[str, Personal("")]
    recipient: Annotated[str, Personal("?", of="recipient_id")]


def registered(customer: UUID, **changes: Any) -> PrivacyRegistered:
    values: dict[str, Any] = {
        "customer_id": customer,
        "email": "ann@example.org",
        "birthday": date(2000, 2, 29),
        "addresses": [PrivacyAddress("Long Lane 1", "NL")],
        "by_kind": {"home": (PrivacyAddress("Short Lane 2", "BE"),)},
        "metadata": {"ip": "192.0.2.1", "client": "web"},
    }
    return PrivacyRegistered(**values | changes)


SEALED = ("email", "birthday", "addresses[0].street", "by_kind.home[0].street", "metadata.ip")


def test_personal_data_comes_back_equal_by_every_way_of_reading(keyed: Keyed) -> None:
    event = registered(uuid4())
    keyed.store.append("Customer-1", [event], 0)
    assert keyed.store.read("Customer-1") == [event]
    assert list(keyed.store.read_all(backwards=True)) == [event]
    with keyed.store.transaction() as transaction:
        assert transaction.read("Customer-1") == [event]
        transaction.append("Customer-1", [other := registered(event.customer_id)], 1)
        assert transaction.read("Customer-1") == [event, other]
    assert keyed.store.read("Customer-1")[1].sealed == ()


def test_a_store_without_keys_reads_placeholders_and_says_which_fields(keyed: Keyed) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    (found,) = keyed.without_keys.read("Customer-1")
    erased = [PrivacyAddress("(erased)", "NL"), PrivacyAddress("(erased)", "BE")]
    assert found.data == {
        "customer_id": customer,
        "email": "(erased)",
        "birthday": None,
        "addresses": erased[:1],
        "by_kind": {"home": (erased[1],)},
    }
    assert found.metadata == {"ip": "0.0.0.0", "client": "web"}  # noqa: S104
    assert found.sealed == SEALED


def test_a_forgotten_subject_reads_as_placeholders_and_the_others_as_before(keyed: Keyed) -> None:
    ann, bob = uuid4(), uuid4()
    keyed.store.append("Customer-1", [registered(ann)], 0)
    keyed.store.append("Customer-2", [of_bob := registered(bob)], 0)
    version = keyed.store.forget(ann, reason="Art. 17")
    assert keyed.store.read("Customer-1")[0].sealed == SEALED
    assert keyed.store.read("Customer-2") == [of_bob]
    last = list(keyed.store.read_all())[-1]
    assert last == SubjectForgotten(
        subject=str(ann), reason="Art. 17", event_id=last.event_id, timestamp=last.timestamp
    )
    assert (last.version, last.position) == (version, version.position)
    with pytest.raises(ForgottenSubject) as refused:
        keyed.store.append("Customer-3", [registered(ann)], 0)
    assert refused.value.subject == str(ann)
    assert keyed.store.read("Customer-3") == []


def test_a_subject_is_known_by_its_text_and_can_be_forgotten_again(keyed: Keyed) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    first = keyed.store.forget(str(customer))
    again = keyed.store.forget(customer, reason="twice")
    assert (first, first.position) == (again, again.position)
    assert again.repeated
    assert [event.reason for event in keyed.store.read_all(event_types=SubjectForgotten)] == [""]


def test_one_event_can_hold_personal_data_of_several_subjects(keyed: Keyed) -> None:
    event = PrivacyMessageSent(sender_id=7, recipient_id="bob-1", text="Hello", recipient="Bob")
    keyed.store.append("Chat-1", [event], 0)
    assert keyed.store.read("Chat-1") == [event]
    keyed.store.forget("bob-1")
    (found,) = keyed.store.read("Chat-1")
    assert (found.text, found.recipient, found.sealed) == ("Hello", "?", ("recipient",))
    keyed.store.forget(7)
    assert keyed.store.read("Chat-1")[0].sealed == ("text", "recipient")


def test_a_transaction_that_is_rolled_back_forgets_nothing(keyed: Keyed) -> None:
    event = registered(uuid4())
    keyed.store.append("Customer-1", [event], 0)

    class Oops(Exception):
        pass

    with pytest.raises(Oops), keyed.store.transaction() as transaction:
        transaction.forget(event.customer_id, reason="a mistake")
        assert transaction.read(f"eventstore.subjects-{event.customer_id}")
        raise Oops
    with keyed.store.transaction() as transaction:
        with pytest.raises(Oops), transaction.transaction() as inner:
            inner.forget(event.customer_id)
            raise Oops
        transaction.append("Customer-2", [Event(event_type="Noted")], 0)
    assert keyed.store.read("Customer-1") == [event]
    keyed.store.append("Customer-1", [registered(event.customer_id)], 1)


def test_a_forgetting_is_one_with_what_else_its_transaction_does(keyed: Keyed) -> None:
    event = registered(uuid4())
    keyed.store.append("Customer-1", [event], 0)
    with keyed.store.transaction() as transaction:
        transaction.append("Customer-1", [Event(event_type="Left")], 1)
        transaction.forget(event.customer_id)
    assert [each.event_type for each in keyed.store.read("Customer-1")] == ["PrivacyRegistered", "Left"]
    assert keyed.store.read("Customer-1")[0].sealed


def test_a_subject_that_never_had_a_key_can_be_forgotten_and_gets_none(keyed: Keyed) -> None:
    keyed.store.forget("never-seen")
    with pytest.raises(ForgottenSubject):
        keyed.keys.get_or_create("never-seen")
    with pytest.raises(ForgottenSubject):
        keyed.store.append(
            "Chat-1", [PrivacyMessageSent(sender_id=1, recipient_id="never-seen", text="", recipient="Bob")], 0
        )


def test_placeholders_of_a_forgotten_subject_can_be_recorded(keyed: Keyed) -> None:
    keyed.store.forget("bob-1")
    event = PrivacyMessageSent(sender_id=1, recipient_id="bob-1", text="Bye", recipient="?")
    keyed.store.append("Chat-1", [event], 0)
    assert keyed.store.read("Chat-1") == [event]


def test_a_process_that_remembers_a_key_can_not_record_a_subject_that_another_one_forgot(keyed: Keyed) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    (cached,) = keyed.store.read("Customer-1")
    assert cached.email == "ann@example.org"
    keyed.without_keys.append(
        f"eventstore.subjects-{customer}", [SubjectForgotten(subject=str(customer), reason="elsewhere")], 0
    )
    with pytest.raises(ForgottenSubject):
        keyed.store.append("Customer-1", [registered(customer)], 1)
    with keyed.store.transaction() as transaction, pytest.raises(ForgottenSubject):
        transaction.append("Customer-1", [registered(customer)], 1)


def test_whoever_reads_that_a_subject_is_forgotten_destroys_a_key_that_is_still_there(keyed: Keyed) -> None:
    # As a process that died after its commit, and before it destroyed the key.
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    event = SubjectForgotten(subject=str(customer), reason="Art. 17")
    keyed.without_keys.append(f"eventstore.subjects-{customer}", [event], 0)
    assert [*keyed.store.read_all(event_types=SubjectForgotten)] == [event]
    with pytest.raises(ForgottenSubject):
        keyed.keys.get(str(customer))
    assert keyed.store.read("Customer-1")[0].sealed == SEALED
    (record,) = keyed.keys.records()
    assert (record.subject, record.reason, record.wrapped_by) == (str(customer), "Art. 17", None)


def test_personal_data_needs_keys_to_be_stored() -> None:
    store = InMemoryEventStore()
    with pytest.raises(InvalidOperation, match="subject_keys"):
        store.append("Customer-1", [registered(uuid4())], 0)
    with pytest.raises(InvalidOperation, match="subject_keys"):
        store.forget(uuid4())
    assert list(store.read_all()) == []


def test_an_event_without_a_class_is_sealed_as_its_class_says_and_opened_without_it(keyed: Keyed) -> None:
    customer = uuid4()
    event = Event(event_type="PrivacyRegistered", data=registered(customer).data)
    keyed.store.append("Customer-1", [event], 0)
    assert keyed.store.read("Customer-1")[0].email == "ann@example.org"
    assert keyed.without_keys.read("Customer-1")[0].email == "(erased)"


def test_an_event_of_an_unknown_type_shows_what_is_sealed_as_sealed() -> None:
    keys = InMemorySubjectKeys()
    store = InMemoryEventStore(subject_keys=keys)

    class PrivacyGoneSoon(Event):
        who: Annotated[int, Subject]
        name: Annotated[str, Personal("")]

    store.append("Stream-1", [PrivacyGoneSoon(who=1, name="Ann")], 0)
    (record,) = store._engine._log
    store._engine._streams["Stream-1"][0] = record._replace(event_type="PrivacyUnknown")
    assert store.read("Stream-1")[0].data == {"who": 1, "name": "Ann"}
    store.subject_keys = None
    (found,) = store.read("Stream-1")
    assert found.data == {"who": 1, "name": Sealed("1")}
    assert found.sealed == ("name",)
    with pytest.raises(SerializationError, match="name"):
        store.append("Stream-2", [found], 0)
    with pytest.raises(SerializationError, match="sealed"):
        store.append("Stream-2", [Event(event_type="Copy", data=found.data)], 0)


def test_an_event_that_shows_placeholders_is_not_stored_again(keyed: Keyed) -> None:
    keyed.store.append("Customer-1", [registered(uuid4())], 0)
    (found,) = keyed.without_keys.read("Customer-1")
    with pytest.raises(SerializationError, match="email"):
        keyed.store.append("Customer-2", [found], 0)


def test_a_personal_dataclass_is_sealed_wherever_it_stands(keyed: Keyed) -> None:
    class PrivacyNoted(Event):
        who: Annotated[int, Subject]
        anything: list[Any]

    event = PrivacyNoted(who=1, anything=[{"at": PrivacyAddress("Long Lane 1", "NL")}])
    keyed.store.append("Note-1", [event], 0)
    assert keyed.store.read("Note-1") == [event]
    assert keyed.without_keys.read("Note-1")[0].sealed == ("anything[0].at.street",)
    with pytest.raises(SerializationError, match="whose"):
        keyed.store.append("Note-2", [Event(event_type="Any", data={"at": PrivacyAddress("x", "NL")})], 0)
    with pytest.raises(SerializationError, match=r"anything\[0\]"):
        keyed.store.append("Note-2", [PrivacyNoted(who=1, anything=[{FrozenPrivacyAddress("x")}])], 0)


@register_type
@dataclass(frozen=True)
class FrozenPrivacyAddress:
    street: Annotated[str, Personal("")]


def test_a_frozen_dataclass_and_an_event_of_a_frozen_class_are_sealed_as_well(keyed: Keyed) -> None:
    @dataclass(frozen=True)
    class PrivacyFrozen(Event):
        who: Annotated[int, Subject]
        at: FrozenPrivacyAddress
        name: Annotated[str, Personal("-")]

    event = PrivacyFrozen(who=1, at=FrozenPrivacyAddress("Long Lane 1"), name="Ann")
    keyed.store.append("Frozen-1", [event], 0)
    assert keyed.store.read("Frozen-1") == [event]
    assert event.at.street == "Long Lane 1"
    (found,) = keyed.without_keys.read("Frozen-1")
    assert (found.at, found.name) == (FrozenPrivacyAddress(""), "-")


class PrivacyTyped(Event):
    who: Annotated[str, Subject]
    address: Annotated[PrivacyAddress | None, Personal()]
    labels: Annotated[set[str], Personal(set())]
    sign: Annotated[Literal["x", "y"], Personal("y")]
    amount: Annotated[float, Personal(0)]


def test_a_value_of_any_type_can_be_personal(keyed: Keyed) -> None:
    event = PrivacyTyped(who="a", address=PrivacyAddress("Long Lane 1", "NL"), labels={"a"}, sign="x", amount=1.5)
    keyed.store.append("Typed-1", [event], 0)
    assert keyed.store.read("Typed-1") == [event]
    (found,) = keyed.without_keys.read("Typed-1")
    assert (found.address, found.labels, found.sign, found.amount) == (None, set(), "y", 0)
    found.labels.add("mine")
    assert keyed.without_keys.read("Typed-1")[0].labels == set()


def test_repr_shows_nothing_personal() -> None:
    shown = repr(registered(uuid4()))
    assert "ann@" not in shown
    assert "email=<personal>" in shown


class PrivacyRenamed(Event, revision=2):
    who: Annotated[int, Subject]
    first: Annotated[str, Personal("(first)")]
    last: Annotated[str, Personal("(last)")]


@upcasts(PrivacyRenamed, from_revision=1)
def _split(data: dict[str, Any]) -> dict[str, Any]:
    name = data.pop("name")
    first, last = (name, name) if isinstance(name, Sealed) else name.split(" ", 1)
    return {**data, "first": first, "last": last}


def test_upcasters_see_what_is_open_and_a_marker_for_what_is_not() -> None:
    keys = InMemorySubjectKeys()
    store = InMemoryEventStore(subject_keys=keys)

    class PrivacyOldName(Event):
        who: Annotated[int, Subject]
        name: Annotated[str, Personal("")]

    store.append("Renamed-1", [PrivacyOldName(who=1, name="Ann Smith")], 0)
    (record,) = store._engine._log
    store._engine._streams["Renamed-1"][0] = record._replace(event_type="PrivacyRenamed", revision=1)
    (found,) = store.read("Renamed-1")
    assert (found.first, found.last, found.sealed, found.revision) == ("Ann", "Smith", (), 1)
    store.forget(1)
    (found,) = store.read("Renamed-1")
    assert (found.first, found.last, found.sealed) == ("(first)", "(last)", ("first", "last"))


def test_a_sealed_value_in_a_field_without_a_placeholder_is_unreadable_and_says_why() -> None:
    store = InMemoryEventStore(subject_keys=InMemorySubjectKeys())

    class PrivacyMarked(Event):
        who: Annotated[int, Subject]
        name: Annotated[str, Personal("")]

    class PrivacyUnmarked(Event):
        who: int
        name: str

    store.append("Stream-1", [PrivacyMarked(who=1, name="Ann")], 0)
    (record,) = store._engine._log
    store._engine._streams["Stream-1"][0] = record._replace(event_type="PrivacyUnmarked")
    assert store.read("Stream-1") != []
    store.forget(1)
    with pytest.raises(DeserializationError, match="mark it with Personal"):
        store.read("Stream-1")


BAD_CLASSES: dict[str, tuple[dict[str, Any], str]] = {
    "no subject": ({"name": Annotated[str, Personal("")]}, "has no Subject"),
    "two subjects": (
        {"a": Annotated[int, Subject], "b": Annotated[int, Subject], "name": Annotated[str, Personal("")]},
        "a and b",
    ),
    "a placeholder that is None": ({"a": Annotated[int, Subject], "name": Annotated[str, Personal()]}, "allow"),
    "a placeholder of another type": ({"a": Annotated[int, Subject], "n": Annotated[int, Personal("")]}, "allow"),
    "a bool for an int": ({"a": Annotated[int, Subject], "n": Annotated[int, Personal(False)]}, "allow"),
    "another literal": ({"a": Annotated[int, Subject], "n": Annotated[Literal["x"], Personal("y")]}, "allow"),
    "no call": ({"a": Annotated[int, Subject], "name": Annotated[str, Personal]}, "placeholder"),
    "a part of the type": ({"a": Annotated[int, Subject], "n": Annotated[str, Personal("")] | None}, "whole type"),
    "a float as the subject": ({"a": Annotated[float, Subject]}, "UUID, str or int"),
    "of a field that is not there": ({"n": Annotated[str, Personal("", of="a")]}, "not a field"),
    "of a sealed field": (
        {"a": Annotated[int, Subject], "b": Annotated[str, Personal("")], "n": Annotated[str, Personal("", of="b")]},
        "sealed itself",
    ),
    "subject and personal": ({"a": Annotated[str, Subject, Personal("")]}, "at once"),
    "a name that is not defined": ({"a": "Annotated[Nowhere, Personal(None)]"}, "can't be evaluated"),
}


@pytest.mark.parametrize("bad", BAD_CLASSES)
def test_a_class_whose_marks_contradict_each_other_is_refused(bad: str) -> None:
    annotations, words = BAD_CLASSES[bad]
    with pytest.raises(InvalidArgument, match=words):
        cls: Any = type("PrivacyBad", (Event,), {"__annotations__": annotations, "__module__": __name__})
        InMemoryEventStore(subject_keys=InMemorySubjectKeys()).append("S-1", [cls(**dict.fromkeys(annotations, 1))], 0)


@pytest.mark.parametrize("subject", [None, "", 1.5, True, b"x", "a\0b", "x" * 201, "\ud800", object()])
def test_what_can_not_be_a_subject_is_refused_before_anything_is_stored(keyed: Keyed, subject: Any) -> None:
    with pytest.raises(InvalidArgument):
        keyed.store.forget(subject)
    event = PrivacyMessageSent(sender_id=1, recipient_id=subject, text="", recipient="Bob")
    with pytest.raises((InvalidArgument, SerializationError)):
        keyed.store.append("Chat-1", [event], ExpectedVersion.ANY)
    assert list(keyed.store.read_all()) == []


def test_a_reason_is_a_text(keyed: Keyed) -> None:
    with pytest.raises(InvalidArgument, match="reason"):
        keyed.store.forget(1, reason=7)
    assert list(keyed.store.read_all()) == []


def test_metadata_is_marked_by_keys_and_marks() -> None:
    for marked in ({"ip": None}, {1: Personal()}, ["ip"]):
        with pytest.raises(InvalidArgument, match="personal_metadata"):
            type("PrivacyBad", (Event,), {}, personal_metadata=marked)
    with pytest.raises(InvalidArgument, match="no subject"):
        type("PrivacyBad", (Event,), {}, personal_metadata={"ip": Personal()})


def test_an_append_that_is_repeated_is_the_same_success(keyed: Keyed) -> None:
    events = [registered(uuid4())]
    assert keyed.store.append("Customer-1", events, 0) == 1
    again = keyed.store.append("Customer-1", events, 0)
    assert (again, again.repeated) == (1, True)


def test_the_page_on_the_format_gives_the_bytes_as_they_are() -> None:
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text("utf-8").partition("## Sealed values")[2]
    data, associated = (
        bytes.fromhex(part) for part in re.findall(r"^    (?:\w| )+= ([0-9a-f ]+)$", page, re.MULTILINE)[:2]
    )
    event_id = UUID("018cc251-f400-7000-8000-000000000001")
    subject = "12345678-1234-5678-1234-567812345678"
    keys = {subject: Cipher(subject, bytes(range(32)))}
    assert subjects_in(data) == {subject}
    found = opened(data, event_id.bytes, "data", keys)
    assert (decode(found.packed), found.subjects) == ({"email": "ann@example.org"}, {subject})
    assert associated_data(event_id.bytes, ("data", "email")) == associated


def test_a_batch_to_several_streams_can_hold_personal_data(keyed: Keyed) -> None:
    ann, bob = uuid4(), uuid4()
    batch = [("Customer-1", [registered(ann)], 0), ("Customer-2", [registered(bob)], 0)]
    assert keyed.store.append_many(batch) == {"Customer-1": 1, "Customer-2": 1}
    keyed.store.forget(ann)
    assert [keyed.store.read(stream)[0].sealed == () for stream, _, _ in batch] == [False, True]
    with pytest.raises(ForgottenSubject):
        keyed.store.append_many([("Customer-2", [registered(bob)], 1), ("Customer-1", [registered(ann)], 1)])
    assert len(keyed.store.read("Customer-2")) == 1


def test_personal_metadata_of_the_block_around_an_append_is_sealed_as_well(keyed: Keyed) -> None:
    event = registered(uuid4(), metadata={})
    with causing(ip="192.0.2.9", job="import"):
        keyed.store.append("Customer-1", [event], 0)
    assert keyed.store.read("Customer-1")[0].metadata == {"ip": "192.0.2.9", "job": "import"}
    assert keyed.without_keys.read("Customer-1")[0].metadata == {"ip": "0.0.0.0", "job": "import"}  # noqa: S104


@pytest.mark.parametrize("keyed", ["postgres"], indirect=True)
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_an_old_snapshot_can_not_record_a_subject_that_was_forgotten_meanwhile(
    keyed: Keyed, dsn: str, level: str
) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel[level]
        connection.execute("SELECT 1")
        keyed.without_keys.append(f"eventstore.subjects-{customer}", [SubjectForgotten(subject=str(customer))], 0)
        bound = keyed.store.bind(connection)
        with pytest.raises(InvalidOperation, match="in READ COMMITTED transactions only"):
            bound.append("Customer-1", [registered(customer)], 1)
        connection.rollback()
    assert len(keyed.store.read("Customer-1")) == 1


def test_only_the_stream_of_a_subject_can_say_that_it_is_forgotten(keyed: Keyed) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    forged = Event(event_type="eventstore.SubjectForgotten", data={"subject": str(customer)})
    for stream_id, event in (
        ("Any-1", forged),
        ("eventstore.subjects-other", forged),
        (f"eventstore.subjects-{customer}", Event(event_type="T")),
    ):
        with pytest.raises(InvalidArgument, match=r"holds the eventstore\.SubjectForgotten of"):
            keyed.store.append(stream_id, [event], ExpectedVersion.ANY)
        with pytest.raises(InvalidArgument, match=r"holds the eventstore\.SubjectForgotten of"):
            keyed.without_keys.append_many([(stream_id, [event], ExpectedVersion.ANY)])
    assert not keyed.store.read("Customer-1")[0].sealed


@pytest.mark.parametrize("keyed", ["postgres"], indirect=True)
def test_whoever_writes_past_the_library_destroys_no_key(keyed: Keyed) -> None:
    customer = uuid4()
    keyed.store.append("Customer-1", [registered(customer)], 0)
    keyed.store.append("Any-1", [Event(event_type="T", data={"subject": str(customer)})], 0)
    schema = keyed.store.statements.schema
    with keyed.store.connections.pool().connection() as connection:
        connection.execute(f"ALTER TABLE {schema}.events DISABLE TRIGGER append_only".encode())
        connection.execute(
            f"UPDATE {schema}.events SET event_type = 'eventstore.SubjectForgotten' WHERE stream_id = 'Any-1'".encode()
        )
    assert len(list(keyed.store.read_all())) == 2
    assert keyed.keys.get(str(customer)) is not None


def test_an_inline_projection_handles_a_forgetting_in_its_transaction(keyed: Keyed) -> None:
    customer = uuid4()
    seen: list[str] = []

    def note(event: Event, transaction: Any) -> None:  # noqa: ARG001 a handler's
        seen.append(event.event_type)

    async def note_async(event: Event, transaction: Any) -> None:
        note(event, transaction)

    store = keyed.front.inline(note_async if isinstance(keyed, AsyncKeyed) else note)
    store.append("Customer-1", [registered(customer)], 0)
    store.forget(customer)
    store.forget(customer)
    with store.transaction() as transaction:
        transaction.forget("somebody else")
    assert seen == ["PrivacyRegistered", "eventstore.SubjectForgotten", "eventstore.SubjectForgotten"]
    assert keyed.store.read("Customer-1")[0].sealed
