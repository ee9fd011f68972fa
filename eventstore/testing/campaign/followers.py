"""A follower's process: a projection that counts events in a table, and a subscription that notes them in a history."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from eventstore import Event, PostgresEventStore, PostgresTransaction, Projection, Subscription
from eventstore.subscriptions import handling
from eventstore.testing.campaign.history import History

MODEL = "campaign_counted"
"""The table of the read model: how often each position was counted, which is to be once."""
MOODS_PARK, ELSEWHERE = "moods-park-events", "effects-elsewhere"
"""The bugs that are planted here."""
_ATTEMPTS = 2
"""So few that an event would soon be parked if the server's moods were held against it."""
_SLOW_SECONDS = 0.005
"""What the planted bug takes for each event, so that a follower is mostly killed in the middle of a batch."""
_CREATE = f"CREATE TABLE IF NOT EXISTS {MODEL} (position bigint PRIMARY KEY, times integer NOT NULL)"
_IMPATIENT = "-c lock_timeout=20ms"
_CATEGORIES = ("ahead", "held")
"""Of the streams whose events are counted: all of them would be too many for one projection to keep up with."""
_COUNT = f"INSERT INTO {MODEL} AS old VALUES (%s, 1) ON CONFLICT (position) DO UPDATE SET times = old.times + 1"  # noqa: S608 a constant


def create_model(dsn: str) -> None:
    """Create the table."""
    with psycopg.connect(dsn) as connection:
        connection.execute(_CREATE)


def follow(dsn: str, history: History, stop: threading.Event, planted: str | None) -> None:
    """Follow the log until told to stop, and then to where it ends."""
    with PostgresEventStore.connect(make_conninfo(dsn, options=_IMPATIENT)) as store:
        _follow(store, dsn, history, stop, planted)


def _follow(store: PostgresEventStore, dsn: str, history: History, stop: threading.Event, planted: str | None) -> None:
    if planted == MOODS_PARK:
        setattr(handling, "passes", _never)  # noqa: B010 no type checker allows it
    count = _counting(dsn, planted)
    categories = None if planted == ELSEWHERE else _CATEGORIES  # More events show it sooner.
    counts = Projection(store, "counts", count, categories=categories, on_failure="park", attempts=_ATTEMPTS)
    notes = Subscription(store, "notes", lambda event: _note(history, event))
    history.write("from")
    threads = [threading.Thread(target=worker.run) for worker in (counts, notes)]
    for thread in threads:
        thread.start()
    stop.wait()
    for worker in (counts, notes):
        worker.stop()
    for thread in threads:
        thread.join()
    for worker in (counts, notes):
        if worker.error is not None:
            raise worker.error
        worker.run_until_caught_up()
    history.write("end")


def _never(_: Exception) -> bool:
    return False


def _note(history: History, event: Event) -> None:
    history.write("handled", position=event.position)


def _counting(dsn: str, planted: str | None) -> Callable[[Event, PostgresTransaction], None]:
    if planted != ELSEWHERE:

        def count(event: Event, transaction: PostgresTransaction) -> None:
            transaction.connection.execute(_COUNT, (event.position,))

        return count
    connections: list[psycopg.Connection[Any]] = []

    def count_elsewhere(event: Event, _: PostgresTransaction) -> None:
        if not connections or connections[0].broken:
            connections[:] = [psycopg.connect(dsn, autocommit=True)]
        connections[0].execute(_COUNT, (event.position,))
        time.sleep(_SLOW_SECONDS)

    return count_elsewhere
