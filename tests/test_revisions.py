"""Revisions, upcasters and former names: which chains are refused, and how what older classes stored is read."""

from __future__ import annotations

import dataclasses
import enum
import types
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from eventstore import (
    Aggregate,
    DeserializationError,
    DuplicateType,
    Event,
    InMemoryEventStore,
    InvalidArgument,
    NewerRevision,
    Repository,
    RevisionError,
    SerializationError,
    UnknownEventType,
    handles,
    register_type,
    upcasts,
)
from eventstore.codec import Unregistered, decode, encode
from eventstore.codec import registry as types_module
from eventstore.codec.record import Record
from eventstore.core.records import decode_events, encode_events
from eventstore.event_types import event_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventstore import EventStore

numbers = iter(range(1, 1_000_000))


def defined(revision: int = 1, name: str | None = None, **options: Any) -> type[Event]:
    """A class of events with one field, of a name of its own."""
    name = name or f"Revised{next(numbers)}"
    body = {"__annotations__": {"value": Any}, "__module__": __name__, "__qualname__": name}
    return types.new_class(name, (Event,), {"revision": revision, **options}, lambda namespace: namespace.update(body))


def add_upcasters(cls: type[Any], *steps: int) -> None:
    for step in steps:

        def upcaster(data: dict[str, Any], step: int = step) -> dict[str, Any]:
            return {"value": [*data["value"], step]}

        upcasts(cls, from_revision=step)(upcaster)


def stored(event: Event, **changes: Any) -> Record:
    new = [values for (values,) in encode_events([event])]
    return Record("stream-1", 7, 10, *new)._replace(**changes)


def read(event_type: str, data: dict[str, Any], revision: int = 1) -> Event:
    """What a program makes of data that one with another class has stored."""
    record = stored(Event(event_type="revisions.Elsewhere", data=data), event_type=event_type, revision=revision)
    (found,) = decode_events([record], strict=True)
    return found


# --- what a class says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [0, -1, 32_768, 1.0, "2", True, None])
def test_a_revision_is_an_int_from_1_to_32767(revision: Any) -> None:
    with pytest.raises(InvalidArgument, match="revision must be"):
        defined(revision)
    with pytest.raises(InvalidArgument, match="revision must be"):
        register_type(dataclasses.make_dataclass("RevisionsOdd", []), revision=revision)


@pytest.mark.parametrize("revision", [0, 32_768, 1.0, "2", True])
def test_a_plain_event_of_no_possible_revision_is_refused(revision: Any) -> None:
    with pytest.raises(InvalidArgument, match="revision must be"):
        Event(event_type="T", revision=revision)


@pytest.mark.parametrize("formerly", ["OldName", b"OldName", 7, [7], [""], ["a\0b"], [None], ["x" * 256], None])
def test_former_names_are_a_list_of_names(formerly: Any) -> None:
    with pytest.raises(InvalidArgument, match="formerly"):
        defined(formerly=formerly)
    with pytest.raises(InvalidArgument, match="formerly"):
        register_type(dataclasses.make_dataclass("RevisionsOdd", []), formerly=formerly)


def test_a_name_can_t_be_present_and_former() -> None:
    with pytest.raises(InvalidArgument, match="'RevisionsTwice' is its name now"):
        defined(name="RevisionsTwice", formerly=["RevisionsTwice"])


@pytest.mark.parametrize("first", ["present", "former"])
def test_two_classes_can_t_claim_one_name_whichever_is_defined_first(first: str) -> None:
    one, other = f"RevisionsClaim{next(numbers)}", f"RevisionsClaim{next(numbers)}"
    if first == "present":
        defined(name=one)
        refused: Callable[[], object] = lambda: defined(name=other, formerly=[one])  # noqa: E731
    else:
        defined(name=other, formerly=[one])
        refused = lambda: defined(name=one)  # noqa: E731
    with pytest.raises(DuplicateType, match=f"the name '{one}' already belongs to test_revisions") as caught:
        refused()
    assert caught.value.name == one
    assert {caught.value.first.__name__, caught.value.second.__name__} == {one, other}


def test_two_classes_can_t_swap_their_names() -> None:
    defined(name="RevisionsLeft", formerly=["RevisionsRight"])
    with pytest.raises(DuplicateType):
        defined(name="RevisionsRight", formerly=["RevisionsLeft"])


def test_a_class_that_is_defined_again_gives_up_the_former_names_that_it_has_no_more() -> None:
    defined(name="RevisionsReloaded", formerly=["RevisionsMistyped"])
    again = defined(name="RevisionsReloaded", formerly=["RevisionsOld"])
    assert event_class("RevisionsMistyped") is None
    assert event_class("RevisionsOld") is event_class("RevisionsReloaded") is again


