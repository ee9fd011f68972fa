"""Commits that may not be what was asked for: refused after a lost answer, warned of, or waiting for a standby."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from waiting import PATIENCE, eventually

from eventstore import (
    AppendOutcomeUnknown,
    AsyncPostgresEventStore,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    PostgresEventStore,
)
from eventstore.core.appending import append
from eventstore.core.blocking import run
from eventstore.core.operations import ConnectionLost
from eventstore.core.requests import Append, ConfirmCommits, Conflict, Pause, Request, SessionsGone, Stored
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing import EventLoopThread, SyncFromAsyncEventStore
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


@contextmanager
def stopped(process: int) -> Generator[None, None, None]:
    """A process that does nothing as long as the block lasts."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class TestRefusalsAfterALostAnswer:
    """The first message may still be in a paused session, and be stored when the stream has grown."""

    @pytest.fixture
    def proxy(self, dsn: str) -> Iterator[Proxy]:
        with Proxy(dsn) as proxy:
            yield proxy

    @pytest.mark.parametrize(("there", "expected"), [(1, 2), (0, ExpectedVersion.STREAM_EXISTS)])
    def test_a_refusal_is_not_final_while_the_first_session_is_there(
        self, proxy: Proxy, dsn: str, schema: str, there: int, expected: int
    ) -> None:
        batch = events()
        with (
            PostgresEventStore.connect(dsn, schema) as direct,
            PostgresEventStore.connect(proxy.dsn, schema, timeout=1, max_size=1) as store,
        ):
            direct.append("s", events(there), 0)
            store.read("s")
            (session,) = [connection.info.backend_pid for connection in store.connections.pool()._pool]
            raised: list[Exception] = []

            def try_to_append() -> None:
                try:
                    store.append("s", batch, expected)
                except Exception as error:  # noqa: BLE001 looked at below
                    raised.append(error)

            with stopped(session):
                thread = threading.Thread(target=try_to_append)
                thread.start()
                while thread.is_alive():
                    proxy.hang_up(b"")
                    thread.join(0.05)
                assert isinstance(raised[0], AppendOutcomeUnknown)
                direct.append("s", events(2 - there), ExpectedVersion.ANY)
            # Whether it is stored now is the server's affair: nobody was told that it is not.
            with psycopg.connect(dsn, autocommit=True) as other:
                gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
                assert eventually(lambda: other.execute(gone, [session]).fetchone() == (True,))
            assert len(direct.read("s")) in {2, 3}

    def test_one_is_final_once_the_session_is_gone(self, proxy: Proxy, schema: str) -> None:
        with PostgresEventStore.connect(proxy.dsn, schema) as store:
            store.append("the-stream", events(), 0)
            proxy.lose("the-stream", delivered=False)
            with pytest.raises(ConcurrencyError) as refused:
                store.append("the-stream", events(), 5)
            assert refused.value.actual_version == 1
            assert proxy.lost == 1

    @pytest.mark.parametrize(
        ("sessions", "gone", "end"),
        [
            ([7], [True], ConcurrencyError),
            ([7], [False, True], ConcurrencyError),
            ([7], [None], AppendOutcomeUnknown),
            ([0], [], AppendOutcomeUnknown),
            ([], [], ConcurrencyError),
        ],
    )
    def test_the_store_asks_until_it_knows_what_became_of_the_append(
        self, sessions: list[int], gone: list[bool | None], end: type[Exception]
    ) -> None:
        lost = [ConnectionLost("lost", sessions=sessions)]

        def execute(request: Request[Any]) -> Any:
            if isinstance(request, SessionsGone):
                assert list(request.sessions) == sessions
                return gone.pop(0)
            assert isinstance(request, Append)
            if lost:
                raise lost.pop()
            return Conflict(3)

        with pytest.raises(end):
            run(append("s", events(), 5), execute)
        assert gone == []

    def test_an_append_that_is_found_stored_waits_for_the_standby(self) -> None:
        asked: list[type[Request[Any]]] = []

        def execute(request: Request[Any]) -> Any:
            asked.append(type(request))
            if len(asked) in {1, 3}:
                raise ConnectionLost("lost")
            return Stored(1, 1) if isinstance(request, Append) else None

        assert run(append("s", events(), 0), execute) == 1
        assert [each for each in asked if each is not Pause] == [Append, Append, ConfirmCommits, Append, ConfirmCommits]


