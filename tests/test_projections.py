"""Read models on PostgreSQL: exactly once whatever fails, on several processes, and rebuilt beside the one in use."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from fronts import Front
from psycopg_pool import ConnectionPool
from waiting import PATIENCE, eventually

from eventstore import (
    Event,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    PostgresTransaction,
    Projection,
    Subscription,
    SubscriptionFailed,
)
from eventstore.postgres import migrate, notifications
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.subscriptions import RebuildProgress, outages, rebuilding, retrying

NEVER = 3600.0


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(outages, "FIRST_DELAY", 0.001)


class ReadModel:
    """Two tables of the application's: how many events each stream has, and which were counted."""

    def __init__(self, pool: ConnectionPool, store: PostgresEventStore, name: str) -> None:
        self.pool = pool
        self.store = store
        self.name = name
        self.tables = [f"{name}.counts", f"{name}.counted"]
        self.run(f"CREATE SCHEMA {name}")
        self.run(
            f"CREATE TABLE {name}.counts (stream_id text PRIMARY KEY, n int NOT NULL,"
            " doubled int GENERATED ALWAYS AS (n * 2) STORED)"
        )
        self.run(f"CREATE TABLE {name}.counted (id int GENERATED ALWAYS AS IDENTITY, position bigint NOT NULL)")

    def run(self, statement: Any, *parameters: object) -> list[Any]:
        with self.pool.connection() as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def count(self, event: Event, transaction: PostgresTransaction) -> None:
        """A handler that names no schema: its tables are found through the search path."""
        connection = transaction.connection
        connection.execute(
            "SELECT set_config('search_path', current_setting('search_path') || ',' || %s, true)", (self.name,)
        )
        connection.execute(
            "INSERT INTO counts VALUES (%s, 1) ON CONFLICT (stream_id) DO UPDATE SET n = counts.n + 1",
            (event.stream_id,),
        )
        connection.execute("INSERT INTO counted (position) VALUES (%s)", (event.position,))

    def counts(self) -> dict[str, int]:
        return dict(self.run(f"SELECT stream_id, n FROM {self.name}.counts"))

    def projection(
        self, handler: Callable[[Event, PostgresTransaction], None] | None = None, **options: Any
    ) -> Projection[PostgresTransaction]:
        return Projection(self.store, "counts", handler or self.count, tables=self.tables, **options)

    def kill(self, transaction: PostgresTransaction) -> None:
        """End the transaction's connection on the server."""
        self.run("SELECT pg_terminate_backend(%s::integer, 5000)", transaction.connection.info.backend_pid)

    def leftovers(self) -> list[Any]:
        """What a rebuild has left behind."""
        schema = self.store.statements.schema
        return self.run(
            "SELECT nspname FROM pg_namespace"
            f" WHERE starts_with(nspname, 'eventstore_rebuild_' || '{schema}.event_positions'::regclass::oid || '_')"
            f' UNION SELECT name FROM "{schema}".subscriptions WHERE partition < 0',
        )


@pytest.fixture
def model(pool: ConnectionPool, store: PostgresEventStore, schema: str) -> Iterator[ReadModel]:
    model = ReadModel(pool, store, f"{schema}_app")
    yield model
    model.run(f"DROP SCHEMA {model.name} CASCADE")


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="Numbered", data={"number": number}) for number in range(count)]


def fill(store: PostgresEventStore, streams: int, each: int) -> dict[str, int]:
    for number in range(streams):
        store.append(f"s-{number}", events(each), ExpectedVersion.ANY)
    return {f"s-{number}": each for number in range(streams)}


