"""Aggregates: state of their own, made by events only; what is pending and what is stored."""

from __future__ import annotations

import enum
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

import pytest

from eventstore import Aggregate, Event, InvalidArgument, InvalidOperation, UnknownEventType, handles
from eventstore.aggregate import stream_id_of


class AggregatesOpened(Event):
    owner: str


class AggregatesPaid(Event):
    amount: int


class AggregatesPaidAbroad(AggregatesPaid):
    currency: str


class AggregatesClosed(Event):
    pass


class Colour(enum.Enum):
    RED = 1


@dataclass
class Address:
    city: str = "Lisbon"


class Account(Aggregate["Account"]):
    """Declares handlers."""

    shared: ClassVar[list[str]] = []
    owner: str | None = None
    payments: list[int] = field(default_factory=list)
    nested: dict[str, list[int]] = {"a": [1]}  # noqa: RUF012 each instance has its own
    address: Address = Address()
    colour: Colour = Colour.RED
    unannotated = []  # noqa: RUF012 the same
    limit: int = field(default=100)

    def pay(self, amount: int) -> None:
        if sum(self.payments) + amount > self.limit:
            raise InvalidOperation("the limit is reached")
        self._record(AggregatesPaid(amount=amount))

    @handles(AggregatesOpened)
    def _opened(self, event: AggregatesOpened) -> None:
        self.owner = event.owner

    @handles(AggregatesPaid)
    def _paid(self, event: AggregatesPaid) -> None:
        if event.amount == 13:
            self.owner = "half applied"
            raise RuntimeError("a handler that fails")
        self.payments.append(event.amount)


class Counter(Aggregate["Counter"]):
    """Overrides apply."""

    count: int = 0

    def apply(self, event: Event) -> None:
        if event.event_type == "aggregates.Counted":
            self.count += event.data["by"]


def counted(by: int) -> Event:
    return Event(event_type="aggregates.Counted", data={"by": by})


# --- state ------------------------------------------------------------------------------------------------------------


def test_class_level_values_are_defaults_that_no_two_instances_share() -> None:
    one, other = Account("1"), Account("2")
    one.payments.append(1)
    one.nested["a"].append(2)
    one.address.city = "Porto"
    one.unannotated.append(3)
    for untouched in (other, Account("3")):
        assert untouched.payments == []
        assert untouched.nested == {"a": [1]}
        assert untouched.address == Address("Lisbon")
        assert untouched.unannotated == []
    assert (one.owner, one.limit, one.colour) == (None, 100, Colour.RED)


def test_class_variables_are_left_alone() -> None:
    assert Account("1").shared is Account.shared
    assert "shared" not in Account("1").__dict__


@pytest.mark.parametrize("annotation", ["ClassVar", "ClassVar[list]", "typing.ClassVar[list]", "t.ClassVar", ClassVar])
def test_class_variables_are_known_however_they_are_written(annotation: Any) -> None:
    values: list[int] = []
    cls = type("Written", (Aggregate,), {"__annotations__": {"values": annotation}, "values": values})
    assert cls("1").values is values


def test_an_annotation_that_only_sounds_like_a_class_variable_is_a_default() -> None:
    values: list[int] = []
    cls = type("Sounding", (Aggregate,), {"__annotations__": {"values": "ClassVarious"}, "values": values})
    assert cls("1").values is not values


def test_inherited_defaults_are_not_shared_either_and_can_be_replaced() -> None:
    class Savings(Account):
        limit: int = 5
        goals: list[str] = field(default_factory=list)

    one, other = Savings("1"), Savings("2")
    one.payments.append(1)
    one.goals.append("a")
    assert (other.payments, other.goals, other.limit) == ([], [], 5)
    assert Account("1").limit == 100
    assert not hasattr(Account("1"), "goals")


def test_mixins_bring_defaults_and_handlers() -> None:
    class Closing:
        closed_by: list[str] = []  # noqa: RUF012 each instance has its own

        @handles(AggregatesClosed)
        def _closed(self, event: AggregatesClosed) -> None:
            self.closed_by.append(event.event_type)

    class ClosingAccount(Closing, Account):
        pass

    one, other = ClosingAccount("1"), ClosingAccount("2")
    one.apply(AggregatesClosed())
    one.apply(AggregatesPaid(amount=1))
    assert (one.closed_by, one.payments) == (["AggregatesClosed"], [1])
    assert (other.closed_by, other.payments) == ([], [])


def test_the_first_of_several_classes_above_wins_as_everywhere() -> None:
    class Left(Aggregate["Left"]):
        values: list[str] = field(default_factory=lambda: ["left"])

    class Right(Aggregate["Right"]):
        values: list[str] = field(default_factory=lambda: ["right"])
        others: list[str] = field(default_factory=lambda: ["right"])

    class Both(Left, Right):
        pass

    assert (Both("1").values, Both("1").others) == (["left"], ["right"])


