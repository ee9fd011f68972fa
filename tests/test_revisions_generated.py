"""Random classes, changes and chains: reading what an old revision stored equals applying the chain by hand."""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import Event, EventStore, ExpectedVersion, register_type, upcasts

if TYPE_CHECKING:
    from collections.abc import Callable

Data: TypeAlias = "dict[str, Any]"

numbers = iter(range(1, 10_000_000))
names = st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.decimals(allow_nan=False) | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=5,
)


class Change(NamedTuple):
    """One upcaster, as a person would write it."""

    kind: str
    name: str
    other: str
    value: Any

    def __call__(self, data: Data) -> Data:  # noqa: PLR0911 one a kind
        match self.kind:
            case "rename":
                return {self.other if name == self.name else name: value for name, value in data.items()}
            case "add":
                return {**data, self.other: self.value}
            case "drop":
                return {name: value for name, value in data.items() if name != self.name}
            case "wrap":
                return {name: [value] if name == self.name else value for name, value in data.items()}
            case "split" if self.name in data:
                whole = data.pop(self.name)
                return data | {f"{self.name}_text": repr(whole), f"{self.name}_value": whole}
            case "merge":
                return {"all": sorted(data.items(), key=lambda pair: pair[0])}
            case _:
                return data


changes = st.builds(Change, st.sampled_from(["rename", "add", "drop", "wrap", "split", "merge"]), names, names, values)


class History(NamedTuple):
    """What the first revision stored, and the changes since."""

    first: Data
    changes: list[Change]

    def stored(self) -> list[Data]:
        """The data as each revision has it, by hand."""
        found = [self.first]
        for change in self.changes:
            found.append(change(dict(found[-1])))
        return found


histories = st.builds(History, st.dictionaries(names, values, min_size=1, max_size=4), st.lists(changes, max_size=5))


def event_class(name: str, revision: int, fields: Data, formerly: list[str]) -> type[Event]:
    body = {"__annotations__": dict.fromkeys(fields, Any), "__module__": __name__, "__qualname__": name}
    options = {"revision": revision, "formerly": formerly}
    return types.new_class(name, (Event,), options, lambda namespace: namespace.update(body))


def value_class(name: str, revision: int, fields: Data) -> type[Any]:
    made = dataclasses.make_dataclass(name, [(each, Any) for each in fields])
    made.__module__, made.__qualname__ = __name__, "GeneratedValue"
    return register_type(made, name=name, revision=revision)


def add_chain(cls: type[Any], chain: list[Callable[[Data], Data]]) -> None:
    for step, change in enumerate(chain, 1):
        upcasts(cls, from_revision=step)(change)


generated = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@generated
@given(history=histories, renamed=st.booleans())
def test_an_event_of_any_revision_is_read_as_the_chain_makes_it_by_hand(
    store: EventStore, history: History, renamed: bool
) -> None:
    number = next(numbers)
    name, before = f"Generated{number}", f"GeneratedBefore{number}"
    by_hand = history.stored()
    stream = f"Generated-{number}"
    for revision, data in enumerate(by_hand, 1):
        event = Event(event_type=before if renamed else name, data=data, revision=revision)
        store.append(stream, [event], ExpectedVersion.ANY)
    cls = event_class(name, len(by_hand), by_hand[-1], [before] if renamed else [])
    add_chain(cls, [*history.changes])
    found = store.read(stream)
    assert [event.data for event in found] == [by_hand[-1]] * len(by_hand)
    assert [event.revision for event in found] == [*range(1, len(by_hand) + 1)]
    assert {(type(event), event.event_type) for event in found} == {(cls, name)}
    store.append(stream, found[:1], ExpectedVersion.ANY)
    assert [event.data for event in store.read_all(event_types=cls)] == [by_hand[-1]] * len(by_hand)


@generated
@given(history=histories, outer=histories)
def test_a_value_of_any_revision_inside_of_an_event_is_read_as_the_chain_makes_it_by_hand(
    store: EventStore, history: History, outer: History
) -> None:
    number = next(numbers)
    name, stream = f"GeneratedValue{number}", f"Generated-{number}"
    by_hand = history.stored()
    events = outer.stored()
    for revision, data in enumerate(by_hand, 1):
        written_by = value_class(name, revision, data)
        add_chain(written_by, [*history.changes[: revision - 1]])
        for event_revision, event_data in enumerate(events, 1):
            event = Event(
                event_type=f"Generated{number}",
                data=event_data | {"value": written_by(**data)},
                revision=event_revision,
            )
            store.append(stream, [event], ExpectedVersion.ANY)
    cls = value_class(name, len(by_hand), by_hand[-1])
    add_chain(cls, [*history.changes])
    event_cls = event_class(f"Generated{number}", len(events), events[-1] | {"value": None}, [])
    add_chain(
        event_cls,
        [
            lambda data, change=change: (
                change({n: v for n, v in data.items() if n != "value"}) | {"value": data["value"]}
            )
            for change in outer.changes
        ],
    )
    found = store.read(stream)
    assert len(found) == len(by_hand) * len(events)
    for event in found:
        assert event.data == events[-1] | {"value": cls(**by_hand[-1])}
        assert type(event.data["value"]) is cls
