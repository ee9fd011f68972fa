"""Snapshots are only a shorter way: whatever happens to one, what is loaded is what the events say. Repositories."""

from __future__ import annotations

import dataclasses
import random
import signal
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from baskets import (
    Basket,
    Failing,
    SnapshotsAdded,
    SnapshotsPart,
    Watched,
    WatchedSnapshots,
    assert_loads_as_replayed,
    fill,
    snapshot_in,
    warnings_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    Aggregate,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidArgument,
    Repository,
    Snapshot,
    SnapshotError,
    SnapshotStore,
    StoreUnavailable,
    handles,
)
from eventstore.codec import decode
from eventstore.core.loading import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable
from eventstore.core.snapshots import aggregate_from, checksum_of, snapshot_of

# --- when they are taken ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saves", "versions"),
    [
        ([99], []),
        ([100], [100]),
        ([101], [101]),
        ([250], [250]),
        ([99, 1], [100]),
        ([99, 2], [101]),
        ([50, 49, 1, 99, 1, 1], [100, 200]),
        ([100, 1, 98], [100]),
        ([100, 250], [100, 350]),
        ([1] * 3, []),
    ],
    ids=str,
)
def test_one_is_taken_when_a_save_crosses_a_multiple_of_the_frequency(
    events: Watched, saved: WatchedSnapshots, saves: list[int], versions: list[int]
) -> None:
    repository = Repository(events, Basket, saved)  # 100 is the default.
    basket = Basket("1")
    for count in saves:
        basket.add(*range(count))
        repository.save(basket)
    assert [snapshot.version for snapshot in saved.saved] == versions
    assert basket.version == sum(saves)
    if versions:
        found = snapshot_in(saved, "1")
        assert found is not None
        assert found.version == versions[-1]


def test_every_save_takes_a_snapshot_with_a_frequency_of_one(events: Watched, saved: WatchedSnapshots) -> None:
    repository = Repository(events, Basket, saved, snapshot_frequency=1)
    basket = Basket("1")
    for number in range(3):
        basket.add(number)
        repository.save(basket)
        repository.save(basket)  # Nothing to save is no save.
    assert [snapshot.version for snapshot in saved.saved] == [1, 2, 3]


@pytest.mark.parametrize("frequency", [0, -1, 1.5, "10", True, None])
def test_an_invalid_snapshot_frequency_is_refused(frequency: Any) -> None:
    with pytest.raises(InvalidArgument, match="snapshot_frequency must be an int of at least 1"):
        Repository(InMemoryEventStore(), Basket, snapshot_frequency=frequency)


def test_a_refused_save_takes_none(events: Watched, saved: WatchedSnapshots, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 5)
    stale = Basket("1")
    stale.add(*range(20))
    with pytest.raises(ConcurrencyError):
        baskets.save(stale)
    assert saved.saved == []
    assert_loads_as_replayed(events, saved, "1")


def test_a_load_starts_from_the_snapshot(events: Watched, saved: WatchedSnapshots, baskets: Repository[Basket]) -> None:
    basket = fill(baskets, "1", 25)
    basket.add(7, 8)
    baskets.save(basket)
    events.reads.clear()
    loaded = baskets.load("1")
    # One event more than are needed: the one that the snapshot stands at, which shows that the stream got there.
    assert events.reads == [("Basket-1", 24, PAGE)]
    assert events.read_count == 3
    assert loaded.version == 27
    assert loaded.__dict__ == basket.__dict__
    assert_loads_as_replayed(events, saved, "1")


def test_a_load_without_one_reads_all(events: Watched) -> None:
    repository = Repository(events, Basket)
    basket = fill(repository, "1", 25)
    assert repository.load("1").__dict__ == basket.__dict__
    assert events.read_count == 25


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 1])
@pytest.mark.parametrize("with_snapshot", [False, True], ids=["replayed", "from a snapshot"])
def test_a_long_history_is_read_in_pages(count: int, *, with_snapshot: bool) -> None:
    events, snapshots = Watched(InMemoryEventStore()), InMemorySnapshotStore()
    repository = Repository(events, Basket, snapshots if with_snapshot else None, snapshot_frequency=10)
    fill(repository, "1", 10)
    fast_writer = Repository(events, Basket)
    basket = fast_writer.load("1")
    basket.add(*range(count - 10))
    fast_writer.save(basket)
    events.read_count = 0
    loaded = repository.load("1")
    assert loaded.__dict__ == basket.__dict__
    assert events.read_count == (count - 9 if with_snapshot else count)


