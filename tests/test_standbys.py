"""Standbys: how far the log may be read there is what somebody on the primary has marked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from explorers import page
from psycopg import sql
from standbys import *  # noqa: F403 fixtures
from waiting import PATIENCE, eventually

from eventstore import (
    AsyncPostgresEventStore,
    AsyncProjection,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Projection,
    StoreUnavailable,
    Subscription,
    cli,
)
from eventstore.cli import main
from eventstore.core.operations import ConnectionLost, repeated
from eventstore.core.requests import ReadLog, SafePosition
from eventstore.core.subscription_requests import ListSubscriptions
from eventstore.explorer import Explorer
from eventstore.postgres import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from eventstore.core.checkpoints import SubscriptionRow
    from eventstore.core.requests import Operation
    from eventstore.postgres.embedded import EmbeddedServer

_numbers = count(1)


def events(number: int = 1) -> list[Event]:
    return [Event(event_type="T") for _ in range(number)]


@pytest.fixture
def store(primary: EmbeddedServer) -> Iterator[PostgresEventStore]:
    schema = f"store_{next(_numbers)}"
    migrate(primary.dsn, schema)
    with PostgresEventStore.connect(primary.dsn, schema, max_size=24) as store:
        yield store


@pytest.fixture
def replica(standby: EmbeddedServer, store: PostgresEventStore) -> Iterator[PostgresEventStore]:
    """The same store, on the standby."""
    with PostgresEventStore.connect(standby.dsn, schema_of(store)) as replica:
        assert eventually(lambda: has_schema(standby, schema_of(store)))
        yield replica


def schema_of(store: PostgresEventStore) -> str:
    return store.statements.schema


def has_schema(server: EmbeddedServer, schema: str) -> bool:
    with psycopg.connect(server.dsn) as connection:
        return connection.execute("SELECT to_regclass(%s)", (f"{schema}.log_mark",)).fetchone() != (None,)


def execute(server: EmbeddedServer, statement: str, *names: str) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # pyright: ignore[reportArgumentType]


@contextmanager
def paused(standby: EmbeddedServer) -> Generator[Callable[[], None], None, None]:
    """While the standby does not replay what it gets; the block may end that."""

    def resume() -> None:
        execute(standby, "SELECT pg_wal_replay_resume()")

    execute(standby, "SELECT pg_wal_replay_pause()")
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        state = "SELECT pg_get_wal_replay_pause_state()"
        assert eventually(lambda: connection.execute(state).fetchone() == ("paused",))
    try:
        yield resume
    finally:
        resume()


@contextmanager
def marking(store: PostgresEventStore) -> Generator[None, None, None]:
    stopped = threading.Event()

    def mark() -> None:
        while not stopped.wait(0.01):
            store.mark_log()

    thread = threading.Thread(target=mark)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def positions(store: PostgresEventStore, **options: Any) -> list[int]:
    return [event.position for event in store.read_all(**options)]


def test_a_standby_reads_streams(store: PostgresEventStore, replica: PostgresEventStore) -> None:
    store.append("s", events(), 0)
    assert eventually(lambda: len(replica.read("s")) == 1)


def test_without_a_mark_the_log_is_not_read_on_a_standby_and_the_error_says_what_to_do(
    store: PostgresEventStore, replica: PostgresEventStore
) -> None:
    store.append("s", events(), 0)
    with pytest.raises(InvalidOperation, match=r"nobody has marked how far .* keep `eventstore mark` running there"):
        positions(replica)
    with pytest.raises(InvalidOperation, match="nobody has marked"):
        Subscription(store, "w", print, read_from=replica).run()


def test_a_standby_reads_the_log_up_to_the_mark(store: PostgresEventStore, replica: PostgresEventStore) -> None:
    store.append("s", events(3), 0)
    assert store.mark_log() == 3
    store.append("s", events(2), 3)
    assert eventually(lambda: len(replica.read("s")) == 5)
    assert positions(replica) == [1, 2, 3]
    assert positions(replica, from_position=1, backwards=True, limit=1) == [3]
    assert positions(replica, event_types="T", to_position=2) == [1, 2]
    assert positions(replica, from_position=4) == []
    assert replica.last_position() == 3
    store.mark_log()
    assert eventually(lambda: positions(replica) == [1, 2, 3, 4, 5])


def test_an_open_append_holds_the_mark_back_below_it(store: PostgresEventStore, replica: PostgresEventStore) -> None:
    store.append("s", events(), 0)
    with store.transaction() as transaction:
        transaction.append("open", events(), 0)
        store.append("later", events(), 0)
        assert store.mark_log() == 1
        assert eventually(lambda: marked(replica) and bool(replica.read("later")))
        assert positions(replica) == [1]
    assert store.mark_log() == 3
    assert eventually(lambda: positions(replica) == [1, 2, 3])


def test_a_mark_that_does_not_move_is_not_written_again(store: PostgresEventStore, primary: EmbeddedServer) -> None:
    store.append("s", events(), 0)

    def written() -> Any:
        with psycopg.connect(primary.dsn) as connection:
            query = sql.SQL("SELECT xmin, ctid, position FROM {}.log_mark").format(sql.Identifier(schema_of(store)))
            return connection.execute(query).fetchall()

    store.mark_log()
    before = written()
    store.mark_log()
    assert written() == before
    execute(primary, "UPDATE {}.log_mark SET marked_at = marked_at - interval '1 minute'", schema_of(store))
    before = written()
    store.mark_log()
    assert written() != before


def test_the_log_is_not_marked_on_a_standby(replica: PostgresEventStore) -> None:
    with pytest.raises(InvalidOperation, match="mark it on the primary"):
        replica.mark_log()


def test_a_standby_notices_that_nobody_marks_the_log_any_more(
    store: PostgresEventStore, replica: PostgresEventStore, primary: EmbeddedServer
) -> None:
    store.append("s", events(), 0)
    store.mark_log()
    assert eventually(lambda: marked(replica))
    execute(primary, "UPDATE {}.log_mark SET marked_at = marked_at - interval '1 minute'", schema_of(store))

    def refused() -> bool:
        try:
            positions(replica)
        except StoreUnavailable as error:
            return "nobody has marked since" in str(error) and "eventstore mark" in str(error)
        return False

    assert eventually(refused)
    store.mark_log()
    assert eventually(lambda: not refused())
    assert positions(replica) == [1]


def test_a_standby_that_is_behind_another_is_asked_again_instead_of_believed(
    store: PostgresEventStore, replica: PostgresEventStore, standby: EmbeddedServer
) -> None:
    """Behind one address there may be several: one says how far to read, another one is read."""
    store.append("s", events(), 0)
    store.mark_log()
    assert eventually(lambda: marked(replica))
    with paused(standby) as resume:
        store.append("s", events(), 1)
        upto = store.mark_log()
        for request in (
            ReadLog(0, upto, 10, None, None),
            ReadLog(0, upto, 10, None, None, backwards=True),
            ReadLog(0, upto, 10, ["T"], None),
            ReadLog(0, upto, 10, ["T"], None, backwards=True),
        ):
            with pytest.raises(ConnectionLost, match="has the log up to position 1 so far, and not up to 2"):
                replica.execute(request)
        timer = threading.Timer(0.2, resume)
        timer.start()
        assert len(replica.carry_out(repeated(ReadLog(0, upto, 10, None, None)))) == 2
        timer.join()


def test_followers_on_a_standby_miss_nothing_of_what_eight_writers_append(
    store: PostgresEventStore, replica: PostgresEventStore
) -> None:
    """Transactions that are held open, and some that are rolled back, commit lower positions late."""
    done = threading.Event()

    def write(number: int) -> None:
        for turn in range(40):
            try:
                with store.transaction() as transaction:
                    transaction.append(f"s-{number}", events(), ExpectedVersion.ANY)
                    if turn % 2:
                        done.wait(0.003)
                    if turn % 5 == 0:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    seen: list[int] = []

    def follow() -> None:
        while not done.is_set() or not seen or seen[-1] < store.last_position():
            seen.extend(positions(replica, from_position=seen[-1] if seen else 0))

    store.mark_log()
    assert eventually(lambda: replica.execute(SafePosition(0)) is not None if marked(replica) else False)
    with marking(store):
        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        follower = threading.Thread(target=follow)
        for thread in (*writers, follower):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        follower.join(PATIENCE)
        assert not follower.is_alive()
    assert seen == positions(store)


def marked(replica: PostgresEventStore) -> bool:
    try:
        replica.execute(SafePosition(0))
    except InvalidOperation:
        return False
    return True


def read_model(store: PostgresEventStore, server: EmbeddedServer) -> str:
    table = f"seen_by_{schema_of(store)}"
    execute(server, "CREATE TABLE {} (position bigint)", table)
    return table


def handled(server: EmbeddedServer, table: str) -> list[int]:
    with psycopg.connect(server.dsn) as connection:
        rows = connection.execute(sql.SQL("SELECT position FROM {} ORDER BY 1").format(sql.Identifier(table)))
        return [position for (position,) in rows.fetchall()]


def test_a_projection_reads_from_a_standby_and_keeps_its_checkpoint_on_the_primary(
    store: PostgresEventStore, replica: PostgresEventStore, primary: EmbeddedServer
) -> None:
    table = read_model(store, primary)
    insert = sql.SQL("INSERT INTO {} VALUES (%s)").format(sql.Identifier(table))

    def note(event: Event, transaction: Any) -> None:
        transaction.connection.execute(insert, (event.position,))

    projection = Projection(store, "p", note, tables=[table], read_from=replica, batch_size=7)
    store.mark_log()
    assert eventually(lambda: marked(replica))
    for number in range(5):
        store.append(f"s-{number}", events(10), 0)
    with marking(store):
        projection.run_until_caught_up()
        assert handled(primary, table) == list(range(1, 51))
        assert projection.status().position == 50
        projection.rebuild()
    assert handled(primary, table) == list(range(1, 51))


def test_an_async_projection_reads_from_a_standby(
    store: PostgresEventStore, replica: PostgresEventStore, primary: EmbeddedServer, standby: EmbeddedServer
) -> None:
    store.append("s", events(5), 0)
    store.mark_log()
    assert eventually(lambda: marked(replica))
    seen: list[int] = []

    async def follow() -> None:
        schema = schema_of(store)
        async with (
            AsyncPostgresEventStore.connect(primary.dsn, schema) as checkpoints,
            AsyncPostgresEventStore.connect(standby.dsn, schema) as log,
        ):
            await checkpoints.mark_log()

            def note(event: Event, _: object) -> None:
                seen.append(event.position)

            await AsyncProjection(checkpoints, "p", note, read_from=log).run_until_caught_up()

    asyncio.run(follow())
    assert seen == [1, 2, 3, 4, 5]


def test_a_follower_waits_for_a_standby_that_is_behind_the_end_that_it_is_to_reach(
    store: PostgresEventStore, replica: PostgresEventStore, standby: EmbeddedServer
) -> None:
    store.append("s", events(), 0)
    store.mark_log()
    assert eventually(lambda: marked(replica))
    seen: list[int] = []
    with paused(standby) as resume:
        store.append("s", events(), 1)
        store.mark_log()
        timer = threading.Timer(0.2, resume)
        timer.start()
        Subscription(
            store, "w", lambda event: seen.append(event.position), read_from=replica, poll_interval=0.01
        ).run_until_caught_up()
        timer.join()
    assert seen == [1, 2]


def test_a_log_that_is_not_that_of_the_checkpoint_is_noticed(store: PostgresEventStore) -> None:
    store.append("s", events(2), 0)
    other = InMemoryEventStore()
    other.append("s", events(5), 0)
    with pytest.raises(InvalidOperation, match="let read_from be a standby of the same server"):
        Subscription(store, "w", print, read_from=other).run()


def test_what_keeps_no_log_can_not_be_read_from(store: PostgresEventStore) -> None:
    with pytest.raises(InvalidArgument, match="nothing can follow it"):
        Subscription(store, "w", print, read_from=object())  # type: ignore[arg-type]


def test_memory_has_no_standby_and_marks_nothing() -> None:
    store = InMemoryEventStore()
    store.append("s", events(2), 0)
    assert store.mark_log() == 2
    seen: list[int] = []
    Subscription(store, "w", lambda event: seen.append(event.position), read_from=store).run_until_caught_up()
    assert seen == [1, 2]


def test_the_command_line_marks_the_log_until_it_is_told_to_stop(
    store: PostgresEventStore, replica: PostgresEventStore, primary: EmbeddedServer
) -> None:
    where = ["--dsn", primary.dsn, "--schema", schema_of(store)]
    command = [sys.executable, "-m", "eventstore", "mark", *where, "--every", "0.01"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ, text=True) as process:
        for number in range(3):
            store.append("s", events(), number)
            assert eventually(lambda n=number: marked(replica) and positions(replica) == list(range(1, n + 2)))  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert errors.splitlines() == [
        f"eventstore: marking the log of schema {schema_of(store)!r} every 0.01 s; Ctrl-C ends it"
    ]


def test_the_command_line_refuses_what_is_no_time_between_marks(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        assert cli.main(["mark", "--dsn", "postgresql://", "--every", wrong]) == 2
        assert f"{wrong!r} is not a number of seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["streams"], ["read", "s"]], ids=" ".join)
def test_the_command_line_reads_on_a_standby(
    command: list[str],
    store: PostgresEventStore,
    replica: PostgresEventStore,
    standby: EmbeddedServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store.append("s", events(), 0)
    Subscription(store, "w", lambda _: None).run_until_caught_up()
    assert eventually(lambda: len(replica.read("s")) == 1 and replica.carry_out(statuses_of("w")) != [])
    assert cli.main([command[0], "--dsn", standby.dsn, "--schema", schema_of(store), *command[1:]]) == 0
    shown = capsys.readouterr()
    assert shown.out
    assert shown.err == ""


def statuses_of(name: str) -> Operation[list[SubscriptionRow]]:
    return repeated(ListSubscriptions(name))


def test_a_store_is_verified_on_a_standby_but_for_its_schema(
    store: PostgresEventStore, replica: PostgresEventStore, standby: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    assert eventually(lambda: replica.read("Order-1"))
    assert main(["verify", "--dsn", standby.dsn, "--schema", schema_of(store)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("1 events, up to position 1: 0 finding(s)")
    assert "not checked: the schema and its grants: a standby can't make another schema" in shown.err


def test_the_explorer_shows_every_page_on_a_standby(store: PostgresEventStore, replica: PostgresEventStore) -> None:
    store.append("Order-1", events(3), 0)
    store.mark_log()
    assert eventually(lambda: page(Explorer(replica), "/events/3").status_code == 200)
    explorer = Explorer(replica)
    paths = [
        "/",
        "/?range=week",
        "/live",
        "/events",
        "/events?since=1h",
        "/events/2",
        "/streams",
        "/streams?type=T&since=1h",
    ]
    for path in [*paths, "/stream?id=Order-1", "/trace?id=x", "/subscriptions"]:
        answer = page(explorer, path)
        assert answer.status_code == (404 if path.startswith("/trace") else 200), answer.text