def test_an_enum_has_no_revisions_and_a_dataclass_no_members() -> None:
    colour = enum.Enum("RevisionsColour", "RED")
    access = enum.Flag("RevisionsAccess", "READ")
    with pytest.raises(InvalidArgument, match="an Enum, which has no revisions"):
        register_type(colour, revision=2)
    with pytest.raises(InvalidArgument, match="map former names by"):
        upcasts(colour, from_revision=1)
    with pytest.raises(InvalidArgument, match="not an Enum"):
        register_type(dataclasses.make_dataclass("RevisionsOdd", []), members={"A": "B"})
    with pytest.raises(InvalidArgument, match="a Flag, whose values are stored"):
        register_type(access, members={"A": "READ"})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ROT": "BLUE"}, "'BLUE', which is not a member: its members are RED, GREEN"),
        ({"RED": "GREEN"}, "'RED' is a member now"),
        ({"ROT": "RED", "RED": "GREEN"}, "'RED' is a member now"),
        ({"A": "B", "B": "A"}, "'B', which is not a member"),
        ({"": "RED"}, "must not be empty"),
        ({7: "RED"}, "must be a str"),
        ({"ROT": 7}, "7, which is not a member"),
        (["ROT"], "members must be a mapping"),
        ("ROT", "members must be a mapping"),
    ],
)
def test_former_members_lead_to_present_ones(members: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        register_type(enum.Enum("RevisionsColour", "RED GREEN"), members=members)


# --- which chains are refused -----------------------------------------------------------------------------------------


def test_a_gap_is_found_before_an_event_of_any_revision_is_read_or_written() -> None:
    cls = defined(revision=4)
    add_upcasters(cls, 1, 3)
    for use in (lambda: encode_events([cls(value=1)]), lambda: read(cls.event_type, {"value": []}, revision=4)):
        with pytest.raises(RevisionError, match="no upcaster from revision 2 to 3") as caught:
            use()
        assert (caught.value.cls, caught.value.module, caught.value.step) == (cls, __name__, 2)
        assert f"{__name__}.{cls.__name__}" in str(caught.value)
    add_upcasters(cls, 2)
    assert read(cls.event_type, {"value": []}).data == {"value": [1, 2, 3]}


def test_an_upcaster_from_a_revision_that_the_class_does_not_have_yet_is_refused() -> None:
    cls = defined(revision=2)
    add_upcasters(cls, 1, 2)
    with pytest.raises(RevisionError, match="but the class is at revision 2: give the class revision=3") as caught:
        read(cls.event_type, {"value": []})
    assert caught.value.step == 2


def test_an_upcaster_that_comes_after_the_first_use_is_checked_as_well() -> None:
    cls = defined()
    encode_events([cls(value=1)])
    with pytest.raises(RevisionError, match="at revision 1"):
        add_upcasters(cls, 1)


def test_two_upcasters_for_one_step_are_refused_with_their_places() -> None:
    cls = defined(revision=2)

    @upcasts(cls, from_revision=1)
    def _(data: dict[str, Any]) -> dict[str, Any]:
        return data

    with pytest.raises(
        RevisionError, match=r"two upcasters .* in test_revisions, line \d+ and in test_revisions, line"
    ):

        @upcasts(cls, from_revision=1)
        def _(data: dict[str, Any]) -> dict[str, Any]:
            return data


def test_the_same_upcaster_may_be_declared_again() -> None:
    cls = defined(revision=2)
    add_upcasters(cls, 1)
    add_upcasters(cls, 1)
    assert read(cls.event_type, {"value": []}).data == {"value": [1]}


def test_a_nested_type_s_chain_is_checked_before_the_event_is_written() -> None:
    @register_type(revision=2)
    @dataclass
    class RevisionsNestedGap:
        value: int

    cls = defined()
    with pytest.raises(RevisionError, match="RevisionsNestedGap: there is no upcaster from revision 1"):
        encode_events([cls(value=[RevisionsNestedGap(1)])])


@pytest.mark.parametrize("step", [0, -1, 1.0, "1", True, None, 32_767])
def test_a_step_is_a_revision(step: Any) -> None:
    with pytest.raises(InvalidArgument, match="from_revision must be"):
        upcasts(defined(), from_revision=step)


async def a_coroutine(data: dict[str, Any]) -> dict[str, Any]:
    return data


@pytest.mark.parametrize("function", [a_coroutine, None, 7, "name"])
def test_an_upcaster_is_a_plain_function(function: Any) -> None:
    with pytest.raises(InvalidArgument, match="plain function"):
        upcasts(defined(revision=2), from_revision=1)(function)


@pytest.mark.parametrize("cls", [int, Event, Aggregate, None, "Name"])
def test_only_events_and_dataclasses_have_upcasters(cls: Any) -> None:
    with pytest.raises(InvalidArgument, match="a class of events or a registered dataclass"):
        upcasts(cls, from_revision=1)


# --- upcasters that fail ----------------------------------------------------------------------------------------------


def nothing(_: dict[str, Any]) -> Any:
    return None


@pytest.mark.parametrize(
    ("upcaster", "message", "cause"),
    [
        (lambda data: data["missing"], "raised KeyError: 'missing'", KeyError),
        (nothing, "returned NoneType, not a dict", None),
        (list, "returned list, not a dict", None),
        (lambda _: {7: 1}, "keys that are not the names of fields", None),
        (lambda _: {"other": 1}, "without the field 'value'", None),
    ],
)
def test_an_upcaster_that_raises_or_returns_nonsense_is_a_deserialization_error(
    upcaster: Any, message: str, cause: type[Exception] | None
) -> None:
    cls = defined(revision=3)
    upcasts(cls, from_revision=1)(lambda data: data)
    upcasts(cls, from_revision=2)(upcaster)
    with pytest.raises(DeserializationError, match=message) as caught:
        read(cls.event_type, {"value": 1})
    error = caught.value
    assert (error.stream_id, error.version, error.revision) == ("stream-1", 7, 1)
    for part in (cls.event_type, "version 7", "stream 'stream-1'"):
        assert part in str(error)
    if cause is not None:
        assert isinstance(error.__cause__, cause)


def test_an_upcaster_of_a_nested_type_that_raises_is_the_cause_of_the_event_s_error() -> None:
    @register_type(revision=2)
    @dataclass
    class RevisionsNestedFails:
        value: int

    @upcasts(RevisionsNestedFails, from_revision=1)
    def _(data: dict[str, Any]) -> dict[str, Any]:
        return {"value": int(data["value"])}

    cls = defined()
    record = stored(cls(value=RevisionsNestedFails(1)), data=older_bytes("RevisionsNestedFails", {"value": "x"}))
    with pytest.raises(DeserializationError, match=r"upcaster of .*RevisionsNestedFails from revision 1") as caught:
        decode_events([record], strict=True)
    assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.stream_id, caught.value.version, caught.value.revision) == ("stream-1", 7, 1)


