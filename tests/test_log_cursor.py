"""A cursor that is kept outside of the store finds the place where a log still agrees with what was read."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import (
    AsyncInMemoryEventStore,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    LogCursor,
)

A = UUID(int=1)


def events(count: int) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


def follow(store: EventStore, cursor: LogCursor) -> tuple[list[Event], LogCursor]:
    seen: list[Event] = []
    for event in store.read_all(cursor.position):
        seen.append(event)
        cursor = cursor.at(event)
    return seen, cursor


def test_a_cursor_is_kept_as_text_and_reading_resumes_after_it(store: EventStore) -> None:
    store.append("s", events(100), 0)
    seen, cursor = follow(store, LogCursor())
    assert len(seen) == 100
    cursor = LogCursor.parse(str(cursor))
    assert cursor.resume(store) is cursor
    assert follow(store, cursor.resume(store))[0] == []
    more = events(3)
    store.append("s", more, 100)
    assert follow(store, cursor.resume(store))[0] == more


def test_a_log_that_lost_its_end_is_read_again_from_where_it_differs(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    both, lost, instead = events(40), events(60), events(75)
    store.append("s", both, 0)
    store.append("s", instead, 40)
    before = InMemoryEventStore()  # The same events at the same positions, up to the failover.
    before.append("s", both, 0)
    before.append("s", lost, 40)
    _, cursor = follow(before, LogCursor())
    with caplog.at_level(logging.WARNING, "eventstore"):
        resumed = cursor.resume(store)
    assert 0 < resumed.position <= 40
    assert f"reading resumes above position {resumed.position}" in caplog.text
    seen, _ = follow(store, resumed)
    assert seen[-75:] == instead


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.data())
def test_no_event_is_skipped_wherever_the_logs_part(shared: int, lost: int, instead: int, data: st.DataObject) -> None:
    before, after, same = InMemoryEventStore(), InMemoryEventStore(), events(shared)
    for store, more in ((before, lost), (after, instead)):
        store.append("s", same, 0)
        store.append("s", events(more), shared)
    read = data.draw(st.integers(0, shared + lost))
    cursor = LogCursor()
    for event in before.read_all(limit=read):
        cursor = LogCursor.parse(str(cursor.at(event)))
    resumed = cursor.resume(after)
    assert resumed.position <= min(shared, read)
    # It steps back further than it must by twice the way at most that was read in vain.
    assert min(shared, read) - resumed.position <= 2 * max(read - shared, 0)


def test_a_trail_of_few_pairs_reaches_back_through_a_long_log() -> None:
    cursor = LogCursor()
    event = Event(event_type="T")
    for position in range(1, 20_001):
        event.__dict__["position"] = position
        cursor = cursor.at(event)
    positions = [position for position, _ in cursor.trail]
    assert len(positions) < 128
    assert positions[:1] + positions[-3:] == [1, 19_998, 19_999, 20_000]
    distances = [20_000 - position for position in reversed(positions)]
    assert all(after <= 3 * before for before, after in pairwise(distances[1:]))


def test_in_async_a_cursor_resumes_likewise() -> None:
    async def resumed() -> tuple[bool, int]:
        store, other = AsyncInMemoryEventStore(), AsyncInMemoryEventStore()
        cursor = LogCursor()
        await store.append("s", events(5), 0)
        async for event in store.read_all():
            cursor = cursor.at(event)
        return await cursor.resume_async(store) is cursor, (await cursor.resume_async(other)).position

    assert asyncio.run(resumed()) == (True, 0)


@pytest.mark.parametrize(
    "text",
    ["", "7", "{}", "[1]", "[[1]]", '[[1, "a"]]', f'[["1", "{A}"]]', f'[[0, "{A}"]]', f'[[2, "{A}"], [1, "{A}"]]'],
)
def test_a_text_that_no_cursor_wrote_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not the text of a LogCursor"):
        LogCursor.parse(text)


def test_an_event_below_the_cursor_is_refused() -> None:
    store = InMemoryEventStore()
    store.append("s", events(2), ExpectedVersion.ANY)
    first, second = store.read_all()
    with pytest.raises(InvalidArgument, match="the cursor is at position 2, and the event is at 1"):
        LogCursor().at(second).at(first)
    unread: Any = Event(event_type="T")
    with pytest.raises(InvalidArgument, match="the event is at 0"):
        LogCursor().at(unread)
