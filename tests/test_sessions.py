"""Whoever holds readers or writers back is named: by status, and where a wait was in vain."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from waiting import PATIENCE, eventually

from eventstore import (
    AsyncPostgresEventStore,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    PostgresEventStore,
    Projection,
    StoreUnavailable,
    Subscription,
    SubscriptionBehind,
)
from eventstore.cli import main
from eventstore.core.requests import ListBlockingSessions
from eventstore.subscriptions import BlockingSession, async_blocking_sessions, blocking_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from psycopg_pool import ConnectionPool


def event() -> Event:
    return Event(event_type="T")


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def other(dsn: str) -> Iterator[psycopg.Connection]:
    """Somebody else's session."""
    with psycopg.connect(dsn, application_name="reports") as connection:
        yield connection


def the_only(found: list[BlockingSession]) -> BlockingSession:
    (session,) = found
    return session


@contextmanager
def in_the_background(work: Callable[[], object]) -> Generator[None, None, None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def waits(store: PostgresEventStore, holds: str) -> bool:
    return any(each.holds == holds and each.waiting for each in blocking_sessions(store))


def test_nobody_is_named_while_nobody_waits(store: PostgresEventStore, other: psycopg.Connection, schema: str) -> None:
    store.append("s", [event()], 0)
    other.execute(f"SELECT * FROM {schema}.events".encode())
    other.execute("SELECT pg_advisory_xact_lock(7)")
    store.bind(other).append("open", [event()], 0)  # nothing is above it yet
    assert blocking_sessions(store) == []


def test_the_append_that_readers_wait_for_is_named(store: PostgresEventStore, other: psycopg.Connection) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    store.append("before", [event()], 0)
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    session = the_only(blocking_sessions(store))
    assert (session.holds, session.pid, session.position) == ("readers", other.info.backend_pid, 1)
    assert (session.role, session.application, session.state) == (other.info.user, "reports", "idle in transaction")
    assert session.since is not None
    assert before < session.since < datetime.now(UTC) + timedelta(minutes=1)
    assert session.sentence() == (
        f"session {session.pid} (role {session.role!r}, application 'reports'), idle in transaction since "
        f"{session.since.isoformat(' ', 'seconds')}, holds readers of the log back at position 1: end its transaction, "
        f"or the session: SELECT pg_terminate_backend({session.pid})"
    )
    other.rollback()
    assert blocking_sessions(store) == []


async def found_by_async(dsn: str, schema: str) -> list[BlockingSession]:
    async with AsyncPostgresEventStore.connect(dsn, schema) as store:
        return await async_blocking_sessions(store)


def test_an_async_store_names_the_same(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str
) -> None:
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    assert asyncio.run(found_by_async(dsn, schema)) == blocking_sessions(store) != []


def test_of_several_the_one_is_named_that_readers_have_to_wait_for_first(store: PostgresEventStore, dsn: str) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(psycopg.connect(dsn)) for _ in range(3)]
        for number, connection in enumerate(opened):
            store.bind(connection).append(f"open-{number}", [event()], 0)
        store.append("after", [event()], 0)
        assert the_only(blocking_sessions(store)).pid == opened[0].info.backend_pid


def test_a_prepared_transaction_is_named_by_its_identifier(
    store: PostgresEventStore, other: psycopg.Connection
) -> None:
    if other.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("the server allows no prepared transactions")
    name = uuid4().hex
    store.bind(other).append("open", [event()], 0)
    other.execute(f"PREPARE TRANSACTION '{name}'".encode())
    other.autocommit = True
    try:
        store.append("after", [event()], 0)
        session = the_only(blocking_sessions(store))
        assert (session.pid, session.prepared, session.role) == (None, name, other.info.user)
        assert f"the transaction {name!r} (role {session.role!r}), prepared since " in session.sentence()
        assert session.sentence().endswith("commit it, or roll it back (ROLLBACK PREPARED)")
    finally:
        other.execute(f"ROLLBACK PREPARED '{name}'".encode())


