"""Subscriptions and projections in Django: the ORM's writes and the checkpoint are one transaction."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import django.db
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from http_servers import environment
from parcels.events import Parcel
from parcels.models import Arrival, Note
from parcels.subscriptions import arrivals, notes
from parcels.threads import Thread
from waiting import PATIENCE, eventually

from eventstore import Event, InvalidArgument, InvalidOperation, SubscriptionFailed
from eventstore.contrib.django import (
    DjangoProjection,
    DjangoSubscription,
    DjangoTransaction,
    conf,
    event_store,
    projection,
    repository,
    subscription,
)
from eventstore.contrib.django.stores import DjangoEventStore
from eventstore.contrib.django.test import empty_store
from eventstore.subscriptions import retrying

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database", "impatient", "emptied")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)


@pytest.fixture
def emptied() -> Iterator[None]:
    empty_store()
    Note.objects.all().delete()
    Arrival.objects.all().delete()
    yield
    Note.objects.all().delete()
    Arrival.objects.all().delete()


def deliver(*signatures: str) -> None:
    for signature in signatures:
        parcel = Parcel(uuid4())
        parcel.post(f"to {signature}")
        parcel.deliver(signature)
        repository(Parcel).save(parcel)


def signatures() -> list[str]:
    return list(Arrival.objects.order_by("id").values_list("signature", flat=True))


def arrive(event: Event) -> None:
    Arrival.objects.create(stream_id=event.stream_id, signature=event.data["signature"])


def a_projection(handler: Callable[[Event, DjangoTransaction], object], **options: Any) -> DjangoProjection:
    return DjangoProjection(event_store(), "mine", handler, event_types=["ParcelDelivered"], **options)


class TestProjections:
    def test_the_orms_writes_and_the_checkpoint_are_stored_together(self) -> None:
        """What a handler has written before it fails is gone, and is written once when it succeeds."""
        deliver("a", "b", "c")
        failures = iter([False, True, False, True, True])

        def handle(event: Event, transaction: DjangoTransaction) -> None:
            arrive(event)
            assert transaction.connection is connections["default"].connection
            if next(failures, False):
                raise ZeroDivisionError

        a_projection(handle).run_until_caught_up()
        assert signatures() == ["a", "b", "c"]

    def test_an_error_of_the_orm_that_is_swallowed_counts_as_the_handlers(self) -> None:
        Note.objects.create(text="taken")
        deliver("a", "b")

        def handle(event: Event, _: DjangoTransaction) -> None:
            if event.data["signature"] == "b":
                try:
                    Note.objects.create(text="taken")
                except django.db.IntegrityError:
                    return
            arrive(event)

        with pytest.raises(SubscriptionFailed, match="failed earlier"):
            a_projection(handle, attempts=2).run_until_caught_up()
        assert signatures() == ["a"]

    def test_events_can_be_appended_with_the_checkpoint(self) -> None:
        deliver("a")

        def handle(event: Event, transaction: DjangoTransaction) -> None:
            transaction.append(f"Thanks-{event.event_id}", [Event(event_type="Thanked")], 0)

        a_projection(handle).run_until_caught_up()
        assert len(list(event_store().read_all(categories="Thanks"))) == 1

    def test_a_rebuild_replaces_what_the_orm_sees(self) -> None:
        deliver("a", "b")
        arrivals.run_until_caught_up()
        Arrival.objects.update(signature="wrong")
        arrivals.rebuild()
        assert signatures() == ["a", "b"]
        deliver("c")
        arrivals.run_until_caught_up()
        assert signatures() == ["a", "b", "c"]


class TestSubscriptions:
    def test_a_failure_in_the_orm_is_parked_and_the_rest_continues(self) -> None:
        Note.objects.create(text="to b")
        deliver("a", "b", "c")
        notes.run_until_caught_up()
        assert sorted(Note.objects.values_list("text", flat=True)) == ["to a", "to b", "to c"]
        (parked,) = notes.parked()
        assert "IntegrityError" in parked.error
        Note.objects.get(text="to b").delete()
        notes.retry_parked(parked.position)
        assert notes.parked() == []
        assert Note.objects.filter(text="to b").exists()

    def test_what_a_handler_wrote_before_it_failed_is_gone(self) -> None:
        deliver("a")
        tries: list[str] = []

        def handle(event: Event) -> None:
            arrive(event)
            tries.append(event.event_type)
            if len(tries) < 3:
                raise ZeroDivisionError

        mine = DjangoSubscription(event_store(), "mine", handle, event_types=["ParcelDelivered"])
        mine.run_until_caught_up()
        assert (len(tries), signatures()) == (3, ["a"])

    def test_other_connections_of_a_handler_are_looked_after(self) -> None:
        """One that was lost is replaced before the next attempt, as Django does at the next request."""
        deliver("a", "b")

        def handle(event: Event) -> None:
            with connections["server_side"].cursor() as cursor:
                cursor.execute("SELECT 1")
            if event.data["signature"] == "a" and not tries:
                tries.append("a")
                with psycopg.connect(conf.conninfo("default"), autocommit=True) as killer:
                    pid = connections["server_side"].connection.info.backend_pid
                    killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                    connections["server_side"].cursor().execute("SELECT 1")
            arrive(event)

        tries: list[str] = []
        DjangoSubscription(event_store(), "mine", handle, event_types=["ParcelDelivered"]).run_until_caught_up()
        assert signatures() == ["a", "b"]


class Running:
    """Workers in threads, as ``manage.py eventstore run`` has them."""

    def __init__(self, *workers: DjangoProjection | DjangoSubscription) -> None:
        self.workers = workers
        self.threads = [Thread(worker.run) for worker in workers]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop()
        for thread in self.threads:
            thread.result()


class TestRunning:
    def test_a_worker_has_a_connection_of_its_own_and_closes_it(self, other: psycopg.Connection[Any]) -> None:
        other.autocommit = True
        handled = threading.Event()
        pids: list[int] = []

        def handle(event: Event, transaction: DjangoTransaction) -> None:
            pids.append(transaction.connection.info.backend_pid)
            arrive(event)
            handled.set()

        with Running(mine := a_projection(handle)):
            deliver("a")
            assert handled.wait(PATIENCE)
            mine.wait_until_processed(timeout=PATIENCE)
        assert pids[0] != event_store().connection.info.backend_pid
        assert eventually(lambda: sessions(other).isdisjoint(pids))

    def test_more_workers_than_the_pool_has_connections(self) -> None:
        store = event_store("pooled")
        workers = [
            DjangoProjection(store, f"mine-{number}", lambda *_: None, event_types=["ParcelDelivered"])
            for number in range(6)
        ]
        with Running(*workers):
            deliver("a")
            for worker in workers:
                worker.wait_until_processed(timeout=PATIENCE)

    def test_a_worker_reads_committed_whatever_the_project_sets(self) -> None:
        levels: list[object] = []

        def handle(_: Event, transaction: DjangoTransaction) -> None:
            levels.append(transaction.connection.execute("SHOW transaction_isolation").fetchone())

        store = event_store("repeatable")
        with Running(mine := DjangoProjection(store, "mine", handle, event_types=["ParcelDelivered"])):
            deliver("a")
            mine.wait_until_processed(timeout=PATIENCE)
        assert levels == [("read committed",)]

    def test_a_lost_connection_costs_nothing(self, other: psycopg.Connection[Any]) -> None:
        other.autocommit = True
        first = threading.Event()

        def handle(event: Event, transaction: DjangoTransaction) -> None:
            arrive(event)
            if event.data["signature"] == "b" and not first.is_set():
                first.set()
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [transaction.connection.info.backend_pid])

        with Running(mine := a_projection(handle, poll_interval=0.01)):
            deliver("a", "b", "c")
            assert first.wait(PATIENCE)
            mine.wait_until_processed(timeout=PATIENCE)
        assert signatures() == ["a", "b", "c"]


def test_the_worker_process_stops_cleanly_at_sigterm(other: psycopg.Connection[Any]) -> None:
    other.autocommit = True
    before = sessions(other)
    process = subprocess.Popen(
        [sys.executable, "-m", "parcels", "eventstore", "run"],
        cwd=Path(__file__).parent,
        env=environment(PARCELS_DSN=conf.conninfo("default")),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "running arrivals, notes" in process.stderr.readline()
        deliver("a", "b")
        arrivals.wait_until_processed(timeout=PATIENCE)
        notes.wait_until_processed(timeout=PATIENCE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()
    assert signatures() == ["a", "b"]
    assert arrivals.status().state.value == "stopped"
    assert eventually(lambda: sessions(other) <= before)


def sessions(other: psycopg.Connection[Any]) -> set[int]:
    """The process ids of the database's sessions."""
    rows = other.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    return {pid for (pid,) in rows}


