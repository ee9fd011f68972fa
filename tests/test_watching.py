"""Followers that wait share one look at the log, and are woken only where it has something for them."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from fronts import Front
from waiting import eventually

from eventstore import (
    AsyncPostgresEventStore,
    AsyncSubscription,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    PostgresEventStore,
    Subscription,
)
from eventstore.core.blocking import run
from eventstore.core.requests import ReadLog, SafePosition
from eventstore.core.subscription_requests import Attend, Heartbeat, PollSubscription
from eventstore.subscriptions import watching

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = 3600.0


class Noting(InMemoryEventStore):
    """A store that notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.transactions = 0

    def transaction(self) -> Any:
        self.transactions += 1
        return super().transaction()

    def execute(self, request: Any) -> Any:
        self.asked.append(request)
        return super().execute(request)

    def count(self, kind: type) -> int:
        return sum(isinstance(each, kind) for each in self.asked)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of the log stays of use, however slow the machine is."""
    monkeypatch.setattr(watching, "OLD_SECONDS", NEVER)


@pytest.fixture
def store() -> Noting:
    return Noting()


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def follow(exits: ExitStack, store: Any, names: list[str], **options: Any) -> dict[str, list[str]]:
    """Subscriptions to the events of their own names, running in threads; what each has seen."""
    seen: dict[str, list[str]] = {name: [] for name in names}
    for name in names:

        def handle(event: Event, name: str = name) -> None:
            seen[name].append(event.event_type)

        worker = Subscription(store, name, handle, event_types=options.get("event_types", name), poll_interval=NEVER)
        exits.enter_context(Front(store).running(worker))
    eventually(lambda: len(watching_of(store).waiters) == len(names))
    return seen


def watching_of(store: Any) -> Any:
    from eventstore.subscriptions.watchers import watching as of  # noqa: PLC0415

    return of(store)._watch


def append(store: Any, event_type: str) -> int:
    return store.append(f"s-{event_type}", [Event(event_type=event_type)], ExpectedVersion.ANY).position


def test_an_event_wakes_those_it_is_for_and_nobody_else(store: Noting, exits: ExitStack) -> None:
    seen = follow(exits, store, [f"T{number}" for number in range(20)])
    store.asked.clear()
    append(store, "T7")
    eventually(lambda: seen["T7"] == ["T7"])
    eventually(lambda: len(watching_of(store).waiters) == 20)
    assert [name for name, events in seen.items() if events] == ["T7"]
    assert store.transactions == 1
    assert store.count(PollSubscription) <= 3


def test_waiting_followers_are_attended_by_one_statement(
    store: Noting, exits: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(exits, store, [f"T{number}" for number in range(20)])
    monkeypatch.setattr(watching, "PRESENCE", 0.0)
    store.asked.clear()
    append(store, "of nobody")
    eventually(lambda: store.count(Attend) > 0)
    attended = next(each for each in store.asked if isinstance(each, Attend))
    assert len(attended.names) == 20
    assert store.count(Heartbeat) == store.count(PollSubscription) == 0


def test_a_checkpoint_moves_past_what_the_filter_leaves_out(
    front: Front, exits: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MOVE_SECONDS", 0.0)
    handled: list[Event] = []
    worker = front.subscription("s", handled.append, event_types="wanted", partitions=2, poll_interval=0.01)
    exits.enter_context(front.running(worker))
    eventually(front.statuses)
    position = append(front.store, "other")
    eventually(lambda: worker.status().position >= position)
    last = append(front.store, "wanted")
    worker.wait_until_processed(last)
    assert [event.event_type for event in handled] == ["wanted"]


def test_no_checkpoint_is_moved_by_what_was_known_too_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover that lost events, others may have the positions up to there."""
    moved: list[tuple[int, ...]] = []

    def execute(request: Any) -> Any:
        if isinstance(request, Attend):
            moved.append(request.positions)
            return {"s": 0}
        assert isinstance(request, SafePosition)
        return request.after

    monkeypatch.setattr(watching, "PRESENCE", 0.0)
    watch = watching.Watch()
    waiter = watching.Waiter("s", 0, 5, NEVER, lambda: None, None)
    watch.join(waiter)
    run(watch.look(), execute)
    waiter.at = 5
    run(watch.look(), execute)
    monkeypatch.setattr(watching, "OLD_SECONDS", 0.0)
    run(watch.look(), execute)
    assert moved == [(0,), (5,), (0,)]


