"""A snapshot is used only if it is of this stream and of this class as they are now: else the events are replayed."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from baskets import Basket, SnapshotsAdded, Watched, assert_loads_as_replayed, fill, snapshot_in
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    Aggregate,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    Repository,
    SnapshotStore,
    handles,
    register_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID


class Failed(Exception):
    pass


# --- of this stream ---------------------------------------------------------------------------------------------------


def test_none_is_taken_after_apply_has_raised_half_way(store: EventStore, snapshots: SnapshotStore) -> None:
    class Fragile(Basket):
        seen: int = 0

        @handles(SnapshotsAdded)
        def _added(self, event: SnapshotsAdded) -> None:
            self.seen += 1
            if event.number < 0:
                raise Failed
            super()._added(event)

    repository = Repository(store, Fragile, snapshots, snapshot_frequency=1)
    fragile = Fragile("1")
    fragile.add(1)
    with pytest.raises(Failed):
        fragile.add(-1)
    fragile.add(2)
    repository.save(fragile)
    assert (fragile.seen, fragile.version) == (3, 2)
    assert snapshot_in(snapshots, "1", Fragile) is None
    assert repository.load("1").seen == 2


def test_one_that_was_taken_in_a_transaction_that_was_rolled_back_is_not_used(
    store: EventStore, snapshots: SnapshotStore
) -> None:
    """The snapshots are on another connection, whose commit is not undone."""
    basket = fill(Repository(store, Basket, snapshots, snapshot_frequency=1), "1", 2)
    basket.add(100)
    with pytest.raises(Failed), store.transaction() as transaction:
        Repository(transaction, Basket, snapshots, snapshot_frequency=1).save(basket)
        raise Failed
    assert_loads_as_replayed(store, snapshots, "1")
    store.append("Basket-1", [SnapshotsAdded(number=7)], expected_version=2)
    assert_loads_as_replayed(store, snapshots, "1")


def test_one_that_was_kept_elsewhere_is_not_used_after_the_events_were_restored(snapshots: SnapshotStore) -> None:
    """A stream that was put back from a backup has grown past the snapshot's version by other events."""
    lost = InMemoryEventStore()
    fill(Repository(lost, Basket, snapshots, snapshot_frequency=10), "1", 12)
    restored = InMemoryEventStore()
    restored.append("Basket-1", [SnapshotsAdded(number=1000 + n) for n in range(30)], ExpectedVersion.NO_STREAM)
    assert_loads_as_replayed(restored, snapshots, "1")
    replaced = snapshot_in(snapshots, "1")
    assert replaced is not None
    assert replaced.event_id == restored.read("Basket-1", 29)[0].event_id


# --- of this class ----------------------------------------------------------------------------------------------------


def test_a_cached_property_is_computed_again_and_not_kept(store: EventStore, snapshots: SnapshotStore) -> None:
    class Cached(Basket):
        factor: int = 2

        @cached_property
        def doubled(self) -> int:
            return self.total * self.factor

    repository = Repository(store, Cached, snapshots, snapshot_frequency=1)
    cached = Cached("1")
    cached.add(3)
    assert cached.doubled == 6
    repository.save(cached)
    assert repository.load("1").__dict__ == Cached.from_events("1", store.read("Cached-1")).__dict__
    cached.add(4)
    repository.save(cached)
    assert repository.load("1").doubled == cached.total * 2


KINDS: dict[str, Callable[[int], Any]] = {"int": int, "str": str, "float": float, "list": lambda n: [n], "bool": bool}
names = st.sampled_from(["alpha", "beta", "gamma"])
members = st.dictionaries(names, st.sampled_from([*KINDS]), max_size=3)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a generated class of aggregates has, and where: each member's name and kind."""

    on_class: dict[str, str]
    in_init: dict[str, str]
    nested: dict[str, str]
    """Of a dataclass that stands in a bare list, which no annotation mentions."""