class TestCommands:
    def test_what_the_command_line_does_on_the_projects_database(self, tmp_path: Path) -> None:
        deliver("a")
        (stream,) = {event.stream_id for event in event_store().read_all()}
        assert "ParcelPosted" in command("read", stream)
        assert '"signature": "a"' in command("read", stream, "--json", "--from-version", "1")
        assert "is up to date" in command("migrate")
        arrivals.run_until_caught_up()
        assert "arrivals" in command("status")
        assert "rebuilt arrivals: 1 events" in command("rebuild", "arrivals")
        (tmp_path / "rows.csv").write_text("id,kind,at\n1,Moved,2026-01-01T00:00:00Z\n")
        columns = ["--stream", "id", "--type", "kind", "--timestamp", "at"]
        command("import", str(tmp_path / "rows.csv"), "--category", "Row", *columns)
        assert len(event_store().read("Row-1")) == 1

    def test_the_command_shows_and_retries_parked_events(self) -> None:
        Note.objects.create(text="to a")
        deliver("a")
        notes.run_until_caught_up()
        assert "IntegrityError" in command("parked", "notes")
        Note.objects.all().delete()
        assert "handled the event" in command("retry", "notes")
        assert command("parked", "notes") == ""

    def test_the_management_command_exits_with_the_command_lines_code(self, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            call_command("eventstore", "read", "no-such-stream")
        assert ended.value.code == 1
        with pytest.raises(SystemExit) as ended:
            call_command("eventstore", "frobnicate")
        assert ended.value.code == 2
        assert "no stream 'no-such-stream'" in capfd.readouterr().err

    def test_status_says_that_there_is_no_subscription(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("eventstore.contrib.django.management.commands.eventstore.targets", {})
        err = StringIO()
        with pytest.raises(SystemExit):
            call_command("eventstore", "run", stderr=err)
        assert "no subscription" in err.getvalue()


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("eventstore", *arguments, stdout=out)
    return out.getvalue()


def test_a_worker_runs_once_at_a_time() -> None:
    with Running(mine := a_projection(lambda *_: None, poll_interval=0.01)):
        deliver("a")
        mine.wait_until_processed(timeout=PATIENCE)
        with pytest.raises(InvalidOperation, match="runs already"):
            mine.run()


@pytest.mark.parametrize("decorator", [projection, subscription])
def test_a_decorator_without_a_name_is_refused_and_says_how_to_name_it(decorator: Callable[[Any], Any]) -> None:
    def arrivals(event: Event) -> None: ...

    with pytest.raises(InvalidArgument, match=rf'write @{decorator.__name__}\("arrivals"\) above arrivals'):
        decorator(arrivals)


@pytest.mark.parametrize("decorator", [projection, subscription])
def test_events_may_be_read_from_another_database_than_the_checkpoints(
    monkeypatch: pytest.MonkeyPatch, decorator: Callable[..., Any]
) -> None:
    """As from a standby, which the alias leads to."""
    monkeypatch.setattr("eventstore.contrib.django.workers.workers", {})
    monkeypatch.setattr("eventstore.contrib.django.workers.targets", {})
    handled: list[int] = []

    @decorator("from-elsewhere", read_using="pooled")
    def handle(event: Event, *_: object) -> None:
        handled.append(event.version)

    asked: set[tuple[str, str]] = set()
    execute = DjangoEventStore.execute

    def noted(store: DjangoEventStore, request: Any) -> Any:
        asked.add((store.using, type(request).__name__))
        return execute(store, request)

    event_store().append("Parcel-1", [Event(event_type="T"), Event(event_type="T")], 0)
    monkeypatch.setattr(DjangoEventStore, "execute", noted)
    handle.run_until_caught_up()
    assert handled == [1, 2]
    assert {using for using, request in asked if request == "ReadLog"} == {"pooled"}
    assert handle.status().position == event_store().last_position()