@pytest.mark.parametrize("count", [9, 10, 11, 20, 25])
def test_a_load_releases_each_event_once_it_is_applied(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A page of them would live long enough to make the garbage collector look at all of it, time and again."""
    monkeypatch.setattr("eventstore.core.loading.PAGE", 10)
    alive: weakref.WeakSet[Event] = weakref.WeakSet()
    most_alive: list[int] = []

    class SnapshotsNoting(Basket):
        category = "Basket"

        def apply(self, event: Event) -> None:
            alive.add(event)
            most_alive.append(len(alive))
            super().apply(event)

    basket = fill(Repository(store, Basket), "1", count)
    assert Repository(store, SnapshotsNoting).load("1").total == basket.total
    assert len(most_alive) == count
    assert max(most_alive) <= 2


def test_ids_of_both_kinds_have_snapshots(
    events: Watched, saved: WatchedSnapshots, baskets: Repository[Basket]
) -> None:
    for aggregate_id in (uuid4(), "a-b", "ä" * 100):
        fill(baskets, aggregate_id, 12)
        events.read_count = 0
        loaded = baskets.load(aggregate_id)
        assert (loaded.id, loaded.version, events.read_count) == (aggregate_id, 12, 1)
        assert_loads_as_replayed(events, saved, aggregate_id)


# --- whatever happens to one ------------------------------------------------------------------------------------------


def flipped(packed: bytes) -> bytes:
    return bytes([packed[0] ^ 0x40, *packed[1:]])


def resigned(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """Changed by somebody who knows how the checksum is made."""
    changed = dataclasses.replace(snapshot, **changes)
    return dataclasses.replace(changed, checksum=checksum_of(changed))


VOID = {
    "flipped bits of the state": lambda s: dataclasses.replace(s, state=flipped(s.state)),
    "flipped bits of the checksum": lambda s: dataclasses.replace(s, checksum=flipped(s.checksum)),
    "no checksum": lambda s: dataclasses.replace(s, checksum=b""),
    "cut off": lambda s: dataclasses.replace(s, state=s.state[: len(s.state) // 2]),
    "empty": lambda s: dataclasses.replace(s, state=b""),
    "another version": lambda s: dataclasses.replace(s, version=s.version - 1),
    "cut off, with the right checksum": lambda s: resigned(s, state=s.state[:-1]),
    "no map": lambda s: resigned(s, state=b"\x90"),
    "no msgpack": lambda s: resigned(s, state=b"\xc1"),
    "ahead of its stream": lambda s: resigned(s, version=s.version + 1),
    "far ahead of its stream": lambda s: resigned(s, version=2**63 - 1),
    "of an extension nobody knows": lambda s: resigned(s, state=b"\x81\xa1a\xc7\x00\x7f"),
    "of a type that is registered no more": lambda s: resigned(
        s, state=s.state.replace(b"SnapshotsPart", b"SnapshotsPast")
    ),
}


@pytest.mark.parametrize("damage", VOID.values(), ids=VOID)
def test_a_void_snapshot_is_replaced_and_the_events_are_replayed(
    events: Watched, saved: WatchedSnapshots, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(events, Basket, saved, snapshot_frequency=10)
    basket = fill(repository, "1", 12)
    sound = saved.saved[-1]
    saved.save(damage(sound))
    saved.saved.clear()

    loaded = assert_loads_as_replayed(events, saved, "1")
    assert loaded.__dict__ == basket.__dict__
    (warning,) = warnings_in(caplog)
    assert "Basket" in warning
    assert "1" in warning
    # Replaced by one of the same state, by the load that met it.
    assert snapshot_in(saved, "1") == sound
    assert saved.saved == [sound]

    caplog.clear()
    events.read_count = 0
    assert_loads_as_replayed(events, saved, "1")
    assert warnings_in(caplog) == []
    assert events.read_count == 12 + 1  # The replay to compare with, and the load.


@pytest.mark.parametrize("other", ["2", "Order 1"])
def test_one_of_another_aggregate_is_void(
    events: Watched, saved: WatchedSnapshots, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a row that somebody copied."""

    class Order(Basket):
        pass

    repository = Repository(events, Basket, saved, snapshot_frequency=10)
    fill(repository, "1", 12)
    sound = saved.saved[-1]
    foreign = Basket("2") if other == "2" else Order("1")
    foreign.add(*range(100, 112))
    Repository(events, type(foreign), saved, snapshot_frequency=10).save(foreign)
    copied = saved.saved[-1]
    assert copied != sound
    # Under the key of the first: such a store is one that mixes rows up.
    mixing = Mixing(saved, copied)
    loaded = Repository(events, Basket, mixing, snapshot_frequency=10).load("1")
    assert loaded.__dict__ == Basket.from_events("1", events.read("Basket-1")).__dict__
    assert len(warnings_in(caplog)) == 1
    assert snapshot_in(saved, "1") == sound


class Mixing(WatchedSnapshots):
    def __init__(self, store: SnapshotStore, found: Snapshot) -> None:
        super().__init__(store)
        self._found = found

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:  # noqa: ARG002 the interface's
        return self._found


HISTORY = [SnapshotsAdded(number=number) for number in range(12)]
SOUND = snapshot_of(Basket.from_events("1", HISTORY))
BITS = [(name, at) for name in ("state", "checksum", "class_schema") for at in range(len(getattr(SOUND, name)))]


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(BITS), bits=st.integers(1, 255), cut=st.booleans())
def test_no_changed_byte_of_one_changes_what_is_loaded(place: tuple[str, int], bits: int, *, cut: bool) -> None:
    name, at = place
    store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    store.append("Basket-1", HISTORY, ExpectedVersion.NO_STREAM)
    value = getattr(SOUND, name)
    changed = [*(value.encode() if name == "class_schema" else value)]
    changed[at] ^= bits
    damaged = bytes(changed[:at] if cut else changed)
    void = dataclasses.replace(SOUND, **{name: damaged.decode("latin-1") if name == "class_schema" else damaged})
    snapshots.save(void)
    with pytest.raises(SnapshotError):
        aggregate_from(Basket, "1", void)
    assert_loads_as_replayed(store, snapshots, "1")
    assert snapshot_in(snapshots, "1") == SOUND


