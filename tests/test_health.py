"""Health: each thing that can be wrong is told apart from the others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
import pytest
from fronts import AsyncFront, Front
from psycopg import sql
from psycopg_pool import ConnectionPool
from waiting import PATIENCE, eventually

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncPostgresEventStore,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    PostgresEventStore,
    Projection,
    SubscriptionFailed,
)
from eventstore.cli import main
from eventstore.health import Health, SubscriptionHealth, asgi_app, async_check, check, wsgi_app
from eventstore.subscriptions import retrying

ANY = ExpectedVersion.ANY


def event(**changes: Any) -> Event:
    return Event(event_type="T", **changes)


def old(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def health(front: Front, **limits: Any) -> Health:
    if isinstance(front, AsyncFront):
        return front._thread.run(async_check(front.followed, **limits))
    return check(front.followed, **limits)


def the_only(found: Health) -> SubscriptionHealth:
    (subscription,) = found.subscriptions
    return subscription


def ignore(*_: object) -> None:
    """A handler."""


async def async_ignore(*_: object) -> None:
    """A handler."""


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def other(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, application_name="reports") as connection:
        yield connection


# --- conditions, on every store ---------------------------------------------------------------------------------------


def test_a_store_without_subscriptions_is_well(front: Front) -> None:
    front.store.append("a-1", [event()], 0)
    found = health(front)
    assert (found.ok, found.problems, found.position, found.subscriptions) == (True, (), 1, ())


def test_a_worker_that_has_nothing_to_do_is_well(front: Front) -> None:
    worker = front.subscription("w", ignore, poll_interval=0.01)
    front.store.append("a-1", [event()], 0)
    with front.running(worker):
        assert eventually(lambda: the_only(health(front)).condition == "idle" if health(front).subscriptions else False)
        assert health(front).ok


def test_nobody_at_work_is_well_until_there_is_something_to_do(front: Front) -> None:
    front.subscription("w", ignore).run_until_caught_up()
    assert (the_only(health(front)).condition, health(front).ok) == ("unattended", True)
    front.store.append("a-1", [event()], 0)
    found = health(front)
    assert (the_only(found).condition, found.ok) == ("unattended", False)
    assert found.problems == ("nobody works on subscription w, which is 1 position(s) behind: start a worker",)


def test_a_subscription_that_has_given_up_is_stuck(front: Front) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such\norder")

    before = old(60)
    front.store.append("a-1", [event()], 0)
    with pytest.raises(SubscriptionFailed):
        front.subscription("w", fail, attempts=1).run_until_caught_up()
    found = health(front, max_seconds=None)
    subscription = the_only(found)
    assert (subscription.condition, found.ok) == ("stuck", False)
    assert (subscription.error, subscription.error_position) == ("ValueError: no such\norder", 1)
    assert subscription.error_since is not None
    assert before < subscription.error_since < old(-60)
    assert found.problems[0].startswith("subscription w has given up at position 1 since ")
    assert r"no such\norder" in found.problems[0]


def test_a_subscription_that_retries_is_stuck_since_its_first_failure_and_well_within_the_limits(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)
    tried = threading.Semaphore(0)

    def fail(*_: object) -> None:
        tried.release()
        raise ValueError("not yet")

    front.store.append("a-1", [event()], 0)
    with front.running(front.subscription("w", fail, attempts=10_000)):
        assert all(tried.acquire(timeout=PATIENCE) for _ in range(3))
        found = health(front)
        first = the_only(found).error_since
        assert (the_only(found).condition, found.ok) == ("stuck", True)
        assert all(tried.acquire(timeout=PATIENCE) for _ in range(3))
        again = the_only(health(front)).error_since
        assert health(front, max_lag=0).problems[0].startswith("subscription w has failed at position 1 since ")
    assert first is not None
    assert again is not None
    assert abs(again - first) < timedelta(milliseconds=50)


def test_an_error_is_forgotten_once_the_event_is_handled(front: Front) -> None:
    failures = [ValueError("once")]

    def fail_once(*_: object) -> None:
        if failures:
            raise failures.pop()

    front.store.append("a-1", [event()], 0)
    front.subscription("w", fail_once, attempts=2).run_until_caught_up()
    subscription = the_only(health(front))
    assert (subscription.error, subscription.error_since, subscription.condition) == (None, None, "unattended")


def test_an_open_transaction_that_holds_a_subscription_back_is_named(front: Front) -> None:
    front.store.append("a-1", [event()], 0)
    worker = front.subscription("w", ignore, poll_interval=0.01)
    with front.running(worker), front.store.transaction() as transaction:
        transaction.append("open-1", [event()], 0)
        front.store.append("a-2", [event()], 0)
        assert eventually(lambda: bool(f := health(front).subscriptions) and f[0].condition == "held back")
        assert health(front).ok
        found = health(front, max_lag=0)
        holder = the_only(found).held_back_by
        assert not found.ok
        assert holder is not None
        assert holder.sentence() in found.problems[0]
        assert holder in found.sessions


def test_a_worker_that_is_long_at_one_event_is_behind_and_not_gone(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.core.checkpoints.PRESENCE", 0.0)
    at_work, done = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        at_work.set()
        assert done.wait(PATIENCE)

    async def async_handle(*_: object) -> None:
        at_work.set()
        assert await asyncio.to_thread(done.wait, PATIENCE)

    front.store.append("a-1", [event()], 0)
    with front.running(front.subscription("w", async_handle if isinstance(front, AsyncFront) else handle)):
        try:
            assert at_work.wait(PATIENCE)
            found = health(front)
        finally:
            done.set()
    assert (the_only(found).condition, the_only(found).positions_behind, found.ok) == ("behind", 1, True)


def test_lag_beyond_a_limit_is_not_well(front: Front) -> None:
    at_work, done = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        at_work.set()
        assert done.wait(PATIENCE)

    async def async_handle(*_: object) -> None:
        at_work.set()
        assert await asyncio.to_thread(done.wait, PATIENCE)

    front.store.append("a-1", [event(timestamp=old(100)), event()], 0)
    with front.running(front.subscription("w", async_handle if isinstance(front, AsyncFront) else handle)):
        try:
            assert at_work.wait(PATIENCE)
            well = {
                name: health(front, **limits).ok
                for name, limits in {
                    "none": {"max_seconds": None},
                    "lag of 1": {"max_seconds": None, "max_lag": 1},
                    "lag of 2": {"max_seconds": None, "max_lag": 2},
                    "90 s": {"max_seconds": 90},
                    "1000 s": {"max_seconds": 1000},
                }.items()
            }
        finally:
            done.set()
    assert well == {"none": True, "lag of 1": False, "lag of 2": True, "90 s": False, "1000 s": True}


def test_parked_events_are_counted(front: Front) -> None:
    def fail(*_: object) -> None:
        raise ValueError

    front.store.append("a-1", [event()], 0)
    front.subscription("w", fail, attempts=1, on_failure="park").run_until_caught_up()
    assert the_only(health(front)).parked == 1


@pytest.mark.parametrize("limits", [{"max_lag": -1}, {"max_lag": 1.5}, {"max_seconds": -1}, {"max_seconds": "1"}])
def test_an_invalid_limit_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(limits))):
        check(InMemoryEventStore(), **limits)
    with pytest.raises(InvalidArgument, match=next(iter(limits))):
        wsgi_app(InMemoryEventStore(), **limits)


def test_a_store_without_checkpoints_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="object keeps no checkpoints"):
        check(object())
    with pytest.raises(InvalidArgument, match="object keeps no checkpoints"):
        asyncio.run(async_check(object()))
    with pytest.raises(InvalidArgument, match="'lag' is no limit"):
        wsgi_app(InMemoryEventStore(), lag=1)


# --- what only PostgreSQL can have ------------------------------------------------------------------------------------


def test_a_checkpoint_above_the_log_is_stuck(
    store: PostgresEventStore, other: psycopg.Connection[Any], schema: str
) -> None:
    Projection(store, "w", ignore).run_until_caught_up()
    other.execute(sql.SQL("UPDATE {}.subscriptions SET position = 7").format(sql.Identifier(schema)))
    other.commit()
    found = check(store)
    assert (the_only(found).condition, found.ok) == ("stuck", False)
    assert "restored" in found.problems[0]


def test_a_sequence_behind_the_log_is_a_problem(
    store: PostgresEventStore, other: psycopg.Connection[Any], schema: str
) -> None:
    store.append("a-1", [event(), event()], 0)
    other.execute(f"SELECT setval('{schema}.event_positions', 1)".encode())
    other.commit()
    found = check(store)
    assert not found.ok
    assert "sequence event_positions of this node has not drawn" in found.problems[0]


def test_an_old_schema_is_a_problem_and_that_of_the_next_release_is_none(
    store: PostgresEventStore, other: psycopg.Connection[Any], schema: str
) -> None:
    table = sql.SQL("{}.migrations").format(sql.Identifier(schema))
    other.execute(sql.SQL("INSERT INTO {} (number, name, checksum) VALUES (9000, 'later', '')").format(table))
    other.commit()
    assert check(store).ok
    other.execute(sql.SQL("DELETE FROM {} WHERE number > 3").format(table))
    other.commit()
    assert "the schema is old: it has migration 3" in check(store).problems[0]


def test_a_missing_schema_is_a_problem(dsn: str) -> None:
    with PostgresEventStore.connect(dsn, "nowhere") as store:
        found = check(store)
    assert not found.ok
    assert found.problems[0].startswith("the schema is not that of this library: ")
    assert "eventstore migrate" in found.problems[0]


def test_a_server_that_is_gone_is_a_problem_and_no_password_is_in_it() -> None:
    with PostgresEventStore.connect("postgresql://ann:secret@127.0.0.1:1/nothing") as store:
        found = check(store)
    assert not found.ok
    assert found.problems[0].startswith("the store can't be used: no connection to the server: ")
    assert "secret" not in found.as_json()


def test_whoever_has_locked_the_table_is_named(
    store: PostgresEventStore, other: psycopg.Connection[Any], schema: str
) -> None:
    other.execute(sql.SQL("LOCK TABLE {}.events").format(sql.Identifier(schema)))
    found = check(store, timeout=1)
    assert not found.ok
    assert f"session {other.info.backend_pid} (" in found.problems[-1]
    assert "has locked the table of events" in found.problems[-1]


def test_a_check_needs_no_connection_of_the_pool(dsn: str, schema: str) -> None:
    with PostgresEventStore.connect(dsn, schema, max_size=1) as store, store.transaction():
        assert check(store).ok

    async def main() -> bool:
        async with (
            AsyncPostgresEventStore.connect(dsn, schema, max_size=1) as store,
            store.transaction(),
        ):
            return (await async_check(store)).ok

    assert asyncio.run(main())


# --- for machines -----------------------------------------------------------------------------------------------------


def stuck(store: Any) -> None:
    def fail(*_: object) -> None:
        raise ValueError('<b>"no"</b>')

    store.append("a-1", [event()], 0)
    with pytest.raises(SubscriptionFailed):
        Projection(store, 'w"\\', fail, attempts=1).run_until_caught_up()


def test_metrics_name_each_subscription() -> None:
    store = InMemoryEventStore()
    stuck(store)
    text = check(store).as_prometheus()
    assert "\neventstore_ok 0\n" in text
    assert "\neventstore_up 1\n" in text
    assert "\neventstore_last_position 1\n" in text
    assert '\neventstore_subscription_lag_positions{subscription="w\\"\\\\"} 1\n' in text
    assert '\neventstore_subscription_condition{subscription="w\\"\\\\",condition="stuck"} 1\n' in text
    assert '\neventstore_subscription_condition{subscription="w\\"\\\\",condition="idle"} 0\n' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


@pytest.fixture(params=["wsgi", "asgi", "asgi on async"])
def app(request: pytest.FixtureRequest) -> tuple[Any, Callable[[str], httpx2.Response]]:
    """A store, and how a request for its health is answered."""
    store: Any = AsyncInMemoryEventStore() if request.param == "asgi on async" else InMemoryEventStore()

    def send(method: str) -> httpx2.Response:
        if request.param == "wsgi":
            with httpx2.Client(transport=httpx2.WSGITransport(app=wsgi_app(store)), base_url="http://test") as client:
                return client.request(method, "/")

        async def over_asgi() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=asgi_app(store))
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, "/")

        return asyncio.run(over_asgi())

    return store, send


def test_web_applications_answer_with_200_or_503(app: tuple[Any, Callable[[str], httpx2.Response]]) -> None:
    store, send = app
    response = send("GET")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["ok"] is True
    assert (send("HEAD").status_code, send("HEAD").text) == (200, "")
    assert send("POST").status_code == 405
    if isinstance(store, InMemoryEventStore):
        stuck(store)
        response = send("GET")
        assert response.status_code == 503
        (subscription,) = response.json()["subscriptions"]
        assert (subscription["condition"], subscription["error"]) == ("stuck", 'ValueError: <b>"no"</b>')


@pytest.fixture
def status(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*options: str) -> tuple[int, str, str]:
        return main(["status", "--dsn", dsn, "--schema", schema, *options]), *capsys.readouterr()

    return run


def test_status_fails_and_says_why_if_it_is_asked_to(
    store: PostgresEventStore, status: Callable[..., tuple[int, str, str]]
) -> None:
    assert status("--fail")[0] == 0
    Projection(store, "w", ignore).run_until_caught_up()
    store.append("a-1", [event()], 0)
    code, printed, complaint = status("--fail")
    assert (code, complaint) == (
        1,
        "eventstore: nobody works on subscription w, which is 1 position(s) behind: start a worker\n",
    )
    assert printed.splitlines()[1].split()[:2] == ["w", "stopped"]
    assert status()[0] == 0


def test_status_as_json_ends_with_the_verdict(
    store: PostgresEventStore, status: Callable[..., tuple[int, str, str]]
) -> None:
    Projection(store, "w", ignore).run_until_caught_up()
    store.append("a-1", [event()], 0)
    code, printed, _ = status("--json")
    *_, verdict = map(json.loads, printed.splitlines())
    assert (code, verdict["kind"], verdict["ok"], len(verdict["problems"])) == (0, "health", False, 1)


def test_status_prints_metrics_even_of_a_store_that_is_gone(
    store: PostgresEventStore, status: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    store.append("a-1", [event()], 0)
    assert "eventstore_last_position 1\n" in status("--prometheus")[1]
    assert main(["status", "--prometheus", "--dsn", "postgresql://127.0.0.1:1/nothing"]) == 0
    assert "eventstore_up 0\n" in capsys.readouterr().out
    assert main(["status", "--prometheus", "--fail", "--dsn", "postgresql://127.0.0.1:1/nothing"]) == 1


@pytest.mark.parametrize("option", ["--max-seconds=0", "--max-seconds=nan", "--max-lag=x"])
def test_status_refuses_an_invalid_limit(option: str, status: Callable[..., tuple[int, str, str]]) -> None:
    code, _, complaint = status(option)
    assert code == 2
    assert "is not a" in complaint