def test_an_abstract_class_can_stand_above() -> None:
    class Base(Aggregate["Base"], ABC):
        kind: str = "base"

        @abstractmethod
        def describe(self) -> str: ...

    class Concrete(Base):
        def describe(self) -> str:
            return self.kind

    assert Concrete("1").describe() == "base"
    assert Concrete("1").snapshot_state() == {"kind": "base"}
    with pytest.raises(TypeError, match="abstract"):
        Base("1")  # type: ignore[abstract]


def test_methods_properties_and_nested_classes_are_no_defaults() -> None:
    class Rich(Aggregate["Rich"]):
        class Inner:
            pass

        count: int = 1

        @property
        def double(self) -> int:
            return self.count * 2

        @staticmethod
        def helper() -> int:
            return 3

    assert Rich("1").snapshot_state() == {"count": 1}
    assert (Rich("1").double, Rich("1").helper(), Rich.Inner) == (2, 3, Rich("1").Inner)


def test_a_field_without_a_default_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="needs a default"):

        class Lacking(Aggregate["Lacking"]):
            items: list[int] = field()


@pytest.mark.parametrize("name", ["id", "version", "pending", "_version", "_pending_events", "_unconfirmed"])
def test_a_name_that_every_aggregate_has_is_refused(name: str) -> None:
    # `id: UUID = field(default_factory=uuid4)` would replace the id that was given.
    for value in (0, field(default_factory=uuid4), property(lambda _: 0)):
        with pytest.raises(InvalidArgument, match=f"can be called '{name}', every aggregate has that already"):
            type("Taken", (Aggregate,), {name: value})
        with pytest.raises(InvalidArgument, match=name):
            type("Taken", (type("Mixin", (), {name: value}), Aggregate), {})


def test_an_aggregate_can_declare_the_type_of_its_id() -> None:
    class Known(Aggregate["Known"]):
        id: UUID

    known = uuid4()
    assert Known(known).id == known


# --- applying ---------------------------------------------------------------------------------------------------------


def test_apply_can_be_overridden() -> None:
    assert Counter.from_events("1", [counted(2), counted(3), Event(event_type="aggregates.Ignored")]).count == 5


def test_a_handler_is_found_by_the_class_of_the_event() -> None:
    account = Account.from_events("1", [AggregatesOpened(owner="ann"), AggregatesPaid(amount=1)])
    assert (account.owner, account.payments) == ("ann", [1])


def test_a_handler_is_for_the_classes_below_as_well() -> None:
    assert Account.from_events("1", [AggregatesPaidAbroad(amount=1, currency="USD")]).payments == [1]


def test_the_nearest_class_s_handler_is_taken() -> None:
    class Abroad(Account):
        @handles(AggregatesPaidAbroad)
        def _paid_abroad(self, event: AggregatesPaidAbroad) -> None:
            self.payments.append(event.amount * 2)

    account = Abroad.from_events("1", [AggregatesPaidAbroad(amount=1, currency="USD"), AggregatesPaid(amount=1)])
    assert account.payments == [2, 1]


def test_handlers_are_inherited_overridden_and_replaced() -> None:
    class Overriding(Account):
        def _opened(self, event: AggregatesOpened) -> None:
            self.owner = event.owner.upper()

    class Replacing(Account):
        @handles(AggregatesOpened)
        def _opened_otherwise(self, event: AggregatesOpened) -> None:
            self.owner = event.owner[::-1]

    events = [AggregatesOpened(owner="ann"), AggregatesPaid(amount=1)]
    for cls, owner in ((Account, "ann"), (Overriding, "ANN"), (Replacing, "nna")):
        account = cls.from_events("1", events)
        assert (account.owner, account.payments) == (owner, [1])


def test_two_handlers_for_one_class_of_events_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="Twice declares two handlers for AggregatesPaid: _one and _other"):

        class Twice(Aggregate["Twice"]):
            @handles(AggregatesPaid)
            def _one(self, event: AggregatesPaid) -> None: ...

            @handles(AggregatesPaid)
            def _other(self, event: AggregatesPaid) -> None: ...


def test_an_event_without_a_handler_is_an_error_that_says_what_to_do() -> None:
    account = Account("1")
    for event in (AggregatesClosed(), Event(event_type="AggregatesPaid", data={"amount": 1})):
        with pytest.raises(
            UnknownEventType, match="Account declares no handler for it: add one with @handles"
        ) as caught:
            account.apply(event)
        assert caught.value.event_type == event.event_type
    with pytest.raises(UnknownEventType, match="override apply"):
        Aggregate("1").apply(AggregatesClosed())


