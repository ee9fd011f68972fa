"""A worker that holds several partitions reads the log once for all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import Event, ExpectedVersion, InMemoryEventStore, PostgresEventStore, Subscription
from eventstore.core.checkpoints import partition_of
from eventstore.errors import SubscriptionFailed
from eventstore.subscriptions import outages
from eventstore.subscriptions.pages import MOST_ROWS, Pages

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


def fill(store: Any, count: int, streams: int = 40) -> None:
    store.append_many(
        [
            (f"s-{number % streams}", [Event(event_type=f"T{number % 2}")], ExpectedVersion.ANY)
            for number in range(count)
        ]
    )


def test_eight_partitions_of_one_worker_are_read_once(pool: ConnectionPool, schema: str, requests: list[str]) -> None:
    store = PostgresEventStore(pool, schema)
    fill(store, 2_000)
    seen: list[Event] = []
    requests.clear()
    Subscription(store, "s", seen.append, partitions=8, batch_size=100).run_until_caught_up()
    assert sorted(event.position for event in seen) == [event.position for event in store.read_all()]
    reads = requests.count("ReadLog") - 3  # Those of read_all.
    assert reads <= 2_000 / 800 + 1
    for stream_id in {event.stream_id for event in seen}:
        of_stream = [event.version for event in seen if event.stream_id == stream_id]
        assert of_stream == sorted(of_stream)


def test_a_worker_whose_partitions_others_hold_reads_its_own_only() -> None:
    pages = Pages()
    assert [pages.rows_to_read(number, 4, 100) for number in range(4)] == [400] * 4
    assert [pages.rows_to_read(3, 4, 100) for _ in range(4)] == [300, 200, 0, 0]
    assert pages.rows_to_read(1, 4, 100) == 200
    for batch_size, rows in ((1_000, MOST_ROWS), (20_000, 20_000)):
        assert Pages().rows_to_read(0, 64, batch_size) == rows


@settings(deadline=None)
@given(
    count=st.integers(0, 60),
    partitions=st.integers(1, 5),
    batch_size=st.integers(1, 7),
    event_types=st.sampled_from([None, "T0"]),
    bad=st.sets(st.integers(0, 59), max_size=2),
)
def test_every_event_is_handled_once_and_in_the_order_of_its_stream(
    count: int, partitions: int, batch_size: int, event_types: str | None, bad: set[int]
) -> None:
    store = InMemoryEventStore()
    fill(store, count, 6)
    handled: list[Event] = []
    failing = {position + 1 for position in bad}

    def handle(event: Event) -> None:
        if event.position in failing:
            failing.discard(event.position)
            raise ZeroDivisionError
        handled.append(event)

    options: dict[str, Any] = {"partitions": partitions, "batch_size": batch_size, "event_types": event_types}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outages, "FIRST_DELAY", 0.0)
        patch.setattr("eventstore.subscriptions.retrying.FIRST_DELAY", 0.0)
        subscription = Subscription(store, "s", handle, attempts=1, **options)
        while True:
            try:
                subscription.run_until_caught_up()
            except SubscriptionFailed:
                continue
            break
    wanted = [event for event in store.read_all() if event_types in {None, event.event_type}]
    assert Counter(event.position for event in handled) == Counter(event.position for event in wanted)
    for stream_id in {event.stream_id for event in wanted}:
        versions = [event.version for event in handled if event.stream_id == stream_id]
        assert versions == sorted(versions)


def test_the_partition_of_a_stream_is_what_the_database_says(pool: ConnectionPool, schema: str) -> None:
    names = ["a", "Order-1", "ä" * 20, "x-" + "y" * 200]
    with pool.connection() as connection:
        for name in names:
            row = connection.execute(f'SELECT "{schema}".partition_of(%s, 7)'.encode(), (name,)).fetchone()
            assert row == (partition_of(name, 7),)
