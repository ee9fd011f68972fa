"""Events: what a class of them may look like, what is refused, and what comes back of what an older one stored."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import pydoc
import re
import sys
import time
import types
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_type_hints
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from eventstore import (
    ConcurrencyError,
    DeserializationError,
    DuplicateType,
    Event,
    EventAlreadyStored,
    EventStoreError,
    InMemoryEventStore,
    InvalidArgument,
    SerializationError,
    SubscriptionBehind,
    UnknownEventType,
    register_type,
)
from eventstore.codec import Unregistered
from eventstore.codec import registry as types_module
from eventstore.codec.record import Record
from eventstore.core.records import decode_events, encode_events
from eventstore.event import ENVELOPE, new_event_id
from eventstore.event_types import event_class

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class EventsOrderCreated(Event):  # The form of DESIGN.md: decorated, a default before a non-default.
    event_type: str = "events.OrderCreated"
    customer_id: UUID
    items: list[dict]


class EventsOrderShipped(Event):  # The short form.
    tracking_number: str


class EventsFull(Event):
    """One of each kind of field."""

    required: int
    plain: str = "plain"
    made: list[int] = field(default_factory=list)
    secret: str = field(default="hidden", repr=False)
    shared: ClassVar[int] = 7


@dataclass(frozen=True)
class EventsFrozen(Event):
    amount: int


@dataclass(frozen=True)
class EventsFrozenBelow(EventsFrozen):
    currency: str = "EUR"


@register_type
class EventsColour(Enum):
    RED = 1


@register_type
@dataclass
class EventsPlace:
    x: int


class EventsShippedAbroad(EventsOrderShipped):
    country: str = "PT"


CUSTOMER = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def stored(event: Event, **changes: Any) -> Record:
    """What a store would keep of an event."""
    new = [values for (values,) in encode_events([event])]
    return Record("stream-1", 1, 10, *new)._replace(**changes)


def read_back(event: Event, **changes: Any) -> Event:
    return decode_events([stored(event, **changes)], strict=False)[0]


# --- the two forms ----------------------------------------------------------------------------------------------------


def test_a_decorated_class_may_have_a_default_before_a_non_default() -> None:
    event = EventsOrderCreated(customer_id=CUSTOMER, items=[{"sku": "a"}])
    assert (event.customer_id, event.items, event.event_type) == (CUSTOMER, [{"sku": "a"}], "events.OrderCreated")
    assert dataclasses.is_dataclass(event)


def test_the_short_form_needs_no_decorator_and_is_named_after_its_class() -> None:
    event = EventsOrderShipped(tracking_number="1Z")
    assert (event.tracking_number, event.event_type) == ("1Z", "EventsOrderShipped")
    assert dataclasses.is_dataclass(event)


FORMS = """
from dataclasses import dataclass, field, KW_ONLY
from typing import ClassVar
from uuid import UUID
from eventstore import Event

@dataclass
class Created(Event):
    event_type: str = "{name}.Created"
    customer_id: UUID
    items: list[dict]

class Shipped(Event):
    event_type: str = "{name}.Shipped"
    shared: ClassVar[int] = 7
    tracking_number: str
    notes: list[str] = field(default_factory=list)