def older_bytes(name: str, fields: dict[str, Any]) -> bytes:
    """The data of an event whose field ``value`` a dataclass at revision 1 has stored under a name."""
    made = dataclasses.make_dataclass("RevisionsWritten", fields)
    before, types_module._names = types_module._names, {made: types_module._Registration(name, (), {})}
    classes, types_module._classes = types_module._classes, {name: made}
    try:
        return encode("data", {"value": made(**fields)})
    finally:
        types_module._names, types_module._classes = before, classes


# --- what is read -----------------------------------------------------------------------------------------------------


@register_type(name="revisions.Money", revision=3, formerly=["revisions.Amount"])
@dataclass(frozen=True)
class RevisionsMoney:
    cents: int
    currency: str


@upcasts(RevisionsMoney, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": Decimal(data["amount"])}


@upcasts(RevisionsMoney, from_revision=2)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"cents": int(data["amount"] * 100), "currency": "EUR"}


@register_type(formerly=["RevisionsHue"], members={"ROT": "RED", "ROUGE": "RED"})
class RevisionsPaint(enum.Enum):
    RED = 1
    BLUE = 2


class RevisionsPaid(Event, revision=2):
    money: RevisionsMoney
    paint: RevisionsPaint = RevisionsPaint.BLUE


@upcasts(RevisionsPaid, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(data["value"], RevisionsMoney | Unregistered)
    return {"money": data["value"] if isinstance(data["value"], RevisionsMoney) else RevisionsMoney(1, "gone")}


def as_paid(data: bytes, revision: int) -> Event:
    record = stored(Event(event_type="revisions.Elsewhere"), event_type="RevisionsPaid", data=data, revision=revision)
    (found,) = decode_events([record], strict=True)
    return found


def test_a_nested_value_keeps_its_revision_and_costs_nothing_at_revision_1() -> None:
    packed = encode("data", {"value": RevisionsMoney(250, "EUR")})
    assert decode(packed) == {"value": RevisionsMoney(250, "EUR")}
    assert packed.endswith(b"\xa3EUR\x03")
    first = older_bytes("revisions.Money", {"amount": "2.5"})
    assert first.endswith(b"\xa32.5")
    assert decode(first) == {"value": RevisionsMoney(250, "EUR")}


@pytest.mark.parametrize("name", ["revisions.Money", "revisions.Amount"])
def test_an_event_s_upcaster_sees_nested_values_as_they_are_now(name: str) -> None:
    found = as_paid(older_bytes(name, {"amount": "2.5"}), revision=1)
    assert found.data == {"money": RevisionsMoney(250, "EUR"), "paint": RevisionsPaint.BLUE}


def test_an_event_s_upcaster_sees_a_value_whose_class_is_gone_as_unregistered() -> None:
    found = as_paid(older_bytes("revisions.Gone", {"amount": "2.5"}), revision=1)
    assert found.data["money"] == RevisionsMoney(1, "gone")


def test_a_field_that_is_gone_may_have_held_a_type_that_is_gone() -> None:
    cls = defined()
    data = older_bytes("revisions.Gone", {"amount": "2.5"}).replace(b"value", b"other")
    (found,) = decode_events(
        [stored(cls(value=1), data=b"\x82" + data[1:] + encode("data", {"value": 1})[1:])], strict=True
    )
    assert found.data == {"value": 1}


def test_a_type_that_is_gone_where_it_is_needed_is_an_error_that_names_it() -> None:
    cls = defined()
    record = stored(cls(value=1), data=older_bytes("revisions.Gone", {"amount": "2.5"}))
    with pytest.raises(DeserializationError, match=r"no dataclass is registered as 'revisions.Gone'"):
        decode_events([record], strict=True)


@pytest.mark.parametrize("stored_as", ["RevisionsPaint", "RevisionsHue"])
@pytest.mark.parametrize(("member", "expected"), [("ROT", "RED"), ("ROUGE", "RED"), ("RED", "RED"), ("BLUE", "BLUE")])
def test_a_renamed_enum_and_its_renamed_members_are_read(stored_as: str, member: str, expected: str) -> None:
    written = enum.Enum("RevisionsWrittenPaint", [member])
    before, types_module._names = types_module._names, {written: types_module._Registration(stored_as, (), {})}
    classes, types_module._classes = types_module._classes, {stored_as: written}
    try:
        packed = encode("data", {"value": written[member]})
    finally:
        types_module._names, types_module._classes = before, classes
    assert decode(packed) == {"value": RevisionsPaint[expected]}


def test_what_is_written_has_the_present_names_only() -> None:
    packed = encode("data", {"value": RevisionsPaint.RED, "money": RevisionsMoney(1, "EUR")})
    assert b"RevisionsPaint" in packed
    assert b"revisions.Money" in packed


def test_upcasters_may_change_what_they_are_given() -> None:
    cls = defined(revision=2)

    @upcasts(cls, from_revision=1)
    def _(data: dict[str, Any]) -> dict[str, Any]:
        data["value"].append("changed")
        return data

    record = stored(Event(event_type="revisions.Elsewhere", data={"value": []}), event_type=cls.event_type)
    for _attempt in range(2):
        (found,) = decode_events([record], strict=True)
        assert found.data == {"value": ["changed"]}


def test_an_event_that_was_not_stored_has_the_revision_of_its_class() -> None:
    cls = defined(revision=3)
    assert (cls.revision, cls(value=1).revision) == (3, 3)
    assert Event(event_type="T").revision == 1
    assert Event(event_type=cls.event_type, data={"value": 1}).revision == 3
    assert Event(event_type=cls.event_type, data={"value": 1}, revision=2).revision == 2


def test_a_class_below_another_one_has_a_revision_and_names_of_its_own() -> None:
    base = defined(revision=2, formerly=["RevisionsBaseOld"])
    below = types.new_class("RevisionsBelow", (base,))
    assert below.revision == 1
    assert event_class("RevisionsBaseOld") is base


# --- newer than this program ------------------------------------------------------------------------------------------


def test_an_event_of_a_newer_revision_is_an_error_of_its_own() -> None:
    cls = defined(revision=2)
    add_upcasters(cls, 1)
    with pytest.raises(NewerRevision, match="older than the program that wrote the event") as caught:
        read(cls.event_type, {"value": 1}, revision=3)
    error = caught.value
    assert (error.name, error.stored, error.known) == (cls.event_type, 3, 2)
    assert (error.stream_id, error.version, error.revision) == ("stream-1", 7, 3)


def test_a_nested_value_of_a_newer_revision_is_the_same_error() -> None:
    packed = encode("data", {"value": RevisionsMoney(1, "EUR")}).replace(b"EUR\x03", b"EUR\x04")
    cls = defined()
    with pytest.raises(NewerRevision, match=r"revision 4 of 'revisions.Money'") as caught:
        decode_events([stored(cls(value=1), data=packed)], strict=True)
    assert (caught.value.name, caught.value.stored, caught.value.known) == ("revisions.Money", 4, 3)
    assert (caught.value.stream_id, caught.value.version, caught.value.revision) == ("stream-1", 7, 1)
    plain = stored(Event(event_type="revisions.Elsewhere"), data=packed)
    assert decode_events([plain], strict=False)[0].data == {
        "value": Unregistered("revisions.Money", {"cents": 1, "currency": "EUR"})
    }


@pytest.mark.parametrize("damage", [b"\x00", b"\xff", b"\xc0", b"\xc3", b"\xcb"])
def test_a_damaged_revision_of_a_nested_value_is_a_typed_error(damage: bytes) -> None:
    packed = encode("data", {"value": RevisionsMoney(1, "EUR")})
    with pytest.raises(DeserializationError):
        decode(packed[:-1] + damage)


def test_a_plain_event_of_a_revision_that_the_class_can_t_read_is_refused() -> None:
    cls = defined(revision=2)
    upcasts(cls, from_revision=1)(lambda data: {"value": data["other"]})
    with pytest.raises(SerializationError, match="it is of revision 3"):
        encode_events([Event(event_type=cls.event_type, data={"value": 1}, revision=3)])
    with pytest.raises(SerializationError, match="raised KeyError: 'other'"):
        encode_events([Event(event_type=cls.event_type, data={"value": 1}, revision=1)])
    event = Event(event_type=cls.event_type, data={"other": [1]}, revision=1)
    assert stored(event).revision == 1
    assert event.data == {"other": [1]}


# --- aggregates -------------------------------------------------------------------------------------------------------


class RevisionsCounted(Event):
    n: int


class RevisionsCart(Aggregate["RevisionsCart"]):
    ignored = ("revisions.CartAbandoned",)
    total: int = 0

    @handles(RevisionsCounted)
    def _counted(self, event: RevisionsCounted) -> None:
        self.total += event.n


class RevisionsOwnApply(Aggregate["RevisionsOwnApply"]):
    ignored = ["revisions.CartAbandoned"]  # noqa: RUF012 as users write it
    seen: int = 0

    def apply(self, event: Event) -> None:
        assert isinstance(event, RevisionsCounted)
        self.seen += event.n


@pytest.fixture(params=["lenient", "strict"])
def with_abandoned(request: pytest.FixtureRequest) -> EventStore:
    store = InMemoryEventStore(strict=request.param == "strict")
    for category in ("RevisionsCart", "RevisionsOwnApply"):
        abandoned = Event(event_type="revisions.CartAbandoned")
        store.append(f"{category}-1", [RevisionsCounted(n=1), abandoned, RevisionsCounted(n=2)], 0)
    return store


def test_an_aggregate_passes_over_the_types_that_it_ignores(with_abandoned: EventStore) -> None:
    cart = Repository(with_abandoned, RevisionsCart).load("1")
    assert (cart.total, cart.version) == (3, 3)
    own = Repository(with_abandoned, RevisionsOwnApply).load("1")
    assert (own.seen, own.version) == (3, 3)


def test_an_aggregate_that_does_not_ignore_a_type_still_refuses_it() -> None:
    store = InMemoryEventStore()
    store.append("RevisionsCart-1", [Event(event_type="revisions.Unheard")], 0)
    with pytest.raises(UnknownEventType, match="name the type in `ignored`"):
        Repository(store, RevisionsCart).load("1")


def test_snapshots_of_before_a_type_was_ignored_are_not_used() -> None:
    def define(ignored: list[str]) -> type[Aggregate[Any]]:
        return type("RevisionsIgnoring", (Aggregate,), {"ignored": ignored})

    assert define(["A"]).class_schema() == define(["A"]).class_schema() != define(["A", "B"]).class_schema()
    assert define([]).class_schema() != define(["A"]).class_schema()


@pytest.mark.parametrize("ignored", ["Name", 7, [7], [""], None])
def test_what_is_ignored_is_a_list_of_names(ignored: Any) -> None:
    with pytest.raises(InvalidArgument, match="ignored"):
        type("RevisionsIgnores", (Aggregate,), {"ignored": ignored})
