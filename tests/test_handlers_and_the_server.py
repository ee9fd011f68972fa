"""Handlers that meet the server's limits and moods: what counts against the event, and what is waited for."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fronts import AsyncFront, Front
from psycopg import errors
from psycopg.conninfo import make_conninfo
from waiting import PATIENCE, eventually

from eventstore import (
    AsyncPostgresEventStore,
    Event,
    InMemoryEventStore,
    PostgresEventStore,
    StoreRefused,
    StoreUnavailable,
    Subscription,
    SubscriptionFailed,
)
from eventstore.core.subscription_requests import InRecovery
from eventstore.subscriptions import outages
from eventstore.testing import EventLoopThread
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["blocking", "async"])
def make_front(request: pytest.FixtureRequest, schema: str) -> Iterator[Callable[[str], Front]]:
    """Makes what follows a store on a DSN, blocking and async."""
    with ExitStack() as stack:

        def make(dsn: str) -> Front:
            if request.param == "blocking":
                return Front(stack.enter_context(PostgresEventStore.connect(dsn, schema)))
            thread = stack.enter_context(EventLoopThread())
            own = AsyncPostgresEventStore.connect(dsn, schema)
            stack.callback(lambda: thread.run(own.close()))
            return AsyncFront(own, thread)

        yield make


@pytest.fixture
def front(make_front: Callable[[str], Front], dsn: str) -> Front:
    return make_front(dsn)


@pytest.fixture
def hasty(make_front: Callable[[str], Front], dsn: str) -> Front:
    """A store whose sessions are ended when they are idle in a transaction for a moment."""
    return make_front(make_conninfo(dsn, options="-c idle_in_transaction_session_timeout=200"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("retrying", "outages"):
        monkeypatch.setattr(f"eventstore.subscriptions.{module}.FIRST_DELAY", 0.001)


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="Numbered", data={"number": number}) for number in range(count)]


def numbers(found: list[Event]) -> list[int]:
    return [event.data["number"] for event in found]


class Slow:
    """A handler that is too slow for the server at one event: until the server has ended its session."""

    def __init__(self, dsn: str, at: int) -> None:
        self._dsn = dsn
        self._at = at
        self.calls = 0
        self.seen: list[Event] = []

    def __call__(self, event: Event, *_: object) -> None:
        if event.data["number"] == self._at:
            self.calls += 1
            with psycopg.connect(self._dsn, autocommit=True) as other:
                assert eventually(lambda: other.execute(IDLE).fetchone() == (0,))
        self.seen.append(event)


IDLE = """
    SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'
    AND query LIKE '%position%' AND pid <> pg_backend_pid()
"""
"""Sessions that have read a batch of events, and wait for its handler."""


class TestTime:
    @pytest.mark.parametrize("kind", ["subscription", "projection"])
    def test_an_event_whose_handler_outlasts_its_session_is_parked(self, hasty: Front, dsn: str, kind: str) -> None:
        hasty.store.append("a", events(4), 0)
        slow = Slow(dsn, at=2)
        worker = getattr(hasty, kind)("w", slow, attempts=2, on_failure="park")
        worker.run_until_caught_up()
        (parked,) = worker.parked()
        assert (parked.version, parked.attempts) == (3, 2)
        assert "idle-in-transaction" in parked.error
        assert numbers(slow.seen)[-1] == 3

    def test_a_subscription_stops_at_an_event_that_outlasts_its_session_by_default(
        self, hasty: Front, dsn: str
    ) -> None:
        hasty.store.append("a", events(3), 0)
        worker = hasty.projection("w", Slow(dsn, at=1), attempts=2)
        with pytest.raises(SubscriptionFailed, match="idle-in-transaction") as failed:
            worker.run_until_caught_up()
        assert failed.value.position == hasty.store.read("a")[1].position

    def test_a_handler_whose_own_statement_finds_its_session_ended_has_failed_too(self, hasty: Front, dsn: str) -> None:
        if isinstance(hasty, AsyncFront):
            return  # The same, with an await in the handler.
        hasty.store.append("a", events(2), 0)
        slow = Slow(dsn, at=0)

        def handle(event: Event, transaction: Any) -> None:
            slow(event)
            transaction.connection.execute("SELECT 1")

        worker = hasty.projection("w", handle, attempts=2, on_failure="park")
        worker.run_until_caught_up()
        assert [parked.version for parked in worker.parked()] == [1]
        assert slow.calls >= 2

    def test_a_statement_that_is_cancelled_counts_as_an_attempt(self, front: Front) -> None:
        front.store.append("a", events(2), 0)
        worker = front.subscription("w", Raising(errors.QueryCanceled, at=0, times=99), attempts=2, on_failure="park")
        worker.run_until_caught_up()
        assert [parked.version for parked in worker.parked()] == [1]

    def test_an_outage_is_not_counted(self, dsn: str, schema: str) -> None:
        with Proxy(dsn) as proxy, PostgresEventStore.connect(proxy.dsn, schema) as store:
            store.append("a", events(2), 0)
            calls = []

            def handle(event: Event, transaction: Any) -> None:
                calls.append(event)
                if len(calls) < 5:
                    proxy.lose("SELECT 'lost'", delivered=False)
                    transaction.connection.execute("SELECT 'lost'")

            worker = Front(store).projection("w", handle, attempts=2, on_failure="park")
            worker.run_until_caught_up()
            assert worker.parked() == []
            assert len(calls) == 6


class Raising:
    """A handler that raises an error of the driver's at one event, so many times."""

    def __init__(self, error: Callable[[str], Exception], at: int, times: int) -> None:
        self._error = error
        self._at = at
        self.left = times
        self.seen: list[Event] = []

    def __call__(self, event: Event, *_: object) -> None:
        if event.data["number"] == self._at and self.left:
            self.left -= 1
            raise self._error("the server's words")
        self.seen.append(event)


