"""Transactions that stay open during the campaign: one that appends, and one that has nothing to do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

import psycopg

from eventstore import ExpectedVersion, PostgresEventStore
from eventstore.testing.campaign.appends import Part, Recorder, RolledBack, new_events
from eventstore.testing.campaign.faults import HELD_COMMITTED, HELD_ROLLED_BACK, UNRELATED
from eventstore.testing.campaign.history import History

HOLD_SECONDS = 1.0
_UNRELATED_SECONDS = 0.5
"""How long the unrelated transaction must have been open to count."""


class Holder:
    """A client that appends in a transaction and waits a second before it ends it: all readers must wait below it."""

    def __init__(self, dsn: str, history: History, random: Random, count: Callable[[str, float], None]) -> None:
        self._dsn = dsn
        self._history = history
        self._random = random
        self._count = count
        self._number = 0
        self._held = {True: 0, False: 0}

    def run(self, stop: threading.Event) -> None:
        """Hold one transaction after another."""
        recorder = Recorder(self._history)
        with PostgresEventStore.connect(self._dsn) as store:
            while not stop.wait(self._random.uniform(0.1, 1)):
                self._hold(store, recorder)

    def _hold(self, store: PostgresEventStore, recorder: Recorder) -> None:
        self._number += 1
        # Mostly a stream of its own: on a shared one the writers soon wait, too.
        stream = "stream-1" if self._number % 10 == 0 else f"held-{self._number % 3}"
        parts = [Part(stream, new_events(2), ExpectedVersion.ANY)]
        commits = self._held[True] <= self._held[False]
        began = time.monotonic()
        drawn = 0.0

        def carry_out() -> Sequence[int]:
            nonlocal drawn
            with store.transaction() as transaction:
                versions = [transaction.append(part.stream_id, part.events, part.expected_version) for part in parts]
                drawn = time.monotonic()
                time.sleep(HOLD_SECONDS)
                if not commits:
                    transaction.read(stream, limit=1)  # It counts only where the transaction is still there.
                    raise RolledBack
            return versions

        outcome = recorder.call(parts, carry_out)
        if outcome.what == "ok" or isinstance(outcome.error, RolledBack):
            self._history.write("held", drawn=drawn)
            self._held[commits] += 1
            self._count(HELD_COMMITTED if commits else HELD_ROLLED_BACK, began)


class Unrelated:
    """A transaction that has written elsewhere and does not end, except with the server."""

    def __init__(self, dsn: str, count: Callable[[str, float], None]) -> None:
        self._dsn = dsn
        self._count = count
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS unrelated (number integer)")

    def run(self, stop: threading.Event) -> None:
        """Open it, and open it again whenever it was lost."""
        while not stop.is_set():
            # Lost with the server, or refused while that is read-only.
            with suppress(psycopg.Error), psycopg.connect(self._dsn, application_name="unrelated") as held:
                held.execute("INSERT INTO unrelated VALUES (1)")
                self._stay(held, stop)
            stop.wait(0.05)

    def _stay(self, connection: psycopg.Connection, stop: threading.Event) -> None:
        began = seen = time.monotonic()
        try:
            while not stop.wait(0.1):
                connection.execute("SELECT 1")
                seen = time.monotonic()
        finally:
            if seen - began > _UNRELATED_SECONDS:
                self._count(UNRELATED, began)