class TestExactlyOnce:
    def test_a_read_model_is_what_the_log_says(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 3, 4)
        model.projection(batch_size=5).run_until_caught_up()
        assert model.counts() == expected

    @pytest.mark.parametrize("number", [0, 3, 7])
    @pytest.mark.usefixtures("impatient")
    def test_a_lost_connection_only_delays_a_projection(
        self, store: PostgresEventStore, model: ReadModel, number: int
    ) -> None:
        expected = fill(store, 1, 8)
        lost: list[int] = []

        def count_once_killed(event: Event, transaction: PostgresTransaction) -> None:
            model.count(event, transaction)
            if event.data["number"] == number and not lost:
                lost.append(number)
                model.kill(transaction)
                model.count(event, transaction)

        model.projection(count_once_killed, attempts=1).run_until_caught_up()
        assert lost == [number]
        assert model.counts() == expected

    def test_a_statement_that_fails_is_the_handlers_failure(self, store: PostgresEventStore, model: ReadModel) -> None:
        def fail(event: Event, transaction: PostgresTransaction) -> None:
            model.count(event, transaction)
            if event.data["number"] == 2:
                transaction.connection.execute("SELECT 1/0")

        fill(store, 1, 4)
        with pytest.raises(SubscriptionFailed, match="division by zero"):
            model.projection(fail, attempts=1).run_until_caught_up()
        assert model.counts() == {"s-0": 2}

    @pytest.mark.usefixtures("impatient")
    def test_a_failed_statement_whose_error_the_handler_swallows_is_its_failure(
        self, store: PostgresEventStore, model: ReadModel
    ) -> None:
        def swallow(event: Event, transaction: PostgresTransaction) -> None:
            model.count(event, transaction)
            if event.data["number"] == 3:
                with suppress(psycopg.errors.DivisionByZero):
                    transaction.connection.execute("SELECT 1/0")

        fill(store, 1, 4)
        with pytest.raises(SubscriptionFailed) as failed:
            model.projection(swallow, attempts=2).run_until_caught_up()
        assert failed.value.position == store.read("s-0")[3].position
        assert model.counts() == {"s-0": 3}

    def test_the_same_handler_can_run_inline(self, store: PostgresEventStore, model: ReadModel) -> None:
        inline = Front(store).inline(model.count)
        batch = events(3)
        for _ in range(2):
            inline.append("s-0", batch, 0)
        assert model.counts() == {"s-0": 3}

    def test_inline_goes_with_a_transaction_of_the_callers(
        self, store: PostgresEventStore, connection: psycopg.Connection, model: ReadModel
    ) -> None:
        inline = Front(store).inline(model.count)
        inline.bind(connection).append("s-0", events(2), 0)
        connection.rollback()
        assert model.counts() == {}
        inline.bind(connection).append("s-0", events(2), 0)
        connection.commit()
        assert model.counts() == {"s-0": 2}