class OfAnOrm(Exception):
    """What an ORM makes of the driver's error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.__cause__ = errors.DiskFull(message)


MOODS = [
    errors.DiskFull,
    errors.OutOfMemory,
    errors.TooManyConnections,
    errors.LockNotAvailable,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.ReadOnlySqlTransaction,
    errors.CannotConnectNow,
    OfAnOrm,
    StoreUnavailable,
]


class TestMoods:
    @pytest.mark.parametrize("kind", ["subscription", "projection"])
    @pytest.mark.parametrize("mood", MOODS)
    def test_what_the_server_may_do_later_is_waited_for_in_order(
        self, front: Front, kind: str, mood: Callable[[str], Exception], caplog: pytest.LogCaptureFixture
    ) -> None:
        front.store.append("a", events(4), 0)
        handler = Raising(mood, at=2, times=5)
        worker = getattr(front, kind)("w", handler, attempts=2, on_failure="park")
        with caplog.at_level(logging.WARNING, "eventstore"):
            worker.run_until_caught_up()
        assert worker.parked() == []
        seen = numbers(handler.seen)
        assert seen[-2:] == [2, 3]
        assert seen.count(2) == seen.count(3) == 1
        waits = [record.getMessage() for record in caplog.records if "it resumes in" in record.getMessage()]
        assert len(waits) >= 4
        assert all("the server's words" in message for message in waits)

    @pytest.mark.parametrize("kind", ["subscription", "projection"])
    @pytest.mark.parametrize(
        "refusal",
        [
            errors.UndefinedTable,
            errors.InsufficientPrivilege,
            errors.FeatureNotSupported,
            errors.InvalidSchemaName,
            errors.InternalError_,
        ],
    )
    def test_what_the_server_will_refuse_again_ends_the_run_whatever_the_event(
        self, front: Front, kind: str, refusal: Callable[[str], Exception]
    ) -> None:
        front.store.append("a", events(4), 0)
        handler = Raising(refusal, at=2, times=99)
        worker = getattr(front, kind)("w", handler, attempts=3, on_failure="park")
        with pytest.raises(SubscriptionFailed, match="the server's words"):
            worker.run_until_caught_up()
        # A projection's batch is rolled back first, to try the event alone.
        assert handler.left == (95 if kind == "projection" else 96)
        assert worker.parked() == []
        assert front.store.read("a")[1].position == worker.status().position


class Refusing(InMemoryEventStore):
    """A store in memory whose server says no to what a subscription asks."""

    def __init__(self, sqlstate: str, *, times: int = 20, standby: bool = False) -> None:
        super().__init__()
        self._times = times
        self.refused = 0
        self._sqlstate = sqlstate
        self._standby = standby

    def execute(self, request: Any) -> Any:
        if isinstance(request, InRecovery):
            return self._standby
        if "Register" in type(request).__name__ and self.refused < self._times:
            self.refused += 1
            raise StoreUnavailable("the server refused: no", sqlstate=self._sqlstate)
        return super().execute(request)


class TestRefusals:
    def test_an_internal_error_is_tried_a_bounded_number_of_times(self) -> None:
        store = Refusing("XX000")
        worker = Subscription(store, "w", print)
        with pytest.raises(StoreRefused, match=r"the server refused: no \(tried 10 times\)"):
            worker.run()
        assert store.refused == outages.INTERNAL_TRIES

    def test_a_standby_is_not_waited_for(self) -> None:
        with pytest.raises(StoreRefused, match="standby"):
            Subscription(Refusing("25006", standby=True), "w", print).run()

    def test_a_server_that_is_read_only_for_a_while_is_waited_for(self) -> None:
        store = Refusing("25006", times=5)
        Subscription(store, "w", print).run_until_caught_up()
        assert store.refused == 5

    def test_a_stop_ends_the_wait(self) -> None:
        store = Refusing("53100")
        worker = Subscription(store, "w", print)
        thread = threading.Thread(target=worker.run)
        thread.start()
        worker.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