shapes = st.builds(
    Shape,
    on_class=members.map(lambda found: {f"class_{name}": kind for name, kind in found.items()}),
    in_init=members.map(lambda found: {f"init_{name}": kind for name, kind in found.items()}),
    nested=members,
)


def release(shape: Shape) -> type[Aggregate[Any]]:
    """A class of this shape, as the next deployment would define it: of the same module and name."""
    part: Any = dataclasses.make_dataclass(
        "ValidityPart", [(name, KINDS[kind] if kind != "list" else list, None) for name, kind in shape.nested.items()]
    )
    part.__module__, part.__qualname__ = __name__, "ValidityPart"
    register_type(part)

    def init(self: Any, id: UUID | str) -> None:  # noqa: A002 as the class above
        Aggregate.__init__(self, id)
        for name, kind in shape.in_init.items():
            setattr(self, name, KINDS[kind](0))

    def added(self: Any, event: SnapshotsAdded) -> None:
        for name, kind in (shape.on_class | shape.in_init).items():
            setattr(self, name, KINDS[kind](event.number))
        self.parts.append(part(**{name: KINDS[kind](event.number) for name, kind in shape.nested.items()}))

    body: dict[str, Any] = {
        "__annotations__": {"parts": list, **dict.fromkeys(shape.on_class, Any)},
        "category": "Generated",
        "parts": field(default_factory=list),
        **{name: KINDS[kind](0) for name, kind in shape.on_class.items()},
        "__init__": init,
        "_added": handles(SnapshotsAdded)(added),
    }
    return type("Generated", (Aggregate,), body)


def described(aggregate: Aggregate[Any]) -> dict[str, Any]:
    """The state with the types of its values, as True == 1 == 1.0."""
    state = {name: value for name, value in vars(aggregate).items() if name != "parts"}
    parts = [vars(part) for part in vars(aggregate)["parts"]]
    return {name: (type(value), value) for name, value in state.items()} | {"parts": repr(parts)}


@settings(max_examples=100, deadline=None)
@given(history=st.lists(shapes, min_size=2, max_size=4))
def test_after_any_change_of_a_class_what_is_loaded_is_what_is_replayed(history: list[Shape]) -> None:
    store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    store.append("Generated-1", [SnapshotsAdded(number=number) for number in range(3)], ExpectedVersion.NO_STREAM)
    for shape in history:
        cls = release(shape)
        repository = Repository(store, cls, snapshots, snapshot_frequency=1)
        replayed = cls.from_events("1", store.read("Generated-1"))
        assert described(repository.load("1")) == described(replayed)
        repository.update("1", lambda found: found._record(SnapshotsAdded(number=5)))


def test_the_same_class_in_the_next_process_uses_the_snapshot(events: Watched, snapshots: SnapshotStore) -> None:
    shape = Shape({"class_alpha": "int"}, {"init_beta": "list"}, {"gamma": "str"})
    first = release(shape)("1")
    for number in range(12):
        first._record(SnapshotsAdded(number=number))
    Repository(events, type(first), snapshots, snapshot_frequency=10).save(first)
    again = release(shape)
    loaded = Repository(events, again, snapshots, snapshot_frequency=10).load("1")
    assert events.read_count == 1  # The event that the snapshot stands at.
    assert described(loaded) == described(again.from_events("1", events.read("Generated-1")))


def test_a_constant_that_the_class_begins_with_counts_as_a_change(store: EventStore, snapshots: SnapshotStore) -> None:
    def define(start: int) -> type[Basket]:
        cls = type("Started", (Basket,), {"start": start, "__module__": __name__, "__qualname__": "Started"})
        assert issubclass(cls, Basket)
        return cls

    first = define(1)("1")
    first.add(1, 2, 3)
    Repository(store, type(first), snapshots, snapshot_frequency=1).save(first)
    assert vars(Repository(store, define(2), snapshots, snapshot_frequency=1).load("1"))["start"] == 2