def test_a_class_that_is_defined_later_is_not_passed_over(store: Noting, exits: ExitStack) -> None:
    """Its former names belong to the filter from then on."""
    seen: list[Event] = []
    worker = Subscription(store, "s", seen.append, event_types=["WatchingRenamed"], poll_interval=NEVER)
    exits.enter_context(Front(store).running(worker))
    eventually(lambda: watching_of(store).waiters)
    append(store, "of nobody")

    class WatchingRenamed(Event, formerly=["WatchingFormer"]):
        pass

    append(store, "WatchingFormer")
    eventually(lambda: len(seen) == 1)
    assert isinstance(seen[0], WatchingRenamed)


def test_when_the_one_that_looks_is_stopped_another_one_looks(store: Noting) -> None:
    seen: list[str] = []
    workers = [
        Subscription(store, f"s{n}", lambda event: seen.append(event.event_type), poll_interval=NEVER) for n in range(3)
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    eventually(lambda: len(watching_of(store).waiters) == 3)
    for left, (worker, thread) in enumerate(zip(workers, threads, strict=True), 1):
        append(store, f"T{left}")
        eventually(lambda left=left: seen.count(f"T{left}") == 4 - left)
        eventually(lambda left=left: len(watching_of(store).waiters) == 4 - left)
        worker.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_subscription_that_is_removed_while_it_waits_fails(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PRESENCE", 0.0)
    worker = front.subscription("s", lambda _: None, event_types="wanted", poll_interval=0.01)
    with pytest.raises(Exception, match="was removed"), front.running(worker):
        eventually(front.statuses)
        worker.remove()
        eventually(lambda: worker.error is not None)


def test_many_events_at_once_wake_everybody(store: Noting, exits: ExitStack) -> None:
    seen = follow(exits, store, ["T1", "T2"])
    store.asked.clear()
    store.append_many([("s", [Event(event_type="T1") for _ in range(watching.MOST_ROWS + 5)], 0)])
    eventually(lambda: len(seen["T1"]) == watching.MOST_ROWS + 5)
    eventually(lambda: len(watching_of(store).waiters) == 2)
    assert seen["T2"] == []
    assert max(each.limit for each in store.asked if isinstance(each, ReadLog)) >= watching.MOST_ROWS
    assert store.count(SafePosition) > 0


def test_attending_moves_only_checkpoints_that_are_where_they_were(pool: Any, schema: str) -> None:
    for store in (InMemoryEventStore(), PostgresEventStore(pool, schema)):
        for name in ("a", "b", "c"):
            for number in range(3):
                append(store, f"{name}{number}")
            Subscription(store, name, lambda _: None).run_until_caught_up()
        # They stand at 3, 6 and 9.
        reply = store.execute(Attend(("a", "b", "c", "gone"), (3, 7, 9, 0), (9, 9, 9, 9)))
        assert reply == {"a": 3, "b": 6, "c": 9}
        positions = {name: Subscription(store, name, lambda _: None).status().position for name in ("a", "b", "c")}
        assert positions == {"a": 9, "b": 6, "c": 9}


def test_a_store_that_was_followed_is_freed(dsn: str, schema: str) -> None:
    async def followed() -> ref[Any]:
        store = AsyncPostgresEventStore.connect(dsn, schema)
        await AsyncSubscription(store, "a", print, event_types="none").run_until_caught_up()
        await store.close()
        return ref(store)

    freed = [asyncio.run(followed())]
    for store in (InMemoryEventStore(), PostgresEventStore.connect(dsn, schema)):
        Subscription(store, "s", print, event_types="none").run_until_caught_up()
        freed.append(ref(store))
    del store
    gc.collect()
    assert [each() for each in freed] == [None, None, None]
