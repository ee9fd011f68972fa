"""How far subscriptions are behind, over time, on the explorer's pages."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta

import pytest
from explorers import page, words
from psycopg_pool import ConnectionPool

from eventstore import Event, ExpectedVersion, PostgresEventStore, Subscription
from eventstore.explorer import Explorer, lag
from eventstore.health import Health, check

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    found = PostgresEventStore(pool, schema)
    Subscription(found, "mails", lambda _: None).run_until_caught_up()
    return found


class Clock:
    """A clock that is set by hand."""

    now_is = NOON

    @classmethod
    def now(cls, _: object) -> datetime:
        return cls.now_is


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(lag, "datetime", Clock)
    monkeypatch.setattr(Clock, "now_is", NOON)
    return Clock


def append(store: PostgresEventStore, number: int) -> None:
    store.append("s", [Event(event_type="T") for _ in range(number)], ExpectedVersion.ANY)


def test_the_pages_draw_how_far_a_subscription_was_behind_each_time_they_were_looked_at(
    store: PostgresEventStore, clock: type[Clock]
) -> None:
    explorer = Explorer(store)
    for number, seconds in ((0, 0), (2, 10), (2, 10)):
        append(store, number)
        clock.now_is += timedelta(seconds=seconds)
        answer = page(explorer, "/subscriptions")
    assert 'd="M0.0 100.0h0L500.0 50.0L1000.0 0.0"' in answer.text
    assert "positions behind: at most 4" in answer.text
    text = page(explorer, "/subscription?name=mails").text
    assert 'd="M0.0 100.0h0L500.0 50.0L1000.0 0.0"' in text
    assert "At most 4 positions, 2026-03-01 12:00:00 to 12:00:20 UTC." in text
    assert text.count("<svg") == 2


def test_nothing_is_drawn_where_nobody_looked(store: PostgresEventStore, clock: type[Clock]) -> None:
    explorer = Explorer(store)
    for seconds in (0, 10, 80, 10):
        clock.now_is += timedelta(seconds=seconds)
        page(explorer, "/subscriptions/live")
    found = re.findall(r'<path d="([^"]+)"', page(explorer, "/subscriptions").text)
    assert found == ["M0.0 100.0h0L100.0 100.0", "M900.0 100.0h0L1000.0 100.0"]


def test_sample_notes_it_while_nobody_looks(store: PostgresEventStore, clock: type[Clock]) -> None:
    explorer = Explorer(store)
    append(store, 1)
    explorer.sample()
    clock.now_is += timedelta(seconds=30)
    assert "L1000.0 0.0" in page(explorer, "/subscriptions").text


def test_looks_that_follow_each_other_at_once_are_one_sample(store: PostgresEventStore) -> None:
    explorer = Explorer(store)
    for _ in range(3):
        answer = page(explorer, "/subscriptions")
    assert 'd="M1000.0 100.0h0"' in answer.text


def test_samples_are_never_more_than_so_many_and_none_is_of_a_store_that_is_gone(
    store: PostgresEventStore, clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "MOST_SAMPLES", 3)
    samples = lag.Lag()
    well, gone = check(store), check(PostgresEventStore.connect("postgresql://127.0.0.1:1/x"), timeout=0.1)
    assert gone.error is not None
    for number in range(6):
        clock.now_is += timedelta(seconds=10)
        samples.note(gone if number == 5 else well)
    charts = samples.charts("mails", 100)
    assert charts is not None
    assert charts[0].first == NOON + timedelta(seconds=30)
    assert charts[0].last == NOON + timedelta(seconds=50)


def test_a_chart_of_many_samples_shows_the_largest_of_several(store: PostgresEventStore, clock: type[Clock]) -> None:
    samples = lag.Lag()
    report = check(store)
    for number in range(900):
        clock.now_is = NOON + timedelta(seconds=10 * number)
        (mails,) = report.subscriptions
        behind = dataclasses.replace(mails, positions_behind=7 if number == 500 else 1)
        samples.note(dataclasses.replace(report, subscriptions=(behind,)))
    charts = samples.charts("mails", 60)
    assert charts is not None
    (line,) = charts[0].lines
    assert charts[0].most == 7
    assert line.count("L") == 56
    assert re.search(r"L[\d.]+ 0\.0L", line)


def test_a_subscription_that_was_never_seen_has_no_chart() -> None:
    samples = lag.Lag()
    samples.note(Health(True, (), None, 0, (), ()))
    assert samples.charts("mails", 100) is None


def test_pages_say_whose_samples_they_draw(store: PostgresEventStore) -> None:
    assert "kept by this process only" in words(page(Explorer(store), "/subscriptions"))
