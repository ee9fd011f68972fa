"""Snapshots are only a shorter way: whatever happens to one, what is loaded is what the events say. Repositories."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import random
import weakref
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    Aggregate,
    AggregateNotFound,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidArgument,
    InvalidOperation,
    Repository,
    Snapshot,
    SnapshotError,
    SnapshotStore,
    StoreUnavailable,
    handles,
)
from eventstore import event as events_module
from eventstore.codec import encode
from eventstore.core import repositories as operations
from eventstore.core.repositories import PAGE, aggregate_from, snapshot_of


class SnapshotsAdded(Event):
    number: int


@dataclass
class SnapshotsPart:
    number: int
    tags: tuple[str, ...] = ()


class Basket(Aggregate["Basket"]):
    """Its state depends on the order of the events, and on every one of them."""

    total: int = 0
    parts: list[SnapshotsPart] = field(default_factory=list)
    last_by_digit: dict[int, int] = field(default_factory=dict)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self._record(SnapshotsAdded(number=number))

    @handles(SnapshotsAdded)
    def _added(self, event: SnapshotsAdded) -> None:
        self.total = self.total * 31 % 1_000_003 + event.number
        self.parts = [*self.parts[-5:], SnapshotsPart(event.number, (str(event.number),))]
        self.last_by_digit[event.number % 10] = event.number


class Watched(EventStore):
    """A store that notes what it was asked for; a wrapper as users may write one."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.reads: list[tuple[str, int, int | None]] = []
        self.read_count = 0
        self.before_append: Any = None

    def append(self, stream_id: str, events: Any, expected_version: int) -> int:
        if self.before_append is not None:
            self.before_append()
        return self._store.append(stream_id, events, expected_version)

    def read(self, stream_id: str, from_version: int = 0, to_version: int | None = None, **options: Any) -> list[Event]:
        self.reads.append((stream_id, from_version, options.get("limit")))
        found = self._store.read(stream_id, from_version, to_version, **options)
        self.read_count += len(found)
        return found

    def read_all(self, *args: Any, **options: Any) -> Any:
        return self._store.read_all(*args, **options)

    def transaction(self) -> Any:
        return self._store.transaction()

    def bind(self, connection: Any) -> EventStore:
        return self._store.bind(connection)


class WatchedSnapshots(SnapshotStore):
    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self.saved: list[Snapshot] = []

    def load(self, aggregate_type: str, aggregate_id: str) -> Snapshot | None:
        return self._store.load(aggregate_type, aggregate_id)

    def save(self, snapshot: Snapshot) -> None:
        self._store.save(snapshot)
        self.saved.append(snapshot)

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        self._store.delete(aggregate_type, aggregate_id)


class Failing(SnapshotStore):
    """As a store that is down, or was written by somebody in a hurry."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def load(self, aggregate_type: str, aggregate_id: str) -> Snapshot | None:  # noqa: ARG002 the interface's
        raise self._error

    def save(self, snapshot: Snapshot) -> None:  # noqa: ARG002 the interface's
        raise self._error

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:  # noqa: ARG002 the interface's
        raise self._error


@pytest.fixture
def events(store: EventStore) -> Watched:
    return Watched(store)


@pytest.fixture
def saved(snapshots: SnapshotStore) -> WatchedSnapshots:
    return WatchedSnapshots(snapshots)


@pytest.fixture
def baskets(events: Watched, saved: WatchedSnapshots) -> Repository[Basket]:
    return Repository(events, Basket, saved, snapshot_frequency=10)


def fill(repository: Repository[Basket], aggregate_id: UUID | str, count: int) -> Basket:
    basket = Basket(aggregate_id)
    basket.add(*range(count))
    repository.save(basket)
    return basket


def assert_loads_as_replayed(store: EventStore, snapshots: SnapshotStore | None, aggregate_id: UUID | str) -> Basket:
    """What is loaded through snapshots is what the events alone lead to."""
    replayed = Basket.from_events(aggregate_id, store.read(f"Basket-{aggregate_id}"))
    loaded = Repository(store, Basket, snapshots, snapshot_frequency=10).load(aggregate_id)
    assert loaded.__dict__ == replayed.__dict__
    return loaded


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    assert {record.name for record in caplog.records} <= {"eventstore"}
    return caplog.messages


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
        found = saved.load("Basket", "1")
        assert found is not None
        assert found.version == versions[-1]


def test_every_save_takes_one_with_a_frequency_of_one(events: Watched, saved: WatchedSnapshots) -> None:
    repository = Repository(events, Basket, saved, snapshot_frequency=1)
    basket = Basket("1")
    for number in range(3):
        basket.add(number)
        repository.save(basket)
        repository.save(basket)  # Nothing to save is no save.
    assert [snapshot.version for snapshot in saved.saved] == [1, 2, 3]


@pytest.mark.parametrize("frequency", [0, -1, 1.5, "10", True, None])
def test_a_frequency_that_can_not_be_is_refused(frequency: Any) -> None:
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


def test_a_load_starts_from_it(events: Watched, saved: WatchedSnapshots, baskets: Repository[Basket]) -> None:
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
def test_a_load_lets_each_event_go_when_it_is_applied(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A page of them would live long enough to make the garbage collector look at all of it, time and again."""
    monkeypatch.setattr(operations, "PAGE", 10)
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
    return dataclasses.replace(changed, checksum=operations._checksum(changed))