def test_a_class_that_changed_does_not_use_the_old_snapshot(
    events: Watched, saved: WatchedSnapshots, caplog: pytest.LogCaptureFixture
) -> None:
    """The same category before and after a deployment; every release loads what its own handlers make of the events."""

    def define(tags: str, /, *, extra: str = "extra", version: int = 1, kind: Any = int) -> type[Aggregate[Any]]:
        part = dataclasses.make_dataclass("SnapshotsLine", [("number", kind), (tags, tuple, ())])
        part.__module__, part.__qualname__ = __name__, "SnapshotsLine"

        def added(self: Any, event: SnapshotsAdded) -> None:
            self.lines.append(part(event.number, (version,)))
            setattr(self, extra, getattr(self, extra) + event.number)

        body = {
            "__annotations__": {"lines": list[part]},
            "category": "Lines",
            "snapshot_version": version,
            "lines": field(default_factory=list),
            extra: 0,
            "_added": handles(SnapshotsAdded)(added),
        }
        return type("Lines", (Aggregate,), body)

    aggregate = define("tags")("1")
    for number in range(12):
        aggregate._record(SnapshotsAdded(number=number))
    Repository(events, type(aggregate), saved, snapshot_frequency=10).save(aggregate)
    releases = {
        "a nested field renamed": define("labels"),
        "a nested field of another type": define("labels", kind=str),
        "a field of the class renamed": define("labels", extra="sum"),
        "snapshot_version raised": define("labels", extra="sum", version=2),
    }
    for change, release in releases.items():
        caplog.clear()
        replayed = release.from_events("1", events.read("Lines-1"))
        for expected in (12, 1):  # All of the history at first, then only what its own snapshot stands at.
            events.read_count = 0
            loaded = Repository(events, release, saved, snapshot_frequency=10).load("1")
            assert loaded.__dict__ == replayed.__dict__, change
            assert events.read_count == expected, change
        assert warnings_in(caplog) == []
        assert saved.saved[-1].class_schema == release.class_schema()


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("down"), SnapshotError("of its own"), RuntimeError("a bug"), KeyError("x"), StopIteration(1)],
    ids=lambda error: type(error).__name__,
)
def test_no_error_of_a_snapshot_store_reaches_the_caller(
    store: EventStore, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(store, Basket, Failing(error), snapshot_frequency=10)
    basket = fill(repository, "1", 12)
    assert (basket.version, basket.pending) == (12, ())
    assert len(warnings_in(caplog)) == 1
    assert repository.load("1").__dict__ == basket.__dict__
    assert len(warnings_in(caplog)) >= 2
    assert repository.update("1", lambda found: found.add(1)).version == 13


class SoftTimeLimit(Exception):
    """What a task queue raises in a handler of a signal."""


class Interrupted(InMemorySnapshotStore):
    """A snapshot store in whose calls a signal arrives."""

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        signal.raise_signal(signal.SIGUSR1)
        return super().load(aggregate_type, aggregate_id, class_schema)

    def save(self, snapshot: Snapshot) -> None:
        signal.raise_signal(signal.SIGUSR1)
        super().save(snapshot)


class Handles:
    """A handler of a signal that is an object."""

    def __call__(self, *_: object) -> None:
        raise SoftTimeLimit

    def method(self, *_: object) -> None:
        raise SoftTimeLimit


def limit(*_: object) -> None:
    raise SoftTimeLimit


@pytest.mark.parametrize("handler", [limit, Handles(), Handles().method, partial(limit, 1)])
def test_what_a_signal_raises_while_a_snapshot_is_loaded_or_stored_reaches_the_caller(
    store: EventStore, handler: Callable[..., None]
) -> None:
    repository = Repository(store, Basket, Interrupted(), snapshot_frequency=10)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SoftTimeLimit):
            fill(repository, "1", 12)
        with pytest.raises(SoftTimeLimit):
            repository.load("1")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_state_that_can_not_be_stored_does_not_fail_the_save(
    events: Watched, saved: WatchedSnapshots, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Basket):
        def __init__(self, id: UUID | str) -> None:  # noqa: A002 as the class above
            super().__init__(id)
            self.callback = print

    odd = Odd("1")
    odd.add(*range(12))
    repository = Repository(events, Odd, saved, snapshot_frequency=10)
    repository.save(odd)
    assert (odd.version, odd.pending, saved.saved) == (12, (), [])
    (warning,) = warnings_in(caplog)
    assert "no snapshot of Odd 1 could be stored" in warning
    assert caplog.records[0].exc_info is not None
    assert repository.load("1").total == odd.total