@dataclass
class Explicit(Event):
    event_type: str = "{name}.Explicit"
    _: KW_ONLY
    first: int = 1
    second: int
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["evaluated", "postponed"])
def test_both_forms_work_with_annotations_evaluated_or_not(future: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(f"forms_{bool(future)}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = future + FORMS.format(name=module.__name__)
    exec(compile(source, module.__name__, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 it is ours
    assert isinstance(module.Created.__annotations__["items"], str) == bool(future)
    created = module.Created(customer_id=CUSTOMER, items=[])
    assert created.data == {"customer_id": CUSTOMER, "items": []}
    assert read_back(created) == created
    shipped = module.Shipped(tracking_number="1Z")
    assert shipped.data == {"tracking_number": "1Z", "notes": []}
    assert read_back(shipped) == shipped
    assert module.Explicit(second=2).data == {"first": 1, "second": 2}


def test_every_event_has_an_envelope_of_its_own() -> None:
    before = datetime.now(UTC)
    one, other = EventsOrderShipped(tracking_number="1Z"), EventsOrderShipped(tracking_number="1Z")
    assert one.event_id != other.event_id
    assert before <= one.timestamp <= datetime.now(UTC)
    assert one.timestamp.tzinfo is UTC
    assert one.metadata == {}
    assert one.metadata is not other.metadata
    assert (one.stream_id, one.version, one.position) == ("", 0, 0)


def test_an_envelope_can_be_given() -> None:
    event_id, metadata = uuid4(), {"user": "ann"}
    event = EventsOrderShipped(tracking_number="1Z", event_id=event_id, timestamp=NOON, metadata=metadata)
    assert (event.event_id, event.timestamp, event.metadata) == (event_id, NOON, metadata)


def test_data_shows_the_fields_of_its_class_only() -> None:
    assert EventsFull(required=1).data == {"required": 1, "plain": "plain", "made": [], "secret": "hidden"}


def test_a_plain_event_works_without_a_class() -> None:
    event = Event(event_type="events.Plain", data={"a": 1}, metadata={"b": 2})
    assert (event.event_type, event.data, event.metadata) == ("events.Plain", {"a": 1}, {"b": 2})
    assert Event(event_type="events.Plain").data == {}


# --- as dataclasses ---------------------------------------------------------------------------------------------------


def test_a_default_factory_makes_a_new_value_for_each_event() -> None:
    one, other = EventsFull(required=1), EventsFull(required=1)
    one.made.append(3)
    assert other.made == []


def test_a_class_inherits_the_fields_of_the_class_above_but_not_its_name() -> None:
    event = EventsShippedAbroad(tracking_number="1Z")
    assert event.data == {"tracking_number": "1Z", "country": "PT"}
    assert event.event_type == "EventsShippedAbroad"
    assert isinstance(read_back(event), EventsShippedAbroad)


def test_a_field_without_a_default_may_follow_an_inherited_one_with_a_default() -> None:
    class EventsLaterField(EventsShippedAbroad):
        reason: str

    assert EventsLaterField(tracking_number="1Z", reason="why").data["reason"] == "why"


def test_a_mixin_that_is_a_dataclass_brings_its_fields() -> None:
    @dataclass
    class WithTenant:
        tenant: str

    class EventsOfTenant(WithTenant, Event):
        amount: int

    event = EventsOfTenant(tenant="t", amount=1)
    assert event.data == {"tenant": "t", "amount": 1}
    assert read_back(event) == event


def test_a_frozen_event_can_not_be_changed_before_or_after_it_was_read() -> None:
    for event in (EventsFrozen(amount=1), read_back(EventsFrozen(amount=1))):
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.amount = 2  # type: ignore[misc, attr-defined]
        assert event.data == {"amount": 1}


def test_a_frozen_event_can_be_inherited_from() -> None:
    event = EventsFrozenBelow(amount=1)
    assert event.data == {"amount": 1, "currency": "EUR"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.currency = "USD"  # type: ignore[misc]

    class EventsFrozenShort(EventsFrozen):
        note: str = ""

    assert EventsFrozenShort(amount=1).data == {"amount": 1, "note": ""}


def test_post_init_runs_when_an_event_is_made_and_not_when_history_is_read() -> None:
    calls: list[int] = []

    class EventsChecked(Event):
        amount: int

        def __post_init__(self) -> None:
            calls.append(self.amount)
            if self.amount < 0:
                raise ValueError("below zero")

    assert read_back(EventsChecked(amount=1)).data == {"amount": 1}
    assert calls == [1]
    with pytest.raises(ValueError, match="below zero"):
        EventsChecked(amount=-1)


def test_properties_and_methods_of_a_class_stay() -> None:
    class EventsPriced(Event):
        net: int
        tax: int

        @property
        def gross(self) -> int:
            return self.net + self.tax

    event = read_back(EventsPriced(net=100, tax=23))
    assert isinstance(event, EventsPriced)
    assert event.gross == 123


def test_replace_gives_another_event_with_other_values() -> None:
    for event in (EventsOrderShipped(tracking_number="1Z"), EventsFrozen(amount=1)):
        name = next(iter(event.data))
        other = dataclasses.replace(event, **{name: "other"})
        assert other.data == {name: "other"}
        assert type(other) is type(event)
        assert other.event_id != event.event_id
    created = EventsOrderCreated(customer_id=CUSTOMER, items=[])
    assert dataclasses.replace(created, items=[{}]).data == {"customer_id": CUSTOMER, "items": [{}]}


def test_fields_and_asdict_see_the_fields() -> None:
    assert [f.name for f in dataclasses.fields(EventsFull)] == ["required", "plain", "made", "secret"]
    assert dataclasses.asdict(EventsFull(required=1)) == EventsFull(required=1).data
    assert dataclasses.asdict(EventsOrderCreated(customer_id=CUSTOMER, items=[])) == {
        "event_type": "events.OrderCreated",
        "customer_id": CUSTOMER,
        "items": [],
    }


@pytest.mark.parametrize("read", [False, True], ids=["new", "read"])
@pytest.mark.parametrize(
    "event",
    [
        EventsOrderCreated(customer_id=CUSTOMER, items=[{"a": [1]}], metadata={"user": "ann"}),
        EventsFrozenBelow(amount=1),
        Event(event_type="events.Plain", data={"a": [1]}),
    ],
    ids=lambda event: type(event).__name__,
)
def test_copies_and_pickles_are_equal(event: Event, *, read: bool) -> None:
    if read:
        event = read_back(event)
    for other in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):  # noqa: S301 our own bytes
        assert other == event
        assert type(other) is type(event)
        assert (other.stream_id, other.version, other.position) == (event.stream_id, event.version, event.position)


def test_a_deep_copy_shares_nothing() -> None:
    event = EventsOrderCreated(customer_id=CUSTOMER, items=[{"a": 1}])
    copy.deepcopy(event).items[0]["a"] = 2
    assert event.items == [{"a": 1}]


def test_repr_shows_the_fields_that_are_not_hidden() -> None:
    assert repr(EventsOrderShipped(tracking_number="1Z")) == "EventsOrderShipped(tracking_number='1Z')"
    assert repr(EventsFull(required=1)) == "EventsFull(required=1, plain='plain', made=[])"
    assert repr(Event(event_type="events.Plain", data={"a": 1})) == "Event(event_type='events.Plain', data={'a': 1})"


def test_events_are_equal_if_all_that_the_writer_said_is() -> None:
    event_id = uuid4()
    given: dict[str, Any] = {"event_id": event_id, "timestamp": NOON, "metadata": {"a": 1}}
    event = EventsOrderShipped(tracking_number="1Z", **given)
    assert event == EventsOrderShipped(tracking_number="1Z", **given)
    assert hash(event) == hash(EventsOrderShipped(tracking_number="1Z", **given))
    assert event != EventsOrderShipped(tracking_number="2Z", **given)
    for name, other in {"event_id": uuid4(), "timestamp": datetime.now(UTC), "metadata": {}}.items():
        assert event != EventsOrderShipped(tracking_number="1Z", **{**given, name: other})
    assert event != Event(event_type=event.event_type, data=event.data, **given)
    assert Event(event_type="events.Plain", **given) != Event(event_type="events.Other", **given)
    assert event != "an event"


def test_a_read_event_equals_the_one_that_was_appended() -> None:
    event = EventsOrderShipped(tracking_number="1Z", timestamp=NOON, metadata={"user": "ann"})
    store = InMemoryEventStore()
    store.append("Order-1", [event], 0)
    (found,) = store.read("Order-1")
    assert found == event
    assert hash(found) == hash(event)
    assert (found.stream_id, found.version, found.position) == ("Order-1", 1, 1)


def test_a_class_of_events_has_a_signature_for_help() -> None:
    parameters = inspect.signature(EventsFull).parameters
    assert list(parameters) == ["required", "plain", "made", "secret", "event_id", "timestamp", "metadata"]
    assert parameters["required"].default is inspect.Parameter.empty
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("event_class", [EventsFull, dataclass(EventsFull)])
def test_a_replaced_event_keeps_its_metadata_and_timestamp_and_has_an_id_of_its_own(event_class: Any) -> None:
    event = event_class(required=1, plain="other", timestamp=NOON, metadata={"user": "ann"})
    for original in (event, read_back(event)):
        changed = dataclasses.replace(original, required=2)
        assert changed.data == {**event.data, "required": 2}
        assert (changed.timestamp, changed.metadata) == (NOON, {"user": "ann"})
        assert changed.event_id != event.event_id
        assert (changed.stream_id, changed.version, changed.position) == ("", 0, 0)
    given = dataclasses.replace(event, metadata={"user": "bob"}, event_id=event.event_id)
    assert (given.metadata, given.event_id) == ({"user": "bob"}, event.event_id)


def test_a_replaced_frozen_event_keeps_its_metadata() -> None:
    event = EventsFrozenBelow(amount=1, metadata={"user": "ann"})
    assert dataclasses.replace(event, amount=2).metadata == {"user": "ann"}


def test_the_envelope_is_not_part_of_the_fields_of_a_dataclass() -> None:
    assert [field.name for field in dataclasses.fields(EventsShippedAbroad)] == ["tracking_number", "country"]
    assert dataclasses.asdict(EventsOrderShipped(tracking_number="1Z")) == {"tracking_number": "1Z"}


T = TypeVar("T")


class EventsBoxed(Event, Generic[T]):
    content: T


def test_a_generic_class_of_events_can_be_called_with_its_parameter() -> None:
    event = EventsBoxed[int](content=1)
    assert read_back(event) == event
    assert event.data == {"content": 1}


# --- what shows an event's attributes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [Event, EventsOrderShipped, EventsFrozen])
def test_the_envelope_is_found_by_dir_hasattr_and_help(shown: type[Event]) -> None:
    names = ENVELOPE | {"event_type", "aggregate_id", "data"}
    assert names <= set(dir(shown))
    page = pydoc.render_doc(shown, renderer=pydoc.plaintext)
    for name in names - {"event_type", "revision"}:  # A class of events shows its own in place of them.
        assert hasattr(shown, name)
        doc = getattr(shown, name).__doc__
        assert doc
        assert doc.splitlines()[0] in page


def test_an_event_shows_its_envelope_before_any_of_it_was_decoded() -> None:
    event = read_back(EventsOrderShipped(tracking_number="1Z"))
    assert set(dir(event)) >= ENVELOPE
    assert vars(event).keys() == {"tracking_number", "_record"}
    assert event.position == 10
    assert vars(event).keys() == {"tracking_number", "_record", "position"}
    assert all(hasattr(event, name) for name in ENVELOPE)
    assert vars(event).keys() >= ENVELOPE - {"revision"}  # Which is the class's.


def test_the_doc_and_signature_of_a_class_of_events_show_its_fields() -> None:
    assert EventsFull.__doc__ == "One of each kind of field."
    assert EventsShippedAbroad.__doc__ == (
        "EventsShippedAbroad(*, tracking_number: str, country: str = ..., event_id=None, timestamp=None, metadata=None)"
    )
    assert EventsFrozenBelow.__doc__ is not None
    assert EventsFrozenBelow.__doc__.startswith("EventsFrozenBelow(*, amount: int, currency: str = ..., event_id=None")
    assert "made: 'list[int]' = <factory>" in str(inspect.signature(EventsFull))


def test_the_hints_of_a_class_of_events_can_be_asked_for() -> None:
    assert get_type_hints(EventsOrderShipped)["tracking_number"] is str


@pytest.mark.parametrize(
    ("stream_id", "aggregate_id"), [("Order-1", "1"), ("Order-a-b", "a-b"), ("Order-", ""), ("plain", "")]
)
def test_the_aggregate_id_stands_in_the_stream_id(stream_id: str, aggregate_id: str) -> None:
    event = EventsOrderShipped(tracking_number="1Z")
    assert event.aggregate_id == ""
    assert read_back(event, stream_id=stream_id).aggregate_id == aggregate_id


# --- what a constructor refuses ---------------------------------------------------------------------------------------


def test_events_take_keyword_arguments_only() -> None:
    with pytest.raises(TypeError, match=re.escape("EventsOrderShipped() takes keyword arguments only")):
        EventsOrderShipped("1Z")  # type: ignore[misc, call-arg]


def test_a_missing_field_is_named_and_so_are_all_that_are_missing() -> None:
    with pytest.raises(TypeError, match=re.escape("needs the keyword argument(s) 'tracking_number'")):
        EventsOrderShipped()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'customer_id', 'items'"):
        EventsOrderCreated()  # type: ignore[call-arg]


def test_an_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match=re.escape("EventsOrderShipped() has no field called 'colour'")):
        EventsOrderShipped(tracking_number="1Z", colour="red")  # type: ignore[call-arg]


def test_a_misspelt_field_is_answered_with_the_field_that_was_meant() -> None:
    with pytest.raises(TypeError, match=r"no field called 'traking_number'; did you mean 'tracking_number'\?"):
        EventsOrderShipped(traking_number="1Z")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field called 'colour'; its fields are required, plain, made, secret"):
        EventsFull(required=1, colour="red")  # type: ignore[call-arg]


def test_another_event_type_than_the_class_has_is_refused() -> None:
    assert EventsOrderShipped(tracking_number="1Z", event_type="EventsOrderShipped").event_type == "EventsOrderShipped"
    with pytest.raises(InvalidArgument, match="'EventsOrderShipped', not 'Other'"):
        EventsOrderShipped(tracking_number="1Z", event_type="Other")


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None


REFUSED_ENVELOPES = {
    "naive": ({"timestamp": datetime(2024, 1, 1)}, "has no time zone; use"),  # noqa: DTZ001 that is the point
    "zone without an offset": ({"timestamp": datetime(2024, 1, 1, tzinfo=NoOffset())}, "has no time zone"),
    "no datetime": ({"timestamp": "2024-01-01T00:00:00Z"}, "timestamp must be a datetime, not str"),
    "offset below a second": (
        {"timestamp": datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))},
        "not whole seconds",
    ),
    "event_id": ({"event_id": str(uuid4())}, "event_id must be a UUID, not str"),
    "metadata": ({"metadata": [("a", 1)]}, "metadata must be a dict, not list"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED_ENVELOPES.values(), ids=REFUSED_ENVELOPES)
def test_an_invalid_envelope_is_refused_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        EventsOrderShipped(tracking_number="1Z", **given)
    with pytest.raises(InvalidArgument, match=message):
        Event(event_type="events.Plain", **given)


@pytest.mark.parametrize("data", [[("a", 1)], "a", 1])
def test_data_that_is_not_a_dict_is_refused(data: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"data must be a dict, not {type(data).__name__}"):
        Event(event_type="events.Plain", data=data)


@pytest.mark.parametrize("event_type", ["", "a\0b", "\ud800", "a" * 256, None, 1, b"a"])
def test_an_invalid_event_type_is_refused(event_type: Any) -> None:
    with pytest.raises(InvalidArgument, match="event_type"):
        Event(event_type=event_type)
    with pytest.raises(InvalidArgument, match="event_type"):
        types.new_class("Named", (Event,), exec_body=lambda body: body.update(event_type=event_type))


# --- what a class of events refuses -----------------------------------------------------------------------------------

RESERVED = ["event_id", "timestamp", "metadata", "stream_id", "version", "position", "data", "_record", "_fields"]
RESERVED += ["aggregate_id", "sealed", "tags"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_that_every_event_has_is_refused_for_a_field(name: str) -> None:
    def body(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = {name: int}

    with pytest.raises(InvalidArgument, match=f"Taken: nothing of it can be called '{name}'"):
        types.new_class("Taken", (Event,), exec_body=body)


@pytest.mark.parametrize("name", RESERVED)
def test_such_a_name_is_refused_for_an_attribute_and_in_a_mixin_as_well(name: str) -> None:
    # It would hide what is read: an event whose class has `version = 3` would stand at version 3 for ever.
    with pytest.raises(InvalidArgument, match=name):
        type("Taken", (Event,), {name: 3})
    with pytest.raises(InvalidArgument, match=name):
        type("Taken", (type("Mixin", (), {name: property(lambda _: 3)}), Event), {})


def test_a_class_of_events_with_slots_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="can't have slots"):
        type("Slotted", (Event,), {"__slots__": ()})
    with pytest.raises(InvalidArgument, match="can't have slots"):

        @dataclass(slots=True)
        class EventsSlotted(Event):
            a: int


def test_a_field_that_is_not_given_to_the_constructor_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"EventsComputed.total: .* make a computed one a property"):

        class EventsComputed(Event):
            total: int = field(init=False, default=0)


@pytest.mark.parametrize("annotation", [dataclasses.InitVar[int], "dataclasses.InitVar[int]"])
def test_an_init_variable_is_refused_as_it_would_not_be_stored(annotation: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"EventsInitial.seed is an InitVar, which would not be stored"):
        type("EventsInitial", (Event,), {"__annotations__": {"seed": annotation}, "__module__": __name__})


def test_a_mutable_default_is_refused_as_in_every_dataclass() -> None:
    with pytest.raises(ValueError, match="default_factory"):

        class EventsMutable(Event):
            items: list[int] = []  # noqa: RUF012 that is the point


def test_two_classes_with_one_event_type_are_an_error_when_the_second_is_defined() -> None:
    class EventsClaimed(Event):
        event_type: str = "events.Claimed"

    with pytest.raises(DuplicateType, match=r'another stored name, by `event_type: str = "\.\.\."`') as caught:

        class EventsClaimedToo(Event):
            event_type: str = "events.Claimed"

    assert caught.value.name == "events.Claimed"
    assert caught.value.first is EventsClaimed
    assert caught.value.second.__name__ == "EventsClaimedToo"
    assert event_class("events.Claimed") is EventsClaimed


def test_a_refused_class_claims_no_name() -> None:
    with pytest.raises(InvalidArgument):
        types.new_class("EventsRefused", (Event,), exec_body=lambda body: body.update(version=3))
    assert event_class("EventsRefused") is None


def test_the_same_class_may_be_defined_again() -> None:
    def define(default: int) -> type[Event]:
        class EventsAgain(Event):
            a: int = default

        return EventsAgain

    first, second = define(1), define(2)
    assert event_class("EventsAgain") is second
    # What is read has the newest class, whichever wrote it.
    assert type(read_back(first())) is second


# --- event ids --------------------------------------------------------------------------------------------------------


def test_event_ids_are_uuids_of_version_7() -> None:
    before = time.time_ns() // 1_000_000
    found = [new_event_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert {event_id.version for event_id in found} == {7}
    assert {event_id.variant for event_id in found} == {"specified in RFC 4122"}
    assert len(set(found)) == 1000
    assert all(before <= event_id.int >> 80 <= after for event_id in found)


def test_event_ids_rise_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [0, 1_000_000, 2_000_000, 1_700_000_000_000_000_000, 1_700_000_000_001_000_000, 2**61]
    found = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        found.append(new_event_id())
    assert found == sorted(found)
    assert [event_id.bytes for event_id in found] == sorted(event_id.bytes for event_id in found)


# --- timestamps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-11, seconds=-1))),
        datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Asia/Kathmandu")),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=23, minutes=59, seconds=59))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=23, minutes=59, seconds=59))),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
    ids=str,
)
def test_a_timestamp_comes_back_with_its_offset(timestamp: datetime) -> None:
    found = read_back(Event(event_type="events.Plain", timestamp=timestamp)).timestamp
    assert found == timestamp
    assert found.replace(tzinfo=None) == timestamp.replace(tzinfo=None)
    assert found.utcoffset() == timestamp.utcoffset()


@pytest.mark.parametrize(
    "damage",
    [
        {"timestamp": (2**63 - 1).to_bytes(8)},
        {"utc_offset": 86_400},
        {"timestamp": (-(2**63)).to_bytes(8, signed=True)},
    ],
    ids=str,
)
def test_a_stored_timestamp_beyond_python_s_years_is_a_typed_error(damage: dict[str, Any]) -> None:
    event = read_back(EventsOrderShipped(tracking_number="1Z"), **damage)
    with pytest.raises(DeserializationError, match="version 1 of stream 'stream-1'"):
        _ = event.timestamp


def test_an_attribute_that_an_event_does_not_have_is_an_attribute_error() -> None:
    for event in (EventsOrderShipped(tracking_number="1Z"), read_back(EventsOrderShipped(tracking_number="1Z"))):
        with pytest.raises(AttributeError, match="'EventsOrderShipped' object has no attribute 'colour'"):
            _ = event.colour  # type: ignore[attr-defined]


# --- reading what other programs stored -------------------------------------------------------------------------------


def test_an_unknown_type_is_read_as_a_plain_event_with_its_data() -> None:
    event = Event(event_type="events.NobodyKnows", data={"a": (1, 2)}, metadata={"b": 1})
    found = read_back(event)
    assert type(found) is Event
    assert found == event


def test_a_strict_reader_refuses_an_unknown_type() -> None:
    store = InMemoryEventStore(strict=True)
    store.append("Order-1", [Event(event_type="events.NobodyKnows")], 0)
    with pytest.raises(UnknownEventType, match="version 1 of stream 'Order-1'") as caught:
        store.read("Order-1")
    assert caught.value.event_type == "events.NobodyKnows"


class EventsEvolved(Event):
    event_type: str = "events.Evolved"
    kept: int
    added: str = "default"
    added_list: list[int] = field(default_factory=list)


class EventsColoured(Event):
    event_type: str = "events.Coloured"
    colour: EventsColour


def test_a_field_that_was_added_later_has_its_default() -> None:
    event = Event(event_type="events.Evolved", data={"kept": 1})
    one, other = read_back(event), read_back(event)
    assert one.data == {"kept": 1, "added": "default", "added_list": []}
    assert isinstance(one, EventsEvolved)
    assert isinstance(other, EventsEvolved)
    one.added_list.append(1)
    assert other.added_list == []


def test_a_field_that_was_dropped_is_left_out() -> None:
    found = read_back(Event(event_type="events.Evolved", data={"kept": 1, "dropped": 2, "added": "x"}))
    assert found.data == {"kept": 1, "added": "x", "added_list": []}
    with pytest.raises(AttributeError):
        _ = found.dropped  # type: ignore[attr-defined]


def test_a_missing_field_without_a_default_is_named_with_its_event() -> None:
    with pytest.raises(DeserializationError) as caught:
        read_back(Event(event_type="events.Older", data={"added": "x"}), event_type="events.Evolved")
    for part in ("events.Evolved", "version 1", "stream 'stream-1'", "'kept'", "give it one"):
        assert part in str(caught.value)


@pytest.mark.parametrize("damage", [{"data": b""}, {"data": b"\x90"}, {"data": b"\xc1"}, {"metadata": b"\x81\xa1a"}])
@pytest.mark.parametrize("event_type", ["events.Evolved", "events.NobodyKnows"])
def test_damaged_bytes_are_named_with_their_event(damage: dict[str, Any], event_type: str) -> None:
    record = stored(Event(event_type=event_type, data={"kept": 1}), **damage)
    with pytest.raises(DeserializationError, match=f"{event_type}, version 1 of stream 'stream-1', can't be read"):
        decode_events([record], strict=False)


def test_values_of_classes_that_this_program_does_not_have_keep_an_unknown_event_readable() -> None:
    record = stored(Event(event_type="events.NobodyKnows", data={"colour": EventsColour.RED, "at": EventsPlace(x=1)}))
    registry = dict(types_module._classes)
    types_module._classes.clear()
    try:
        (found,) = decode_events([record], strict=False)
        assert found.data == {"colour": ("EventsColour", "RED"), "at": ("EventsPlace", {"x": 1})}
        assert isinstance(found.data["colour"], Unregistered)
        with pytest.raises(SerializationError):
            encode_events([found])  # It would be another value by then.
        with pytest.raises(DeserializationError, match="no Enum is registered as 'EventsColour'"):
            decode_events([record._replace(event_type="events.Coloured")], strict=False)
    finally:
        types_module._classes.update(registry)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_plain_event_that_its_class_could_not_read_is_refused() -> None:
    with pytest.raises(SerializationError, match="it is missing") as caught:
        encode_events([Event(event_type="EventsOrderShipped", data={"other": 1})])
    assert caught.value.path == "tracking_number"


def test_a_value_that_can_not_be_stored_is_named_with_its_event_and_path() -> None:
    with pytest.raises(SerializationError) as caught:
        encode_events([EventsOrderCreated(customer_id=CUSTOMER, items=[{"sku": "a"}, {"sku": object()}])])
    assert (caught.value.subject, caught.value.path) == ("events.OrderCreated", "items[1].sku")
    with pytest.raises(SerializationError) as caught:
        encode_events([EventsOrderShipped(tracking_number="1Z", metadata={"request": object()})])
    assert (caught.value.subject, caught.value.path) == ("metadata of EventsOrderShipped", "request")


def test_an_attribute_that_is_not_a_field_is_refused_rather_than_lost() -> None:
    event = EventsOrderShipped(tracking_number="1Z")
    event.colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(SerializationError, match=r"colour .* not a field"):
        encode_events([event])


def test_metadata_that_is_put_in_later_is_stored() -> None:
    event = EventsOrderShipped(tracking_number="1Z")
    event.metadata["user"] = "ann"
    assert read_back(event).metadata == {"user": "ann"}
    assert (event.stream_id, event.version, event.position) == ("", 0, 0)


def test_one_event_can_not_stand_twice_in_an_append() -> None:
    event = EventsOrderShipped(tracking_number="1Z")
    with pytest.raises(InvalidArgument, match="twice"):
        encode_events([event, event])


@pytest.mark.parametrize("nonsense", [None, "event", {"event_type": "x"}, EventsOrderShipped])
def test_recording_an_object_that_is_not_an_event_is_refused(nonsense: Any) -> None:
    with pytest.raises(InvalidArgument, match="only events can be appended"):
        encode_events([nonsense])


def test_every_refusal_is_below_the_root() -> None:
    for error in (InvalidArgument, DuplicateType, SerializationError, DeserializationError, UnknownEventType):
        assert issubclass(error, EventStoreError)


def test_a_clock_before_1970_makes_ids_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: -(10**18))
    first, second = Event(event_type="T"), Event(event_type="T")
    assert first.event_id != second.event_id
    assert first.event_id.version == 7


def test_every_error_of_the_library_can_be_pickled_and_copied() -> None:
    def below(cls: type[EventStoreError]) -> Iterator[type[EventStoreError]]:
        yield cls
        for each in cls.__subclasses__():
            yield from below(each)

    errors = [
        ConcurrencyError("Order-1", 1, 2),
        EventAlreadyStored("Order-1", 1, 7),
        UnknownEventType("T", "the event", "register it"),
        SerializationError("T", "items[0]", "it is a socket"),
        SubscriptionBehind("mails", 7, 5, 1.0),
    ]
    for error in errors:
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 its own
            assert type(again) is type(error)
            assert (str(again), vars(again)) == (str(error), vars(error))
    for cls in below(EventStoreError):
        made = cls.__new__(cls, "what it says")
        made.args = ("what it says",)
        assert str(pickle.loads(pickle.dumps(made))) == str(made)  # noqa: S301 its own
