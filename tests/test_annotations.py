"""Classes work with annotations that are evaluated (to Python 3.13), lazy (since 3.14), or strings."""

from __future__ import annotations

import sys
import types
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventstore import Aggregate, Event, InMemoryEventStore, InMemorySnapshotStore, Repository, event_types
from eventstore.codec import registry

SOURCE = Path(__file__).with_name("annotated_classes.py").read_text()
FUTURE = "from __future__ import annotations\n"


def module_of(source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = types.ModuleType("annotated_classes")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, module.__name__, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 it is ours
    return module


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each form of the module registers its classes for itself."""
    for module, name in [(event_types, "_event_classes"), (registry, "_classes"), (registry, "_names")]:
        monkeypatch.setattr(module, name, {})


@pytest.fixture(params=["as written", "strings"])
def classes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    source = SOURCE if request.param == "as written" else FUTURE + SOURCE
    return module_of(source, monkeypatch)


def read_back(event: Event) -> Event:
    store = InMemoryEventStore()
    store.append("stream-1", [event], 0)
    return next(iter(store.read("stream-1")))


def test_every_form_of_event_is_stored_and_read_back(classes: Any) -> None:
    price = classes.Price(Decimal("1.5"))
    later = classes.Later(1, {classes.Colour.RED})
    events = [
        classes.Created(customer_id=uuid4(), items=[{"sku": "a"}]),
        classes.Shipped(tracking_number="1Z"),
        classes.Explicit(second=2),
        classes.Frozen(colour=classes.Colour.RED),
        classes.FrozenBelow(colour=classes.Colour.RED, amount=Decimal(2)),
        classes.ShippedAbroad(tracking_number="1Z", country="PT"),
        classes.Boxed(content=[1], price=price),
        classes.Forward(later=later),
        classes.Forward(later=later, more=[later]),
        classes.ForCheckersOnly(share=3, price=price),
    ]
    for event in events:
        found = read_back(event)
        assert found == event
        assert found.data == event.data
        assert type(found) is type(event)
    assert events[1].data == {"notes": [], "tracking_number": "1Z"}
    assert events[2].data == {"first": 1, "second": 2}
    assert events[4].data == {"amount": 2, "colour": classes.Colour.RED, "size": classes.Size.SMALL}
    assert events[5].data == {"notes": [], "tracking_number": "1Z", "country": "PT"}


def test_every_form_of_event_refuses_an_unknown_field(classes: Any) -> None:
    with pytest.raises(TypeError, match="no field called 'colour'"):
        classes.Shipped(tracking_number="1Z", colour=1)
    with pytest.raises(TypeError, match="needs the keyword argument"):
        classes.Created()


def test_an_aggregate_shares_its_class_variables_only(classes: Any) -> None:
    one, other = classes.Order("1"), classes.Order("2")
    assert one.items is not other.items
    assert one.limits is other.limits
    assert one.quoted is other.quoted
    assert one.snapshot_state() == {"items": [], "status": "pending", "price": None, "later": None}


def test_an_aggregate_is_loaded_from_a_snapshot_that_holds_what_its_annotations_mention(classes: Any) -> None:
    events, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    orders = Repository(events, classes.Order, snapshots, snapshot_frequency=1)
    order = classes.Order("1")
    order._record(classes.Created(customer_id=uuid4(), items=[{"sku": "a"}]))
    order._record(classes.Forward(later=classes.Later(1)))
    orders.save(order)
    assert snapshots.load("annotated.Order", "1", classes.Order.class_schema()) is not None
    assert orders.load("1").snapshot_state() == order.snapshot_state()


def test_classes_made_in_a_function_work(classes: Any) -> None:
    made, keeper_class, inner = classes.made_in_a_function()
    event = made(inner=inner.ONE, other=[inner.ONE])
    assert read_back(event) == event
    keeper = keeper_class("1")
    keeper._record(event)
    assert keeper.kept == [inner.ONE] * 2
    assert keeper.kept is not keeper_class("1").kept
    assert keeper.shared is keeper_class("2").shared


@pytest.mark.parametrize("name", ["metadata", "revision", "tags", "sealed", "aggregate_id"])
@pytest.mark.parametrize("future", ["", FUTURE], ids=["as written", "strings"])
@pytest.mark.parametrize("bases", ["Event", "Mixin, Event"])
def test_a_reserved_name_is_refused_for_an_annotation(
    name: str, future: str, bases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = f"    {name}: Missing\n"
    own, mixed = ("    a: int\n", field) if bases.startswith("Mixin") else (field, "    b: int\n")
    source = f"{future}from eventstore import Event\nMissing = int\nclass Mixin:\n{mixed}class Taken({bases}):\n{own}"
    with pytest.raises(ValueError, match=f"called '{name}'"):
        module_of(source, monkeypatch)


# --- the fingerprint of an aggregate's class --------------------------------------------------------------------------

RICH = """
a: int | None
b: int | str | None
c: List[int]
d: Callable[[int, str], None] | None
e: Callable[..., Any] | None
f: tuple[int, ...]
g: Literal['a', 1]
h: Literal[Colour.RED]
i: int
j: dict[str, Price]
k: Mapping[str, Price | None]
l: list[Fraction] | None
m: type[Price]
n: Any
o: dict[Fraction, Price]
"""
ORDER = """
class Order
items: list[dict]
status: str
price: Price | None
later: Later | None
by: str
id: UUID | str
class Price
amount: Decimal
currency: str
class Later
number: int
colours: set[Colour]
class Colour
"""


def test_what_a_class_consists_of_reads_the_same_on_every_python_and_in_every_form(classes: Any) -> None:
    # It makes the fingerprint of a snapshot, which processes of several Pythons share.
    assert registry.described_fields(classes.Order) == ORDER.strip().splitlines()
    assert registry.described_fields(classes.Rich)[1:16] == RICH.strip().splitlines()


CHANGES = {
    "a field added": ("    status: str =", "    added: int = 1\n    status: str ="),
    "a field of another type": ("    status: str =", "    status: str | None ="),
    "a class in a field changed": ("    currency: str =", "    currency: str | None ="),
    "a class behind a forward reference changed": ("    number: int\n", "    number: str\n"),
    "a mixin changed": ("    by: str", "    by: int"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("future", ["", FUTURE], ids=["as written", "strings"])
def test_the_fingerprint_changes_with_a_field(
    change: tuple[str, str], future: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SOURCE.count(change[0]) == 1
    before = module_of(future + SOURCE, monkeypatch).Order.class_schema()
    after = module_of(future + SOURCE.replace(*change), monkeypatch).Order.class_schema()
    assert before != after


def test_the_fingerprint_of_a_class_made_in_a_function_changes_with_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    for future in ("", FUTURE):
        made = [
            module_of(future + source, monkeypatch).made_in_a_function()[1].class_schema()
            for source in (SOURCE, SOURCE.replace("kept: list[Inner]", "kept: set[Inner]"))
        ]
        assert made[0] != made[1]


def test_a_class_variable_is_not_part_of_the_fingerprint() -> None:
    def schema(annotations: dict[str, Any]) -> str:
        return type("Some", (Aggregate,), {"__annotations__": annotations}).class_schema()

    assert schema({"a": int, "b": "ClassVar[int]"}) == schema({"a": int})


@pytest.mark.parametrize("form", ["", FUTURE])
def test_a_type_that_only_a_class_variable_mentions_is_not_registered(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from dataclasses import dataclass
from typing import ClassVar
from eventstore import Event

@dataclass
class Stored: pass

@dataclass
class Kept: pass

class Noted(Event):
    kept: ClassVar[list[Kept]] = []
    stored: Stored
"""
    module = module_of(form + source, monkeypatch)
    assert registry.reachable(module.Noted) == [module.Noted, module.Stored]