def test_what_is_kept_can_be_overridden(events: Watched, saved: WatchedSnapshots) -> None:
    class Lean(Basket):
        def snapshot_state(self) -> dict[str, Any]:
            return {"t": self.total, "p": [part.number for part in self.parts], "d": self.last_by_digit}

        def restore_state(self, state: dict[str, Any]) -> None:
            self.total = state["t"]
            self.parts = [SnapshotsPart(number, (str(number),)) for number in state["p"]]
            self.last_by_digit = state["d"]

    lean = Lean("1")
    lean.add(*range(15))
    repository = Repository(events, Lean, saved, snapshot_frequency=10)
    repository.save(lean)
    assert decode(saved.saved[-1].state)["attributes"] == lean.snapshot_state()
    events.read_count = 0
    assert repository.load("1").__dict__ == lean.__dict__
    assert events.read_count == 1


def test_a_restore_that_fails_is_a_void_snapshot(
    events: Watched, saved: WatchedSnapshots, caplog: pytest.LogCaptureFixture
) -> None:
    class Fussy(Basket):
        def restore_state(self, state: dict[str, Any]) -> None:  # noqa: ARG002 the interface's
            raise KeyError("what it looks for")

    fussy = Fussy("1")
    fussy.add(*range(12))
    repository = Repository(events, Fussy, saved, snapshot_frequency=10)
    repository.save(fussy)
    assert repository.load("1").__dict__ == fussy.__dict__
    assert len(warnings_in(caplog)) == 1