VOID = {
    "flipped bits of the state": lambda s: dataclasses.replace(s, state=flipped(s.state)),
    "flipped bits of the checksum": lambda s: dataclasses.replace(s, checksum=flipped(s.checksum)),
    "no checksum": lambda s: dataclasses.replace(s, checksum=b""),
    "another schema": lambda s: dataclasses.replace(s, class_schema="0" * 32),
    "no schema": lambda s: dataclasses.replace(s, class_schema=""),
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
def test_one_that_is_void_is_replaced_and_the_events_are_replayed(
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
    assert saved.load("Basket", "1") == sound
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
    assert saved.load("Basket", "1") == sound


class Mixing(WatchedSnapshots):
    def __init__(self, store: SnapshotStore, found: Snapshot) -> None:
        super().__init__(store)
        self._found = found

    def load(self, aggregate_type: str, aggregate_id: str) -> Snapshot | None:  # noqa: ARG002 the interface's
        return self._found


def sound_snapshot() -> Snapshot:
    return snapshot_of(Basket.from_events("1", [SnapshotsAdded(number=number) for number in range(12)]))


SOUND = sound_snapshot()
BITS = [(name, at) for name in ("state", "checksum", "class_schema") for at in range(len(getattr(SOUND, name)))]


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(BITS), bits=st.integers(1, 255), cut=st.booleans())
def test_no_changed_byte_of_one_changes_what_is_loaded(place: tuple[str, int], bits: int, *, cut: bool) -> None:
    name, at = place
    store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    basket = fill(Repository(store, Basket), "1", 12)
    value = getattr(SOUND, name)
    changed = [*(value.encode() if name == "class_schema" else value)]
    changed[at] ^= bits
    damaged = bytes(changed[:at] if cut else changed)
    void = dataclasses.replace(SOUND, **{name: damaged.decode("latin-1") if name == "class_schema" else damaged})
    snapshots.save(void)
    with pytest.raises(SnapshotError):
        aggregate_from(Basket, "1", void)
    assert assert_loads_as_replayed(store, snapshots, "1").__dict__ == basket.__dict__
    assert snapshots.load("Basket", "1") == SOUND


def test_a_class_that_changed_makes_it_void(
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
        for expected in (1, 0):  # Void at first, then replaced.
            loaded = Repository(events, release, saved, snapshot_frequency=10).load("1")
            assert loaded.__dict__ == replayed.__dict__, change
            assert len(warnings_in(caplog)) == expected, change
            caplog.clear()
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
    assert saved.saved[-1].state == encode("test", lean.snapshot_state())
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


# --- repositories -----------------------------------------------------------------------------------------------------


def test_what_was_never_stored_is_not_found(baskets: Repository[Basket]) -> None:
    missing = uuid4()
    with pytest.raises(AggregateNotFound, match=f"there is no Basket with id {missing}") as caught:
        baskets.load(missing)
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == (Basket, missing)
    with pytest.raises(AggregateNotFound):
        baskets.update(missing, lambda _: None)


def test_exists_tells_whether_any_event_is_stored(events: Watched, baskets: Repository[Basket]) -> None:
    assert not baskets.exists("1")
    fill(baskets, "1", 15)
    assert baskets.exists("1")
    assert not baskets.exists("2")
    assert events.reads[-1] == ("Basket-2", 0, 1)


@pytest.mark.parametrize("aggregate_id", ["", "a\0b", "x" * 256, 1, None])
def test_an_id_that_can_not_be_is_refused(baskets: Repository[Basket], aggregate_id: Any) -> None:
    for call in (baskets.load, baskets.exists, lambda i: baskets.update(i, lambda _: None)):
        with pytest.raises(InvalidArgument, match="the id of Basket"):
            call(aggregate_id)


def test_a_save_without_pending_events_does_nothing(events: Watched, baskets: Repository[Basket]) -> None:
    events.before_append = lambda: pytest.fail("an append")
    baskets.save(Basket("1"))
    assert not baskets.exists("1")


def test_a_save_clears_what_was_pending_and_sets_the_version(baskets: Repository[Basket]) -> None:
    basket = fill(baskets, "1", 3)
    assert (basket.version, basket.pending) == (3, ())
    basket.add(4)
    baskets.save(basket)
    assert (basket.version, baskets.load("1").version) == (4, 4)


def test_only_its_own_class_can_be_saved(store: EventStore) -> None:
    class Other(Aggregate["Other"]):
        pass

    class Below(Basket):
        pass

    repository = Repository(store, Basket)
    for nonsense in (Other("1"), None, "Basket"):
        with pytest.raises(InvalidArgument, match="this repository keeps Baskets, not a"):
            repository.save(nonsense)  # type: ignore[arg-type]
    for nonsense in (Other("1"), "Basket", int, None):
        with pytest.raises(InvalidArgument, match="no class of aggregates"):
            Repository(store, nonsense)  # type: ignore[type-var]


def test_a_conflict_leaves_the_aggregate_as_it_was_and_every_later_save_fails_too(
    store: EventStore, baskets: Repository[Basket]
) -> None:
    fill(baskets, "1", 3)
    mine, theirs = baskets.load("1"), baskets.load("1")
    theirs.add(100)
    baskets.save(theirs)
    mine.add(200, 201)
    before = {name: repr(value) for name, value in mine.__dict__.items()}
    for _ in range(3):
        with pytest.raises(ConcurrencyError) as caught:
            baskets.save(mine)
        assert (caught.value.stream_id, caught.value.expected_version) == ("Basket-1", 3)
        assert caught.value.actual_version == 4
        assert {name: repr(value) for name, value in mine.__dict__.items()} == before
        assert [event.data["number"] for event in mine.pending] == [200, 201]
        assert mine.version == 3
    assert len(store.read("Basket-1")) == 4


def test_creating_what_exists_is_a_conflict(baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 1)
    second = Basket("1")
    second.add(2)
    with pytest.raises(ConcurrencyError, match="at version 1"):
        baskets.save(second)


class Interfering:
    """Another writer, who is faster the first few times."""

    def __init__(self, events: Watched, times: int) -> None:
        self._events = events
        self._left = times
        events.before_append = self

    def __call__(self) -> None:
        if self._left:
            self._left -= 1
            self._events._store.append("Basket-1", [SnapshotsAdded(number=1000)], ExpectedVersion.ANY)


def test_update_loads_changes_and_saves_again_after_a_conflict(events: Watched, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)
    Interfering(events, 2)
    seen: list[int] = []

    def change(basket: Basket) -> str:
        seen.append(basket.version)
        basket.add(7)
        return "not what update returns"

    found = baskets.update("1", change)
    assert type(found) is Basket
    assert (found.version, found.pending) == (6, ())
    assert seen == [3, 4, 5]
    assert [event.data["number"] for event in events.read("Basket-1")] == [0, 1, 2, 1000, 1000, 7]
    assert found.__dict__ == baskets.load("1").__dict__


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_update_gives_up_after_so_many_attempts_and_raises_the_last_conflict(
    events: Watched, baskets: Repository[Basket], attempts: int
) -> None:
    fill(baskets, "1", 3)
    Interfering(events, 100)
    calls: list[int] = []

    def change(basket: Basket) -> None:
        calls.append(basket.version)
        basket.add(7)

    with pytest.raises(ConcurrencyError) as caught:
        baskets.update("1", change, attempts=attempts)
    assert len(calls) == attempts
    assert caught.value.expected_version == 2 + attempts
    assert len(events.read("Basket-1")) == 3 + attempts


@pytest.mark.parametrize("attempts", [0, -1, 1.0, "1", True, None])
def test_attempts_that_can_not_be_are_refused(baskets: Repository[Basket], attempts: Any) -> None:
    fill(baskets, "1", 1)
    with pytest.raises(InvalidArgument, match="attempts must be an int of at least 1"):
        baskets.update("1", lambda _: pytest.fail("called"), attempts=attempts)


@pytest.mark.parametrize(
    "error",
    [InvalidOperation("not now"), RuntimeError("a bug"), ConcurrencyError("Other-1", 1, 2)],
    ids=lambda error: type(error).__name__,
)
def test_what_a_change_raises_is_raised_at_once_and_nothing_is_stored(
    events: Watched, baskets: Repository[Basket], error: Exception
) -> None:
    fill(baskets, "1", 3)
    calls = itertools.count()

    def change(basket: Basket) -> None:
        next(calls)
        basket.add(7)
        raise error

    with pytest.raises(type(error)) as caught:
        baskets.update("1", change)
    assert caught.value is error
    assert next(calls) == 1
    assert len(events.read("Basket-1")) == 3


def test_a_change_that_raises_stop_iteration_is_an_error_and_no_result(baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)

    def change(_: Basket) -> None:
        raise StopIteration(1)

    with pytest.raises(RuntimeError) as caught:  # As out of every generator.
        baskets.update("1", change)
    assert type(caught.value.__cause__) is StopIteration


def test_update_without_a_change_saves_nothing(events: Watched, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)
    events.before_append = lambda: pytest.fail("an append")
    assert baskets.update("1", lambda _: None).version == 3


# --- the example of the design, letter for letter ---------------------------------------------------------------------

EXAMPLE = """\
@dataclass
class OrderCreated(Event):                    # exactly this form runs, a default before a non-default included
    event_type: str = "OrderCreated"
    customer_id: UUID
    items: list[dict]

class OrderShipped(Event):                    # the short form, which type checkers understand as well: a dataclass with
    tracking_number: str                      # keyword arguments, its event_type "OrderShipped"

class Order(Aggregate["Order"]):
    customer_id: UUID | None = None
    items: list[dict] = field(default_factory=list)     # dataclasses.field without the decorator: each instance has its own
    status: str = "pending"
    tracking_number: str | None = None
    def create(self, customer_id: UUID, items: list[dict]) -> None:
        self._record(OrderCreated(customer_id=customer_id, items=items))
    def ship(self, tracking_number: str) -> None:
        if self.status != "pending":
            raise InvalidOperation("Order already shipped")
        self._record(OrderShipped(tracking_number=tracking_number))
    def apply(self, event: Event) -> None: ...

order = Order(uuid4()); order.create(customer_id, items)
store = PostgresEventStore(pool)                        # a psycopg_pool.ConnectionPool of the caller's
store = PostgresEventStore.connect(dsn)                 # or one of its own; also a context manager
orders = Repository(store, Order, snapshot_store=PostgresSnapshotStore(pool), snapshot_frequency=100)
order = orders.load(order_id)                           # an Order for the type checker, too
order.ship("1Z"); orders.save(order)
"""  # noqa: E501 letter for letter


def test_the_example_of_the_design_runs_on_every_store(
    store: EventStore, snapshots: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "_event_classes", {})  # Others use these names as well.

    class Given:  # In the place of PostgresEventStore: this store, however it is asked for.
        def __call__(self, _: object) -> EventStore:
            return store

        connect = __call__

    def apply(order: Any, event: Event) -> None:  # What the design leaves out.
        if isinstance(event, names["OrderCreated"]):
            order.customer_id, order.items = event.customer_id, event.items
        elif isinstance(event, names["OrderShipped"]):
            order.status, order.tracking_number = "shipped", event.tracking_number

    customer_id, items = uuid4(), [{"sku": "a", "quantity": 2}]
    names: dict[str, Any] = dict(globals()) | {
        "PostgresEventStore": Given(),
        "PostgresSnapshotStore": lambda _: snapshots,
        "pool": None,
        "dsn": None,
        "customer_id": customer_id,
        "items": items,
        "do_apply": apply,
    }
    text = EXAMPLE.replace("def apply(self, event: Event) -> None: ...", "apply = do_apply")
    assert text != EXAMPLE
    before, loads, rest = text.partition("order = orders.load(order_id)")
    exec(compile(before, "DESIGN.md", "exec"), names)  # noqa: S102 our own page
    names["orders"].save(names["order"])
    names["order_id"] = names["order"].id
    exec(compile(loads + rest, "DESIGN.md", "exec"), names)  # noqa: S102 our own page

    order = names["orders"].load(names["order_id"])
    assert type(order) is names["Order"]
    assert (order.customer_id, order.items, order.status, order.tracking_number) == (
        customer_id,
        items,
        "shipped",
        "1Z",
    )
    assert (order.version, order.pending) == (2, ())
    created, shipped = store.read(f"Order-{order.id}")
    assert (created.event_type, shipped.event_type) == ("OrderCreated", "OrderShipped")
    assert created.data == {"customer_id": customer_id, "items": items}
    with pytest.raises(InvalidOperation, match="Order already shipped"):
        order.ship("2Z")


def test_none_is_taken_of_a_state_that_holds_more_than_the_events(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, snapshot_frequency=1)
    basket = Basket("strayed")
    basket.add(1)
    basket.clear_pending()
    basket.add(2)
    repository.save(basket)
    assert snapshots.load("Basket", "strayed") is None
    assert repository.load("strayed").version == 1


def test_one_whose_restoring_raises_anything_is_replaced(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, snapshot_frequency=1)
    basket = Basket("broken")
    basket.add(1)
    repository.save(basket)
    first = snapshots.load("Basket", "broken")
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
    taken = snapshots.load("Basket", "old")
    assert taken is not None
    assert taken.version == 25