def test_a_handler_for_plain_events_takes_what_no_other_does() -> None:
    class Log(Aggregate["Log"]):
        seen: list[str] = field(default_factory=list)

        @handles(Event)
        def _any(self, event: Event) -> None:
            self.seen.append(event.event_type)

    assert Log.from_events("1", [AggregatesClosed(), counted(1)]).seen == ["AggregatesClosed", "aggregates.Counted"]


# --- what is pending --------------------------------------------------------------------------------------------------


def test_recording_applies_at_once_and_keeps_the_event() -> None:
    account = Account("1")
    account.pay(1)
    account.pay(2)
    assert account.payments == [1, 2]
    assert [event.data for event in account.pending] == [{"amount": 1}, {"amount": 2}]


def test_the_repr_shows_where_an_aggregate_stands_and_its_state_cut_where_it_is_long() -> None:
    counter = Counter.from_events("one", [])
    assert repr(counter) == "Counter(id='one', version=0, count=0)"
    account = Account("two")
    account.pay(3)
    account.nested = {"a": list(range(5000))}
    shown = repr(account)
    assert shown.startswith("Account(id='two', version=0, pending=1, owner=None, payments=[3], nested={'a': [0, 1, 2")
    assert "more)" in shown
    assert len(shown) < 20_000


def test_pending_events_do_not_count_in_the_version() -> None:
    account = Account.from_events("1", [AggregatesPaid(amount=1)] * 3)
    assert (account.version, account.pending) == (3, ())
    account.pay(2)
    assert (account.version, len(account.pending)) == (3, 1)


def test_clearing_forgets_the_events_and_keeps_the_state() -> None:
    account = Account("1")
    account.pay(1)
    account.clear_pending()
    assert (account.pending, account.payments, account.version) == ((), [1], 0)


def test_what_pending_gave_does_not_change() -> None:
    account = Account("1")
    account.pay(1)
    before = account.pending
    account.pay(2)
    account.clear_pending()
    assert len(before) == 1


def test_a_decision_that_is_refused_records_nothing() -> None:
    account = Account("1")
    with pytest.raises(InvalidOperation, match="the limit is reached"):
        account.pay(101)
    assert (account.pending, account.payments) == ((), [])


def test_an_event_that_could_not_be_applied_is_not_pending() -> None:
    account = Account("1")
    account.pay(1)
    with pytest.raises(RuntimeError, match="a handler that fails"):
        account.pay(13)
    assert [event.data for event in account.pending] == [{"amount": 1}]
    with pytest.raises(UnknownEventType):
        account._record(AggregatesClosed())
    assert len(account.pending) == 1


@pytest.mark.parametrize("nonsense", [None, {"amount": 1}, AggregatesPaid, "AggregatesPaid"])
def test_only_events_can_be_recorded(nonsense: Any) -> None:
    counter = Counter("1")
    with pytest.raises(InvalidArgument, match="only events can be recorded"):
        counter._record(nonsense)
    assert counter.pending == ()


def test_from_events_takes_any_iterable_and_gives_the_class_it_was_called_on() -> None:
    class Special(Counter):
        pass

    special = Special.from_events("1", (counted(n) for n in range(4)))
    assert type(special) is Special
    assert (special.id, special.count, special.version, special.pending) == ("1", 6, 4, ())
    assert Counter.from_events("1", []).version == 0


def test_replay_continues_from_the_aggregates_version() -> None:
    counter = Counter.from_events("1", [counted(1)] * 2)
    counter.replay([counted(1)] * 3)
    assert (counter.version, counter.count) == (5, 5)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate_id", [uuid4(), "1", "a-b", "ä", "x" * 200, " "])
def test_an_id_is_a_uuid_or_a_text(aggregate_id: UUID | str) -> None:
    assert Account(aggregate_id).id == aggregate_id
    assert stream_id_of(Account, aggregate_id) == f"Account-{aggregate_id}"


@pytest.mark.parametrize("aggregate_id", ["", "a\0b", "\ud800", "x" * 256, 1, None, b"1", 1.5])
def test_an_invalid_id_is_refused(aggregate_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="the id of Account"):
        Account(aggregate_id)
    with pytest.raises(InvalidArgument, match="the id of Account"):
        stream_id_of(Account, aggregate_id)


def test_an_id_that_makes_too_long_a_stream_id_is_refused() -> None:
    assert len(stream_id_of(Account, "x" * 247)) == 255
    with pytest.raises(InvalidArgument, match="256 bytes"):
        stream_id_of(Account, "x" * 248)


def test_the_category_is_the_class_s_name_unless_its_body_says_otherwise() -> None:
    class Named(Aggregate["Named"]):
        category = "shop.account"

    class Below(Named):
        pass

    assert (Account.category, Named.category, Below.category) == ("Account", "shop.account", "Below")
    assert stream_id_of(Named, "1") == "shop.account-1"
    assert Named("1").snapshot_state() == {}


