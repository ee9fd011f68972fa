"""The explorer's search for streams by the types and times of their events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from explorers import links, page, walked, words
from psycopg_pool import ConnectionPool

from eventstore import Event, ExpectedVersion, PostgresEventStore
from eventstore.explorer import Explorer, searching

ANY = ExpectedVersion.ANY
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    """An event a minute, from noon on, in three streams by turns."""
    found = PostgresEventStore(pool, schema)
    for minute in range(12):
        event = Event(event_type=f"T{minute % 2}", timestamp=NOON + timedelta(minutes=minute))
        found.append(("Order-1", "Order-2", "Mail-1")[minute % 3], [event], ANY)
    return found


def shown(store: PostgresEventStore, **asked: str) -> list[list[str]]:
    """The streams on each page."""
    return [links(each, "stream") for each in walked(Explorer(store), f"/streams?{urlencode(asked)}")]


def at(minute: int) -> str:
    return (NOON + timedelta(minutes=minute)).isoformat()


def test_streams_are_found_by_a_type_of_event_the_newest_first(store: PostgresEventStore) -> None:
    store.append("Cart-1", [Event(event_type="Other", timestamp=NOON)], 0)
    assert shown(store, type="T1") == [["Mail-1", "Order-1", "Order-2"]]
    assert shown(store, type="Other") == [["Cart-1"]]
    assert shown(store, type="T1", category="Order") == [["Order-1", "Order-2"]]
    assert shown(store, type="T1", prefix="Order-1") == [["Order-1"]]
    assert shown(store, type="Nothing") == [[]]


def test_streams_are_found_by_time(store: PostgresEventStore) -> None:
    assert shown(store, since=at(11)) == [["Mail-1"]]
    assert shown(store, since=at(9), until=at(11)) == [["Order-2", "Order-1"]]
    assert shown(store, until=at(1)) == [["Order-1"]]
    assert shown(store, since=at(12)) == [[]]


def test_a_found_stream_says_how_many_of_its_events_fit_and_how_many_it_has(store: PostgresEventStore) -> None:
    text = words(page(Explorer(store), "/streams?type=T1&since=" + at(5).replace("+", "%2B")))
    assert "Mail-1 2 2026-03-01T12:11:00.000000Z 12 4" in text


def test_events_out_of_the_order_of_their_times_are_found_too(store: PostgresEventStore) -> None:
    store.append("Late-1", [Event(event_type="T0", timestamp=NOON + timedelta(minutes=3, seconds=30))], 0)
    assert ["Late-1"] in shown(store, since=at(3), until=at(4), prefix="Late")


def test_a_page_lists_each_stream_of_its_part_of_the_log_once_and_the_last_page_ends_at_the_beginning(
    store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT", 6)
    monkeypatch.setattr(searching, "PAGE", 2)
    # Twice three streams in six positions: two pages for each part of the log.
    assert shown(store, until=at(60)) == [["Mail-1", "Order-2"], ["Order-1"], ["Mail-1", "Order-2"], ["Order-1"]]
    (first, *_) = walked(Explorer(store), "/streams?type=T0")
    assert "Looked for in positions 7 to 12" in words(first)


def test_a_page_without_a_stream_leads_further_back(store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT", 4)
    store.append("First-1", [Event(event_type="Rare", timestamp=NOON)], 0)
    for number in range(8):
        store.append(f"Many-{number}", [Event(event_type="T0")], 0)
    pages = list(walked(Explorer(store), "/streams?type=Rare"))
    assert [links(each, "stream") for each in pages] == [[], [], ["First-1"], [], [], []]
    assert "Look further back" in words(pages[0])


@pytest.mark.parametrize("wrong", ["type=%00", "since=yesterday", "until=tomorrow", "type=T&upto=x", "type=T&before=0"])
def test_what_can_not_be_looked_for_is_refused(wrong: str, store: PostgresEventStore) -> None:
    assert page(Explorer(store), f"/streams?{wrong}").status_code == 400


def test_a_place_beyond_the_end_shows_the_newest(store: PostgresEventStore) -> None:
    assert links(page(Explorer(store), f"/streams?type=T1&upto={2**62}"), "stream") == ["Mail-1", "Order-1", "Order-2"]