class TestServer:
    def test_a_projection_continues_after_the_server_was_restarted(self) -> None:
        seen: list[int] = []
        with EmbeddedServer() as server:
            migrate(server.dsn)
            with PostgresEventStore.connect(server.dsn) as store:
                worker = Subscription(store, "s", lambda event: seen.append(event.version), poll_interval=0.05)
                with Front(store).running(worker):
                    for version in range(3):
                        store.append("a", events(1), version)
                        worker.wait_until_processed(timeout=PATIENCE)
                        server.restart("immediate")
                    store.append("a", events(1), 3)
                    worker.wait_until_processed(timeout=PATIENCE)
        assert sorted(set(seen)) == [1, 2, 3, 4]

    def test_another_process_wakes_a_projection_by_a_notification(
        self, store: PostgresEventStore, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notifications, "_BY_SCHEMA", {})  # What appends shares no wake-ups with what follows.
        with PostgresEventStore.connect(dsn, schema, notify=True) as appending:
            seen: list[Event] = []
            worker = Subscription(store, "s", seen.append, poll_interval=NEVER)
            with Front(store).running(worker):
                for version in range(3):
                    appending.append("a", events(1), version)
                    while len(seen) <= version:
                        threading.Event().wait(0.002)
            assert len(seen) == 3

    def test_another_program_wakes_a_projection_by_a_notification(
        self, store: PostgresEventStore, dsn: str, schema: str
    ) -> None:
        program = (
            "import sys; from eventstore import *; store = PostgresEventStore.connect(*sys.argv[1:], notify=True);"
            "store.append('a', [Event(event_type='T')], 0); store.announce(); input()"
        )
        seen: list[Event] = []
        worker = Subscription(store, "s", seen.append, poll_interval=NEVER)
        command = [sys.executable, "-c", program, dsn, schema]
        with Front(store).running(worker), subprocess.Popen(command, stdin=subprocess.PIPE) as other:
            while not seen:
                assert other.poll() is None
                threading.Event().wait(0.002)
            other.communicate(b"\n", timeout=PATIENCE)

    def test_the_thread_that_notifies_goes_when_nothing_is_said(
        self, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notifications, "IDLE_SECONDS", 0.05)
        others = set(threading.enumerate())

        def notifying() -> list[threading.Thread]:
            return [each for each in threading.enumerate() if each.name == "eventstore-notifier" and each not in others]

        with PostgresEventStore.connect(dsn, schema, notify=True) as store:
            for version in range(2):
                store.append("a", events(1), version)
                (thread,) = notifying()
                thread.join(PATIENCE)
                assert notifying() == []

    def test_listening_leaves_no_connection_behind(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        def listening() -> int:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchone()
            connection.rollback()
            assert row is not None
            return int(row[0])

        before = listening()
        workers = [Subscription(store, f"s{number}", print) for number in range(3)]
        front = Front(store)
        with front.running(workers[0]), front.running(workers[1]), front.running(workers[2]):
            assert eventually(lambda: listening() == before + 1)
        assert eventually(lambda: listening() == before)


class TestRebuild:
    def test_a_rebuild_builds_the_read_model_again(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 7, 5)
        projection = model.projection(batch_size=10)
        projection.run_until_caught_up()
        model.run(f"UPDATE {model.name}.counts SET n = -1")
        told: list[RebuildProgress] = []
        projection.rebuild(progress=told.append)
        assert model.counts() == expected
        assert model.leftovers() == []
        last = list(store.read_all())[-1].position
        assert projection.status().position == last
        assert [p.position for p in told] == sorted(p.position for p in told)
        assert (told[0].position, told[0].seconds_left) == (0, None)
        assert (told[-1].position, told[-1].target, told[-1].events, told[-1].seconds_left) == (last, last, 35, 0.0)
        assert told[-1].rate > 0

    def test_sequences_and_generated_columns_keep_working_after_a_rebuild(
        self, store: PostgresEventStore, model: ReadModel
    ) -> None:
        fill(store, 1, 5)
        projection = model.projection()
        projection.run_until_caught_up()
        projection.rebuild()
        store.append("s-0", events(1), 5)
        projection.run_until_caught_up()
        assert model.run(f"SELECT sum(doubled) FROM {model.name}.counts") == [(12,)]
        assert model.run(f"SELECT count(DISTINCT id) FROM {model.name}.counted") == [(6,)]

    def test_a_rebuild_can_begin_above_a_position(self, store: PostgresEventStore, model: ReadModel) -> None:
        fill(store, 2, 3)
        model.projection().rebuild(from_position=store.read("s-0")[2].position)
        assert model.counts() == {"s-1": 3}

    def test_a_rebuild_from_above_the_log_is_refused_before_the_tables_are_empty(
        self, store: PostgresEventStore, model: ReadModel
    ) -> None:
        fill(store, 2, 3)
        model.projection().run_until_caught_up()
        with pytest.raises(InvalidArgument, match="the log ends at 6"):
            model.projection().rebuild(from_position=7)
        assert model.counts() == {"s-0": 3, "s-1": 3}

    @pytest.mark.not_on_citus("there is no snapshot for statements on several nodes")
    def test_readers_never_see_a_rebuild_half_done(
        self, store: PostgresEventStore, model: ReadModel, dsn: str, schema: str
    ) -> None:
        """Writers write, a worker follows, the model is rebuilt thrice; in each snapshot it is what the log says."""
        fill(store, 10, 10)
        rebuilding = model.projection(batch_size=20)
        rebuilding.run_until_caught_up()
        done = threading.Event()
        seen: list[Any] = []

        def write() -> None:
            while not done.wait(0.01):  # It leaves the others some of the processor.
                store.append("busy", events(1), ExpectedVersion.ANY)

        def look() -> None:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while not done.is_set():  # One statement is one snapshot.
                    seen.extend(
                        connection.execute(
                            f"SELECT (SELECT sum(n) FROM {model.name}.counts),"
                            f" (SELECT count(*) FROM {model.name}.counted),"
                            f' (SELECT count(*) FROM "{schema}".events WHERE position <= (SELECT position'
                            f" FROM \"{schema}\".subscriptions WHERE name = 'counts' AND partition = 0))"
                        ).fetchall()
                    )

        threads = [threading.Thread(target=target) for target in (write, look, look)]
        with Front(store).running(model.projection()):
            for thread in threads:
                thread.start()
            try:
                for _ in range(3):
                    rebuilding.rebuild()
            finally:
                done.set()
                for thread in threads:
                    thread.join(PATIENCE)
        assert seen
        assert [counts for counts in seen if len(set(counts)) != 1] == []

    @pytest.mark.not_on_citus("what a session has written is counted on the worker, and looked for on the coordinator")
    def test_a_rebuild_notices_a_handler_that_names_the_schema(
        self, store: PostgresEventStore, model: ReadModel
    ) -> None:
        def count(event: Event, transaction: PostgresTransaction) -> None:
            transaction.connection.execute(
                f"INSERT INTO {model.name}.counts VALUES (%s, 1)"
                " ON CONFLICT (stream_id) DO UPDATE SET n = counts.n + 1",
                (event.stream_id,),
            )

        expected = fill(store, 2, 3)
        projection = model.projection(count)
        projection.run_until_caught_up()
        with pytest.raises(InvalidOperation, match="change what is in use"):
            projection.rebuild()
        assert model.counts() == expected
        assert model.leftovers() == []

    def test_a_rebuild_that_fails_changes_nothing(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 3, 20)
        model.projection().run_until_caught_up()

        def fail(event: Event, transaction: PostgresTransaction) -> None:
            model.count(event, transaction)
            if event.stream_id == "s-2":
                raise ZeroDivisionError

        with pytest.raises(SubscriptionFailed) as failed:
            model.projection(fail, batch_size=7).rebuild()
        assert failed.value.position == store.read("s-2")[0].position
        assert model.counts() == expected
        assert model.leftovers() == []

    def test_a_rebuild_can_be_stopped(
        self, store: PostgresEventStore, model: ReadModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rebuilding, "FINISH_SECONDS", 0.0)
        expected = fill(store, 3, 20)
        projection = model.projection(batch_size=10)
        projection.run_until_caught_up()
        with pytest.raises(InvalidOperation, match="was stopped"):
            projection.rebuild(progress=lambda progress: projection.stop() if progress.events else None)
        assert model.counts() == expected
        assert model.leftovers() == []
        store.append("s-0", events(1), 20)
        projection.run_until_caught_up()
        assert model.counts() == {**expected, "s-0": 21}

    def test_two_rebuilds_at_once_are_refused(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 3, 20)
        refused: list[str] = []

        def try_another(_: RebuildProgress) -> None:
            if not refused:
                with pytest.raises(InvalidOperation) as error:
                    model.projection().rebuild()
                refused.append(str(error.value))

        model.projection(batch_size=10).rebuild(progress=try_another)
        assert "being rebuilt already" in refused[0]
        assert model.counts() == expected

    @pytest.mark.usefixtures("impatient")
    def test_a_lost_connection_only_delays_a_rebuild(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 3, 20)
        killed: list[int] = []

        def kill_now_and_then(event: Event, transaction: PostgresTransaction) -> None:
            model.count(event, transaction)
            if event.data["number"] % 7 == 3 and event.position not in killed:
                killed.append(event.position)
                model.kill(transaction)

        model.projection(kill_now_and_then, batch_size=10).rebuild()
        assert len(killed) == 9
        assert model.counts() == expected

    def test_a_rebuild_handles_parked_events_again(self, store: PostgresEventStore, model: ReadModel) -> None:
        expected = fill(store, 1, 5)

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        broken = model.projection(fail, attempts=1, on_failure="park")
        broken.run_until_caught_up()
        assert len(broken.parked()) == 5
        model.projection().rebuild()
        assert model.counts() == expected
        assert broken.parked() == []

    @pytest.mark.parametrize("wrong", [["no_such_table"], ["a.b.c.d"], [""], [7]])
    def test_tables_that_are_not_there(self, store: PostgresEventStore, model: ReadModel, wrong: list[Any]) -> None:
        with pytest.raises(InvalidArgument):
            Projection(store, "counts", model.count, tables=wrong).rebuild()
        assert model.leftovers() == []