def test_the_writer_that_other_writers_wait_for_is_named(store: PostgresEventStore, other: psycopg.Connection) -> None:
    store.bind(other).append("s", [event()], 0)
    with in_the_background(lambda: store.append("s", [event()], 1)):
        assert eventually(lambda: waits(store, "writers"))
        session = the_only(blocking_sessions(store))
        assert (session.holds, session.pid, session.waiting) == ("writers", other.info.backend_pid, 1)
        assert session.waiting_since is not None
        assert "holds a lock that appends need; 1 session(s) wait for it, the first since " in session.sentence()
        other.commit()


def test_a_role_that_only_took_the_locks_is_named_as_well(
    store: PostgresEventStore, other: psycopg.Connection, schema: str
) -> None:
    """The attack: any role that may connect can take an advisory lock, that of a stream or that of all appends."""
    store.append("s", [event()], 0)
    oid = f"'{schema}.event_positions'::regclass::oid::bigint"
    for key in (f"hashtextextended('s', {oid})", f"({oid} & 16777215) << 40 | last_value"):
        other.execute(f"SELECT pg_advisory_lock({key}) FROM {schema}.event_positions".encode())
        other.commit()  # a lock of the session's, which has no transaction any more
        with in_the_background(lambda: store.append("s", [event()], ExpectedVersion.ANY)):
            assert eventually(lambda: waits(store, "writers"))
            session = the_only(blocking_sessions(store))
            assert (session.pid, session.state) == (other.info.backend_pid, "idle")
            other.execute("SELECT pg_advisory_unlock_all()")
            other.commit()


def test_a_lock_timeout_ends_the_wait_for_a_lock_and_nothing_is_stored(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str
) -> None:
    other.execute(f"SELECT pg_advisory_lock(hashtextextended('s', '{schema}.event_positions'::regclass::oid::bigint))")
    with PostgresEventStore.connect(make_conninfo(dsn, options="-c lock_timeout=50"), schema) as limited:
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            limited.append("s", [event()], 0)
        assert limited.append("t", [event()], 0) == 1
    assert store.read("s") == []


def test_the_holder_of_one_streams_lock_is_named_without_a_wait(
    store: PostgresEventStore, other: psycopg.Connection
) -> None:
    store.bind(other).append("s", [event()], 0)
    session = the_only(store.execute(ListBlockingSessions("s")))
    assert (session.holds, session.pid, session.waiting) == ("writers", other.info.backend_pid, 0)
    assert store.execute(ListBlockingSessions("t")) == []
    assert store.bind(other).execute(ListBlockingSessions("s")) == []  # one does not wait for oneself


def test_whoever_has_locked_the_table_is_named_without_waiting_for_them(
    store: PostgresEventStore, other: psycopg.Connection, schema: str
) -> None:
    store.append("s", [event()], 0)
    other.execute(f"LOCK TABLE {schema}.events".encode())
    session = the_only(blocking_sessions(store))
    assert (session.holds, session.pid) == ("table", other.info.backend_pid)
    assert "has locked the table of events; 0 session(s) wait for it" in session.sentence()


def test_those_in_the_way_of_a_lock_on_the_table_are_named(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str
) -> None:
    store.append("s", [event()], 0)
    other.execute(f"SELECT * FROM {schema}.events".encode())

    def lock() -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"LOCK TABLE {schema}.events".encode())

    with in_the_background(lock):
        assert eventually(lambda: waits(store, "table"))
        assert the_only(blocking_sessions(store)).pid == other.info.backend_pid
        other.rollback()


def lock_checkpoint(store: PostgresEventStore, other: psycopg.Connection, schema: str, name: str) -> None:
    """As a person who looks at it with FOR UPDATE, and forgets the transaction."""
    Subscription(store, name, lambda _: None).run_until_caught_up()
    other.execute(f"SELECT * FROM {schema}.subscriptions WHERE name = %s FOR UPDATE".encode(), (name,))