@pytest.fixture(scope="module")
def waiting_server() -> Iterator[EmbeddedServer]:
    """A server whose commits wait for a standby that does not exist."""
    with EmbeddedServer(settings={"fsync": "off"}) as server:
        migrate(server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("way", ["append", "transaction"])
def test_an_append_whose_wait_for_the_standby_is_cancelled_is_not_acknowledged(
    waiting_server: EmbeddedServer, kind: str, way: str
) -> None:
    stream_id = f"{kind}-{way}"
    acknowledged: list[int] = []

    def work(store: EventStore) -> None:
        if way == "append":
            acknowledged.append(store.append(stream_id, events(), 0))
        else:
            with store.transaction() as transaction:
                transaction.append(stream_id, events(), 0)
            acknowledged.append(1)

    with (
        psycopg.connect(waiting_server.dsn, autocommit=True) as admin,
        EventLoopThread() as loop,
        PostgresEventStore.connect(waiting_server.dsn) as blocking,
    ):
        own = AsyncPostgresEventStore.connect(waiting_server.dsn)
        store = blocking if kind == "blocking" else SyncFromAsyncEventStore(own, loop)
        thread = threading.Thread(target=work, args=[store])
        thread.start()
        cancelled: set[tuple[Any, ...]] = set()
        for _ in range(3):
            assert eventually(lambda: waits_for_standby(admin) - cancelled)
            (wait,) = waits_for_standby(admin) - cancelled
            admin.execute("SELECT pg_cancel_backend(%s)", wait[:1])
            cancelled.add(wait)
            assert acknowledged == []
        assert eventually(lambda: len(blocking.read(stream_id)) == 1)
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        admin.execute("SELECT pg_reload_conf()")
        thread.join(PATIENCE)
        assert acknowledged == [1]
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        loop.run(own.close())
    assert not thread.is_alive()


def waits_for_standby(connection: psycopg.Connection[Any]) -> set[tuple[Any, ...]]:
    """The sessions that wait, with the beginning of the statement that each waits in."""
    waiting = "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return set(connection.execute(waiting).fetchall())


def test_a_commit_whose_answer_is_lost_is_found_out_with_one_connection_in_the_pool(dsn: str, schema: str) -> None:
    with (
        Proxy(dsn) as proxy,
        ConnectionPool(proxy.dsn, min_size=1, max_size=1, kwargs={"autocommit": True}, open=True) as pool,
    ):
        store = PostgresEventStore(pool, schema, timeout=20)
        with store.transaction() as transaction:
            transaction.append("a", events(2), 0)
            proxy.lose("COMMIT", delivered=True)
        assert proxy.lost == 1
        assert len(store.read("a")) == 2


def test_a_default_isolation_of_repeatable_read_changes_nothing(dsn: str, schema: str) -> None:
    strict = psycopg.conninfo.make_conninfo(dsn, options="-c default_transaction_isolation=repeatable\\ read")
    batch = events(2)
    with Proxy(strict) as proxy, PostgresEventStore.connect(proxy.dsn, schema) as store:
        store.append("the-stream", events(), 0)
        for expected in (1, ExpectedVersion.ANY):
            proxy.lose("the-stream", delivered=True)
            assert store.append("the-stream", batch, expected) == 3
        with store.transaction() as transaction:
            transaction.append("the-stream", events(), 3)
            proxy.lose("COMMIT", delivered=True)
        threads = [
            threading.Thread(target=lambda: store.append("busy", events(), ExpectedVersion.ANY)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(store.read("busy")) == 8
