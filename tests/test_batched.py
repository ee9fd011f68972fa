"""Handlers of many events: the same promises as for one event at a time, and fewer calls."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import pytest
from fronts import COPIES, Front, copied
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import (
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    PostgresEventStore,
    Projection,
    Subscription,
    batched,
)
from eventstore.errors import SubscriptionFailed
from eventstore.subscriptions import outages, retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(outages, "FIRST_DELAY", 0.001)


class Copying:
    """A handler whose effect is a copy of each event, and that fails at some numbers."""

    def __init__(self, front: Front | None = None, *bad: int) -> None:
        self.front = front
        self.bad = set(bad)
        self.sizes: list[int] = []

    def handler(self) -> Callable[[Any, Any], Any]:
        def copy(events: Sequence[Event], transaction: Any) -> Any:
            self.sizes.append(len(events))
            appended = transaction.append(COPIES, [copied(event) for event in events], ExpectedVersion.ANY)
            numbers = {event.data["number"] for event in events}
            if not isawaitable(appended):
                self._check(numbers)
                return None

            async def wait() -> None:
                await appended
                self._check(numbers)

            return wait()

        return batched(copy)

    def _check(self, numbers: set[int]) -> None:
        if not self.bad.isdisjoint(numbers):
            raise ZeroDivisionError(f"{self.bad & numbers}")


def fill(store: Any, count: int, streams: int = 3) -> None:
    for number in range(count):
        store.append(f"s-{number % streams}", [Event(event_type="N", data={"number": number})], ExpectedVersion.ANY)


def copies(front: Front) -> list[int]:
    positions = {event.position: event.data["number"] for event in front.store.read_all(event_types="N")}
    return [positions[event.data["position"]] for event in front.store.read(COPIES)]


def test_a_handler_of_many_gets_each_batch_at_once(front: Front) -> None:
    fill(front.store, 25)
    copying = Copying()
    projection = front.projection("copies", copying.handler(), event_types="N", batch_size=10)
    projection.run_until_caught_up()
    assert copying.sizes == [10, 10, 5]
    assert copies(front) == list(range(25))
    fill(front.store, 3)
    projection.run_until_caught_up()
    assert copying.sizes == [10, 10, 5, 3]


def test_the_event_at_which_a_batch_fails_is_found_and_parked(front: Front) -> None:
    fill(front.store, 40)
    copying = Copying(None, 0, 13, 14, 39)
    projection = front.projection("copies", copying.handler(), event_types="N", attempts=2, on_failure="park")
    projection.run_until_caught_up()
    assert copies(front) == [number for number in range(40) if number not in copying.bad]
    assert [parked.attempts for parked in projection.parked()] == [2] * 4
    assert len(copying.sizes) < 60  # Halved each time, not one by one from the start.
    copying.bad.clear()
    copying.sizes.clear()
    for parked in projection.parked():
        projection.retry_parked(parked.position)
    assert copying.sizes == [1] * 4
    assert sorted(copies(front)) == list(range(40))


def test_a_handler_of_many_stops_where_one_event_fails(front: Front) -> None:
    fill(front.store, 20)
    copying = Copying(None, 11)
    projection = front.projection("copies", copying.handler(), event_types="N", attempts=3)
    with pytest.raises(SubscriptionFailed, match="ZeroDivisionError") as failed:
        projection.run_until_caught_up()
    assert failed.value.position == list(front.store.read_all(event_types="N"))[11].position
    assert copies(front) == list(range(11))
    copying.bad.clear()
    projection.run_until_caught_up()
    assert copies(front) == list(range(20))


def test_the_later_events_of_a_stream_wait_behind_one_that_is_parked(front: Front) -> None:
    fill(front.store, 12)
    copying = Copying(None, 4)
    projection = front.projection("copies", copying.handler(), event_types="N", attempts=1, on_failure="park-stream")
    projection.run_until_caught_up()
    assert copies(front) == [number for number in range(12) if number % 3 != 1 or number < 4]
    assert len(projection.parked()) == 3


def test_inline_a_handler_of_many_gets_what_an_append_stores(front: Front) -> None:
    copying = Copying()
    store = front.inline(copying.handler(), event_types="N")
    events = [Event(event_type="N", data={"number": number}) for number in range(3)]
    store.append("s", [*events, Event(event_type="Other")], 0)
    store.append("s", [Event(event_type="Other")], 4)
    assert copying.sizes == [3]
    assert copies(front) == [0, 1, 2]


def test_a_subscription_takes_no_handler_of_many(front: Front) -> None:
    for make in (front.subscription, lambda *args: Subscription(InMemoryEventStore(), *args)):
        with pytest.raises(InvalidArgument, match="handles events one by one"):
            make("s", Copying().handler())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 30), batch_size=st.integers(1, 12), bad=st.sets(st.integers(0, 29), max_size=6))
def test_whatever_fails_every_other_event_is_handled_once(count: int, batch_size: int, bad: set[int]) -> None:
    front = Front(InMemoryEventStore())
    fill(front.store, count)
    copying = Copying(None, *bad)
    options: dict[str, Any] = {"event_types": "N", "attempts": 1, "on_failure": "park", "batch_size": batch_size}
    projection = front.projection("copies", copying.handler(), **options)
    projection.run_until_caught_up()
    assert copies(front) == [number for number in range(count) if number not in bad]
    assert len(projection.parked()) == len(bad & set(range(count)))


def test_a_method_can_take_many_events() -> None:
    class Counting:
        seen = 0

        def count(self, events: Sequence[Event], _: Any) -> None:
            self.seen += len(events)

    store, counting = InMemoryEventStore(), Counting()
    fill(store, 5)
    Projection(store, "counting", batched(counting.count)).run_until_caught_up()
    assert counting.seen == 5


def test_in_a_rebuild_a_handler_of_many_fills_the_copies(pool: Any, schema: str) -> None:
    store = PostgresEventStore(pool, schema)
    fill(store, 30)
    with pool.connection() as connection:
        connection.execute(f'CREATE TABLE "{schema}_counts" (stream_id text, n int)')

    @batched
    def count(events: Sequence[Event], transaction: Any) -> None:
        rows = [(event.stream_id, 1) for event in events]
        transaction.connection.cursor().executemany(f'INSERT INTO "{schema}_counts" VALUES (%s, %s)', rows)

    projection = Projection(store, "counts", count, tables=[f'"{schema}_counts"'], batch_size=7)
    for _ in range(2):
        projection.rebuild()
        with pool.connection() as connection:
            assert connection.execute(f'SELECT count(*) FROM "{schema}_counts"').fetchone() == (30,)
    with pool.connection() as connection:
        connection.execute(f'DROP TABLE "{schema}_counts"')