def test_whoever_has_locked_the_checkpoint_of_a_subscription_is_named(
    store: PostgresEventStore, other: psycopg.Connection, schema: str
) -> None:
    lock_checkpoint(store, other, schema, "mails")
    session = the_only(blocking_sessions(store))
    assert (session.holds, session.pid, session.subscription) == ("subscription", other.info.backend_pid, "mails")
    assert session.state == "idle in transaction"
    assert session.sentence().endswith(
        "has locked the checkpoint of subscription 'mails' at position 0, so no worker of it can continue: end its "
        f"transaction, or the session: SELECT pg_terminate_backend({session.pid})"
    )
    other.rollback()
    assert blocking_sessions(store) == []


def test_the_workers_of_a_subscription_are_not_in_its_way(store: PostgresEventStore) -> None:
    store.append("s", [event()], 0)
    found: list[BlockingSession] = []
    Subscription(store, "mails", lambda _: found.extend(blocking_sessions(store))).run_until_caught_up()
    assert found == []


def test_a_wait_in_vain_names_who_has_locked_the_checkpoint(
    store: PostgresEventStore, other: psycopg.Connection, schema: str
) -> None:
    lock_checkpoint(store, other, schema, "mails")
    Subscription(store, "others", lambda _: None).run_until_caught_up()
    store.append("s", [event()], 0)
    with pytest.raises(SubscriptionBehind, match=f"session {other.info.backend_pid} .* checkpoint of subscription"):
        Subscription(store, "mails", lambda _: None).wait_until_processed(timeout=0)
    with pytest.raises(SubscriptionBehind, match=r"is a worker running\?"):
        Subscription(store, "others", lambda _: None).wait_until_processed(timeout=0)


def test_a_prepared_transaction_that_has_locked_a_checkpoint_is_named(
    store: PostgresEventStore, other: psycopg.Connection, schema: str
) -> None:
    if other.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("the server allows no prepared transactions")
    name = uuid4().hex
    lock_checkpoint(store, other, schema, "mails")
    other.execute(f"PREPARE TRANSACTION '{name}'".encode())
    other.autocommit = True
    try:
        session = the_only(blocking_sessions(store))
        assert (session.holds, session.pid, session.prepared) == ("subscription", None, name)
    finally:
        other.execute(f"ROLLBACK PREPARED '{name}'".encode())


def test_a_locked_table_of_subscriptions_keeps_nobody_from_looking(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str
) -> None:
    store.append("s", [event()], 0)
    other.execute(f"LOCK TABLE {schema}.subscriptions".encode())
    with psycopg.connect(dsn) as writer:
        store.bind(writer).append("open", [event()], 0)
        store.append("after", [event()], 0)
        assert the_only(blocking_sessions(store)).holds == "readers"


def test_another_store_in_the_database_is_not_held_back(
    store: PostgresEventStore, other: psycopg.Connection, pool: ConnectionPool, schema: str
) -> None:
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    with pool.connection() as connection:
        connection.execute(f"CREATE SCHEMA of_{schema}".encode())
    from eventstore.postgres import migrate  # noqa: PLC0415

    try:
        with pool.connection() as connection:
            migrate(connection, f"of_{schema}")
        elsewhere = PostgresEventStore(pool, f"of_{schema}")
        elsewhere.append("s", [event()], 0)
        assert blocking_sessions(elsewhere) == []
    finally:
        with pool.connection() as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(f"DROP SCHEMA of_{schema} CASCADE".encode())
            connection.execute("RESET client_min_messages")