@pytest.mark.parametrize("category", ["", "a-b", "-", "a\0", "\ud800", "x" * 256, 1, None])
def test_an_invalid_category_is_refused(category: Any) -> None:
    # ("a-b", "c") and ("a", "b-c") would be one stream.
    with pytest.raises(InvalidArgument, match="category"):
        types.new_class("Odd", (Aggregate,), exec_body=lambda body: body.update(category=category))


def test_two_categories_and_ids_never_name_one_stream() -> None:
    names = ["a", "b", "ab", "a.b"]
    ids = ["1", "-1", "b-1", "a-b-1", "--"]
    classes = [
        types.new_class("Some", (Aggregate,), exec_body=lambda body, n=n: body.update(category=n)) for n in names
    ]
    assert len({stream_id_of(cls, i) for cls in classes for i in ids}) == len(names) * len(ids)


def test_an_aggregate_decorated_as_a_dataclass_is_refused_with_the_way_out() -> None:
    @dataclass
    class Decorated(Aggregate["Decorated"]):
        items: list[int] = field(default_factory=list)

    with pytest.raises(InvalidArgument, match=r"Decorated is decorated with @dataclass.* remove that"):
        Decorated("1")  # type: ignore[arg-type]


T = TypeVar("T")


class Boxed(Aggregate["Boxed[Any]"], Generic[T]):
    content: T | None = None


def test_the_state_of_a_generic_aggregate_does_not_hold_its_parameter() -> None:
    assert Boxed[int]("1").snapshot_state() == {"content": None}


@pytest.mark.parametrize("name", ["version", "pending"])
def test_a_name_that_every_aggregate_has_is_refused_for_an_annotation(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"called '{name}'"):
        type("Taken", (Aggregate,), {"__annotations__": {name: int}})


def test_an_aggregate_may_say_of_what_type_its_ids_are() -> None:
    assert type("Narrow", (Aggregate,), {"__annotations__": {"id": UUID}})(UUID(int=1)).id == UUID(int=1)


# --- the fingerprint of a class ---------------------------------------------------------------------------------------


def schema_of(*, version: int = 1, category: str = "Some", inner: Any = int, **values: Any) -> str:
    """Of a class with these values, annotated with `inner`'s fields where they are."""
    namespace = {"category": category, "snapshot_version": version, "__annotations__": {"a": inner}, **values}
    return type("Some", (Aggregate,), namespace).class_schema()


def test_the_fingerprint_changes_with_what_the_state_consists_of() -> None:
    def with_field(annotation: str) -> type:
        return dataclass(type("Inner", (), {"__annotations__": {"x": annotation}}))

    found = [
        schema_of(),
        schema_of(version=2),
        schema_of(category="Other"),
        schema_of(inner=str),
        schema_of(b=1),
        schema_of(c=1),
        schema_of(inner=with_field("int")),
        schema_of(inner=with_field("str")),
        schema_of(inner=list[with_field("str")]),
    ]
    assert len(set(found)) == len(found)
    assert schema_of() == schema_of()
    assert schema_of(inner=with_field("int")) == schema_of(inner=with_field("int"))


class AggregatesFilled(Event):
    items: list[int]


class AggregatesAdded(Event):
    item: int


class Bag(Aggregate["Bag"]):
    """Takes its state out of the event as it is, as is easily done."""

    items: list[int] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        match event:
            case AggregatesFilled(items=items):
                self.items = items
            case AggregatesAdded(item=item):
                self.items.append(item)
            case _:
                pass


def test_a_recorded_event_stays_as_it_was_recorded() -> None:
    given = [1]
    bag = Bag("1")
    bag._record(AggregatesFilled(items=given))
    bag._record(AggregatesAdded(item=2))
    given.append(3)
    assert [event.data for event in bag.pending] == [{"items": [1]}, {"item": 2}]


def test_an_aggregate_with_slots_is_refused() -> None:
    class Slotted:
        __slots__ = ("balance",)

    with pytest.raises(InvalidArgument, match="an aggregate can't have slots"):
        type("SlottedAccount", (Slotted, Aggregate), {})
    with pytest.raises(InvalidArgument, match="an aggregate can't have slots"):
        type("SlottedAccount", (Aggregate,), {"__slots__": ("balance",)})


def test_a_method_hides_the_default_of_a_base_class() -> None:
    class Plain(Aggregate["Plain"]):
        status: Any = "new"
        kept: int = 1

    class Asking(Plain):
        def status(self) -> str:
            return "asked"

    assert Asking("1").status() == "asked"
    assert (Asking("1").kept, Plain("1").status) == (1, "new")
