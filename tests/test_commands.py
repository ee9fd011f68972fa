"""Commands that are delivered more than once are carried out once, and an event id stands once in a stream."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from baskets import Basket, SnapshotsAdded, Watched

from eventstore import (
    Aggregate,
    AggregateNotFound,
    AsyncInMemoryEventStore,
    AsyncRepository,
    Event,
    EventAlreadyStored,
    EventStore,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    Repository,
    SnapshotStore,
    handles,
)


@pytest.fixture
def baskets(store: EventStore) -> Repository[Basket]:
    """Of which one is there, with three events."""
    repository = Repository(store, Basket)
    basket = Basket("b")
    basket.add(1, 2, 3)
    repository.save(basket)
    return repository


def numbers(store: EventStore) -> list[int]:
    return [event.number for event in store.read("Basket-b") if isinstance(event, SnapshotsAdded)]


@pytest.mark.parametrize("command_id", [uuid4(), "message 4711"])
def test_a_command_that_is_delivered_three_times_is_carried_out_once(
    store: EventStore, baskets: Repository[Basket], command_id: UUID | str
) -> None:
    called: list[int] = []

    def change(basket: Basket) -> None:
        called.append(basket.version)
        basket.add(7, 8)

    found = [baskets.update("b", change, command_id=command_id) for _ in range(3)]
    assert called == [3]
    assert [basket.version for basket in found] == [5, 5, 5]
    assert [basket.total for basket in found] == [found[0].total] * 3
    assert numbers(store) == [1, 2, 3, 7, 8]


@dataclass(frozen=True)
class CommandsSealed(Event):
    by: str


class CommandsLetter(Aggregate["CommandsLetter"]):
    seals: tuple[str, ...] = ()

    def seal(self, by: str) -> None:
        self._record(CommandsSealed(by=by))

    @handles(CommandsSealed)
    def _sealed(self, event: CommandsSealed) -> None:
        self.seals = (*self.seals, event.by)


def test_the_events_of_a_command_may_be_of_a_frozen_class(store: EventStore) -> None:
    letters = Repository(store, CommandsLetter)
    letter = CommandsLetter("l")
    letter.seal("ann")
    letters.save(letter)
    for _ in range(2):
        sealed = letters.update("l", lambda letter: letter.seal("bob"), command_id="once")
        assert sealed.seals == ("ann", "bob")
    assert len(store.read("CommandsLetter-l")) == 2


def test_a_command_is_found_below_a_snapshot_and_below_later_events(
    store: EventStore, snapshots: SnapshotStore
) -> None:
    with_snapshots = Repository(store, Basket, snapshots, snapshot_frequency=5)
    basket = Basket("b")
    basket.add(1, 2, 3)
    with_snapshots.save(basket)
    with_snapshots.update("b", lambda basket: basket.add(4), command_id="first")
    for number in range(5, 13):
        with_snapshots.update("b", lambda basket, number=number: basket.add(number), command_id=f"number {number}")
    assert snapshots.load("Basket", "b", Basket.class_schema()) is not None
    for command_id in ("first", "number 7", "number 12"):
        again = with_snapshots.update("b", lambda basket: basket.add(99), command_id=command_id)
        assert (again.version, again.version.position) == (12, store.read("Basket-b")[-1].position)
    assert numbers(store) == list(range(1, 13))


def test_a_command_is_found_in_a_stream_of_several_pages(
    baskets: Repository[Basket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.core.loading.PAGE", 4)
    for command_id in ("early", "late"):
        baskets.update("b", lambda basket: basket.add(*range(10)), command_id=command_id)
    for command_id in ("early", "late"):
        assert baskets.update("b", lambda basket: basket.add(99), command_id=command_id).version == 23
    assert baskets.update("b", lambda basket: basket.add(99), command_id="another").version == 24


def test_a_store_that_wraps_another_finds_commands_too(store: EventStore, baskets: Repository[Basket]) -> None:
    wrapped = Repository(Watched(store), Basket)
    for _ in range(2):
        assert wrapped.update("b", lambda basket: basket.add(4), command_id="once").version == 4
    assert baskets.update("b", lambda basket: basket.add(4), command_id="once").version == 4


def test_another_command_or_another_aggregate_is_not_taken_for_a_repeated_one(
    store: EventStore, baskets: Repository[Basket]
) -> None:
    other = Basket("c")
    other.add(1)
    baskets.save(other)
    for name, command_id in (("b", "x"), ("b", "y"), ("c", "x"), ("c", "y")):
        baskets.update(name, lambda basket: basket.add(4), command_id=command_id)
    events = [event for stream in ("Basket-b", "Basket-c") for event in store.read(stream)]
    assert len(events) == len({event.event_id for event in events}) == 8


def test_a_command_that_recorded_nothing_or_was_refused_is_tried_again(baskets: Repository[Basket]) -> None:
    def refuse(basket: Basket) -> None:
        raise InvalidOperation(f"{basket} is closed today")

    assert baskets.update("b", lambda basket: basket.add(), command_id="c").version == 3
    with pytest.raises(InvalidOperation):
        baskets.update("b", refuse, command_id="c")
    assert baskets.update("b", lambda basket: basket.add(4), command_id="c").version == 4


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_command_that_another_process_carries_out_meanwhile_is_not_carried_out_again(
    store: EventStore, baskets: Repository[Basket], attempts: int
) -> None:
    elsewhere = Repository(store, Basket)
    called: list[int] = []

    def change(basket: Basket) -> None:
        called.append(basket.version)
        elsewhere.update("b", lambda theirs: theirs.add(5, 6), command_id="c")
        basket.add(4)

    found = baskets.update("b", change, attempts, command_id="c")
    assert called == [3]
    assert (found.version, numbers(store)) == (5, [1, 2, 3, 5, 6])


def test_the_attempt_that_holds_the_streams_lock_looks_for_the_command_again(
    store: EventStore, baskets: Repository[Basket], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Repository(store, Basket)
    called: list[int] = []

    def change(basket: Basket) -> None:
        called.append(basket.version)
        elsewhere.update("b", lambda theirs: theirs.add(5))  # A conflict, so that the next attempt is the last.
        basket.add(4)

    original = baskets._operations._change_locked

    def once_it_is_carried_out(*arguments: Any) -> Any:
        elsewhere.update("b", lambda theirs: theirs.add(6), command_id="c")
        return original(*arguments)

    monkeypatch.setattr(baskets._operations, "_change_locked", once_it_is_carried_out)
    found = baskets.update("b", change, 2, command_id="c")
    assert called == [3]
    assert (found.version, numbers(store)) == (5, [1, 2, 3, 5, 6])


def test_eight_threads_that_deliver_each_command_carry_it_out_once(
    store: EventStore, baskets: Repository[Basket]
) -> None:
    start = threading.Barrier(8)
    raised: list[BaseException] = []

    def deliver() -> None:
        try:
            start.wait()
            for number in range(10):
                baskets.update("b", lambda basket, number=number: basket.add(number), command_id=f"command {number}")
        except BaseException as error:  # noqa: BLE001 shown below
            raised.append(error)

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert sorted(numbers(store)) == sorted([1, 2, 3, *range(10)])


def test_commands_in_async_are_carried_out_once() -> None:
    async def deliver() -> tuple[int, list[int]]:
        store = AsyncInMemoryEventStore()
        baskets = AsyncRepository(store, Basket)
        basket = Basket("b")
        basket.add(1)
        await baskets.save(basket)
        await asyncio.gather(
            *(baskets.update("b", lambda basket: basket.add(2), command_id="c") for _ in range(10)),
        )
        found = await baskets.load("b")
        return found.version, [event.version for event in await store.read("Basket-b")]

    assert asyncio.run(deliver()) == (2, [1, 2])


@pytest.mark.parametrize("command_id", [7, b"id", "", "a\0b", "\ud800"])
def test_a_command_id_must_be_a_uuid_or_a_name(baskets: Repository[Basket], command_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="command_id"):
        baskets.update("b", lambda basket: basket.add(4), command_id=command_id)


def test_a_command_for_an_aggregate_without_events_raises_aggregate_not_found(baskets: Repository[Basket]) -> None:
    with pytest.raises(AggregateNotFound):
        baskets.update("nobody", lambda basket: basket.add(4), command_id="c")


# --- ids that the caller gave -----------------------------------------------------------------------------------------


def test_an_event_with_an_id_of_the_callers_is_not_stored_twice_by_load_decide_save(
    store: EventStore, baskets: Repository[Basket]
) -> None:
    event_id = uuid4()

    def change(basket: Basket) -> None:
        basket._record(SnapshotsAdded(number=4, event_id=event_id))

    baskets.update("b", change)
    with pytest.raises(EventAlreadyStored) as caught:
        baskets.update("b", change)
    assert (caught.value.stream_id, caught.value.version) == ("Basket-b", 4)
    assert numbers(store) == [1, 2, 3, 4]


@pytest.mark.parametrize("expected", [2, ExpectedVersion.ANY, ExpectedVersion.STREAM_EXISTS])
def test_events_that_were_read_are_not_appended_to_their_stream_again(store: EventStore, expected: int) -> None:
    store.append("s", [SnapshotsAdded(number=1), SnapshotsAdded(number=2)], 0)
    with pytest.raises(EventAlreadyStored):
        store.append("s", store.read("s")[::-1], expected)
    assert store.append("copy", store.read("s"), 0) == 2