def test_a_role_without_rights_learns_the_pid_and_that_the_state_is_hidden(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str
) -> None:
    role = f"looker_of_{schema}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role}".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}".encode())
        admin.execute(f"GRANT SELECT ON {schema}.events TO {role}".encode())
    try:
        store.bind(other).append("open", [event()], 0)
        store.append("after", [event()], 0)
        with PostgresEventStore.connect(make_conninfo(dsn, options=f"-c role={role}"), schema) as limited:
            session = the_only(blocking_sessions(limited))
        assert (session.pid, session.application) == (other.info.backend_pid, "reports")
        assert (session.state, session.since) == (None, None)
        assert "'reports'), whose state only members of pg_read_all_stats may see, holds" in session.sentence()
    finally:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {role}".encode())
            admin.execute(f"DROP ROLE {role}".encode())


def test_names_that_data_brings_are_shown_clean(store: PostgresEventStore, dsn: str) -> None:
    with psycopg.connect(dsn, application_name="a\x1b[2J\nforged") as other:
        store.bind(other).append("open", [event()], 0)
        store.append("after", [event()], 0)
        assert the_only(blocking_sessions(store)).sentence().isprintable()


def test_memory_names_the_open_transactions_of_the_process() -> None:
    store = InMemoryEventStore()
    with store.transaction() as transaction:
        transaction.append("open", [event()], 0)
        assert store.execute(ListBlockingSessions()) == []
        store.append("after", [event()], 0)
        session = the_only(store.execute(ListBlockingSessions()))
        assert (session.holds, session.pid, session.position) == ("readers", None, 0)
        assert "a transaction of this process, open since " in session.sentence()
        held = [each.holds for each in store.execute(ListBlockingSessions("open"))]
        assert held == ["readers", "writers"]
    assert store.execute(ListBlockingSessions("open")) == []


# --- where it is said -------------------------------------------------------------------------------------------------


def test_a_wait_in_vain_names_what_holds_the_worker_back(store: PostgresEventStore, other: psycopg.Connection) -> None:
    worker = Projection(store, "p", lambda *_: None)
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    with pytest.raises(SubscriptionBehind, match=r"it does not exist yet: is a worker running\?"):
        worker.wait_until_processed(timeout=0)
    worker.run_until_caught_up()
    with pytest.raises(SubscriptionBehind, match=f"it is at 0: session {other.info.backend_pid} .*'reports'"):
        worker.wait_until_processed(timeout=0)


def test_a_worker_that_is_further_behind_than_that_may_not_be_running(
    store: PostgresEventStore, other: psycopg.Connection
) -> None:
    Subscription(store, "s", lambda _: None).run_until_caught_up()
    store.append("before", [event()], 0)
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    with pytest.raises(SubscriptionBehind, match=r"it is at 0: is a worker running\?") as behind:
        Subscription(store, "s", lambda _: None).wait_until_processed(timeout=0)
    assert behind.value.held_back_by is None


def test_status_names_who_holds_others_back_before_the_subscriptions(
    store: PostgresEventStore, other: psycopg.Connection, dsn: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Subscription(store, "mails", lambda _: None).run_until_caught_up()
    store.bind(other).append("open", [event()], 0)
    store.append("after", [event()], 0)
    where = ["--dsn", dsn, "--schema", schema]
    assert main(["status", *where]) == 0
    first, heading, mails = capsys.readouterr().out.splitlines()
    assert first == the_only(blocking_sessions(store)).sentence()
    assert (heading.split()[0], mails.split()[0]) == ("NAME", "mails")
    assert main(["status", "--json", *where]) == 0
    session, subscription, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert session | {"since": None} == {
        "kind": "session",
        "holds": "readers",
        "pid": other.info.backend_pid,
        "prepared": None,
        "role": other.info.user,
        "application": "reports",
        "state": "idle in transaction",
        "since": None,
        "position": 0,
        "waiting": 0,
        "waiting_since": None,
        "subscription": None,
        "sentence": first,
    }
    assert datetime.fromisoformat(session["since"]) < datetime.now(UTC) + timedelta(minutes=1)
    assert (subscription["kind"], subscription["name"]) == ("subscription", "mails")