def test_random_histories_load_as_they_are_replayed(events: Watched, saved: WatchedSnapshots) -> None:
    choose = random.Random(3)  # noqa: S311 no secret
    for aggregate_id in map(str, range(5)):
        repository = Repository(events, Basket, saved, snapshot_frequency=choose.randrange(1, 20))
        basket = Basket(aggregate_id)
        for _ in range(12):
            basket.add(*(choose.randrange(1000) for _ in range(choose.randrange(1, 12))))
            repository.save(basket)
            if choose.random() < 0.5:
                basket = repository.load(aggregate_id)
            assert_loads_as_replayed(events, saved, aggregate_id)


def test_none_is_taken_of_a_state_that_holds_more_than_the_events(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, snapshot_frequency=1)
    basket = Basket("strayed")
    basket.add(1)
    basket.clear_pending()
    basket.add(2)
    repository.save(basket)
    assert snapshot_in(snapshots, "strayed") is None
    assert repository.load("strayed").version == 1


def test_one_whose_restoring_raises_anything_is_replaced(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, snapshot_frequency=1)
    basket = Basket("broken")
    basket.add(1)
    repository.save(basket)
    first = snapshot_in(snapshots, "broken")
    assert first is not None
    broken = pytest.MonkeyPatch()
    broken.setattr(Basket, "restore_state", lambda *_: 1 / 0)
    seen: list[Snapshot] = []
    broken.setattr(snapshots, "save", seen.append)
    try:
        assert repository.load("broken").version == 1
    finally:
        broken.undo()
    assert len(seen) == 1


def test_one_is_taken_by_a_load_that_had_to_replay_more_than_the_frequency(
    store: EventStore, snapshots: SnapshotStore
) -> None:
    filled = Basket("old")
    filled.add(*range(25))
    Repository(store, Basket).save(filled)
    repository = Repository(store, Basket, snapshots, snapshot_frequency=10)
    assert repository.load("old").version == 25
    taken = snapshot_in(snapshots, "old")
    assert taken is not None
    assert taken.version == 25


class SnapshotsLineAdded(Event):
    sku: str


class SnapshotsQuantityChanged(Event):
    sku: str
    quantity: int


@dataclass
class SnapshotsLine:
    sku: str
    quantity: int


class SharedLines(Aggregate["SharedLines"]):
    """What it holds, it holds at two places."""

    lines: list[SnapshotsLine] = field(default_factory=list)
    by_sku: dict[str, SnapshotsLine] = field(default_factory=dict)

    @handles(SnapshotsLineAdded)
    def _added(self, event: SnapshotsLineAdded) -> None:
        line = self.by_sku[event.sku] = SnapshotsLine(event.sku, 1)
        self.lines.append(line)

    @handles(SnapshotsQuantityChanged)
    def _changed(self, event: SnapshotsQuantityChanged) -> None:
        self.by_sku[event.sku].quantity = event.quantity


def test_no_snapshot_divides_what_a_state_holds_at_two_places(
    store: EventStore, snapshots: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(store, SharedLines, snapshots, snapshot_frequency=1)
    shared = SharedLines("1")
    shared._record(SnapshotsLineAdded(sku="teapot"))
    repository.save(shared)
    assert "it holds one SnapshotsLine at two places" in caplog.text
    repository.update("1", lambda lines: lines._record(SnapshotsQuantityChanged(sku="teapot", quantity=10)))
    loaded = repository.load("1")
    assert loaded.lines == [SnapshotsLine("teapot", 10)]
    assert loaded.lines[0] is loaded.by_sku["teapot"]
