"""One deadline for a whole call: what ends it, on every store, blocking and async."""

from __future__ import annotations

import asyncio
import inspect
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from waiting import PATIENCE, eventually

from eventstore import (
    AccessDenied,
    AppendOutcomeUnknown,
    AsyncInMemoryEventStore,
    AsyncPostgresEventStore,
    AsyncPostgresSnapshotStore,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    PostgresEventStore,
    PostgresSnapshotStore,
    StoreUnavailable,
)
from eventstore.core.deadlines import DEFAULT_TIMEOUT, Deadline, current, within
from eventstore.core.operations import attempts
from eventstore.core.requests import Pause
from eventstore.postgres import migrate
from eventstore.postgres.dsn import own_options
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing import EventLoopThread, SyncFromAsyncEventStore
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

SHORT = 0.4
"""Seconds that a call of these tests may take."""


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


@pytest.fixture
def loop() -> Iterator[EventLoopThread]:
    with EventLoopThread() as thread:
        yield thread


@pytest.fixture(params=["own pool", "caller's pool", "async, own pool", "async, caller's pool"])
def make(request: pytest.FixtureRequest, loop: EventLoopThread) -> Iterator[Callable[..., EventStore]]:
    """Makes a store on a DSN, of each kind in turn, behind blocking methods."""
    with ExitStack() as stack:

        def make_store(dsn: str, **options: Any) -> EventStore:
            kind: str = request.param
            if not kind.startswith("async"):
                if kind == "own pool":
                    return stack.enter_context(PostgresEventStore.connect(dsn, **options))
                pool: ConnectionPool[Any] = stack.enter_context(ConnectionPool(dsn, min_size=1, open=True))
                return PostgresEventStore(pool, **options)
            if kind == "async, own pool":
                own = AsyncPostgresEventStore.connect(dsn, **options)
                stack.callback(lambda: loop.run(own.close()))
                return SyncFromAsyncEventStore(own, loop)

            async def make_pool() -> AsyncConnectionPool[Any]:
                made: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, open=False)
                await made.open()
                return made

            callers = loop.run(make_pool())
            stack.callback(lambda: loop.run(callers.close()))
            return SyncFromAsyncEventStore(AsyncPostgresEventStore(callers, **options), loop)

        yield make_store


@pytest.fixture(params=["memory", "async memory", "postgres", "async postgres"])
def impatient(request: pytest.FixtureRequest, loop: EventLoopThread) -> Iterator[EventStore]:
    """Each store in turn, with a short timeout."""
    if request.param == "memory":
        yield InMemoryEventStore(timeout=SHORT)
        return
    if request.param == "async memory":
        yield SyncFromAsyncEventStore(AsyncInMemoryEventStore(timeout=SHORT), loop)
        return
    dsn, schema = request.getfixturevalue("dsn"), request.getfixturevalue("schema")
    if request.param == "postgres":
        with PostgresEventStore.connect(dsn, schema, timeout=SHORT) as store:
            yield store
        return
    own = AsyncPostgresEventStore.connect(dsn, schema, timeout=SHORT)
    yield SyncFromAsyncEventStore(own, loop)
    loop.run(own.close())


class TestLocks:
    def test_an_append_that_waits_beyond_its_timeout_ends_and_names_who_is_in_the_way(
        self, impatient: EventStore
    ) -> None:
        raised: list[StoreUnavailable] = []

        def append() -> None:
            in_the_way = (
                r"(session \d+ \(role 'postgres'\)|a transaction of this process).* holds a lock that appends need"
            )
            with pytest.raises(StoreUnavailable, match=rf"within 0\.4 s .*; {in_the_way}") as caught:
                impatient.append("s", events(), ExpectedVersion.ANY)
            raised.append(caught.value)

        with impatient.transaction() as transaction:
            transaction.append("s", events(), 0)
            other = threading.Thread(target=append)
            other.start()
            other.join(PATIENCE)
        assert len(raised) == 1
        assert impatient.append("s", events(), 1) == 2

    def test_a_transaction_whose_append_ran_out_of_time_is_rolled_back(self, impatient: EventStore) -> None:
        raised: list[StoreUnavailable] = []

        def append() -> None:
            with pytest.raises(StoreUnavailable) as caught, impatient.transaction() as second:
                second.append("other", events(), 0)
                second.append("s", events(), ExpectedVersion.ANY)
            raised.append(caught.value)

        with impatient.transaction() as transaction:
            transaction.append("s", events(), 0)
            other = threading.Thread(target=append)
            other.start()
            other.join(PATIENCE)
        assert len(raised) == 1
        assert impatient.read("other") == []
        assert impatient.append("s", events(), 1) == 2

    def test_without_a_timeout_an_append_waits_as_long_as_it_takes(self, dsn: str, schema: str) -> None:
        with PostgresEventStore.connect(dsn, schema, timeout=None) as store:
            waiting = threading.Thread(target=lambda: store.append("s", events(), ExpectedVersion.ANY))
            with store.transaction() as transaction, psycopg.connect(dsn, autocommit=True) as other:
                transaction.append("s", events(), 0)
                waiting.start()
                assert eventually(lambda: waits(other, schema))
            waiting.join(PATIENCE)
            assert len(store.read("s")) == 2

    def test_a_callers_connection_is_usable_after_the_rollback(
        self, pool: ConnectionPool[Any], schema: str, connection: psycopg.Connection
    ) -> None:
        store = PostgresEventStore(pool, schema, timeout=SHORT)
        with store.transaction() as transaction:
            transaction.append("s", events(), 0)
            with pytest.raises(StoreUnavailable):
                store.bind(connection).append("s", events(), ExpectedVersion.ANY)
            connection.rollback()
        assert store.bind(connection).append("s", events(), 1) == 2


def waits(connection: psycopg.Connection[Any], schema: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s", [f"%{schema}%"]
    )
    return found.fetchone() is not None


class TestServersThatAreGone:
    def test_a_call_ends_with_the_last_cause(self, make: Callable[..., EventStore]) -> None:
        with EmbeddedServer(settings={"listen_addresses": "127.0.0.1"}, durable=False) as server:
            migrate(server.dsn)
            with Proxy(server.dsn) as proxy:
                store = make(proxy.dsn, timeout=1)
                assert store.append("s", events(), 0) == 1
            with nobody_listens(int(str(conninfo_to_dict(proxy.dsn)["port"]))):
                proxy.hang_up(b"")
                for _ in range(2):
                    with pytest.raises((StoreUnavailable, AppendOutcomeUnknown)) as caught:
                        store.append("s", events(), 1)
                    cause = caught.value if isinstance(caught.value, StoreUnavailable) else caught.value.__cause__
                    assert "refused" in str(cause)

    def test_a_store_is_usable_soon_after_its_server_is_back(self, dsn: str, schema: str) -> None:
        # Two attempts in psycopg_pool's own rhythm, 1 s and 2 s apart, come before the fourth second.
        with free_port() as port:
            gone = make_conninfo(dsn, host="127.0.0.1", port=port)
        with PostgresEventStore.connect(dsn, schema, max_size=1) as store:
            pool = store.connections.pool()
            store.read("s")
            pool.conninfo = gone
            pool.drain()
            assert eventually(lambda: pool.get_stats()["pool_size"] == 0)
            pool.conninfo = dsn
            assert store.read("s") == []

    def test_the_error_says_that_a_pool_can_not_log_in(self, dsn: str, schema: str) -> None:
        nobody = make_conninfo(dsn, user="no_such_role")
        with ConnectionPool(nobody, min_size=1, open=True) as pool, pytest.raises(AccessDenied, match="no_such_role"):
            PostgresEventStore(pool, schema, timeout=SHORT).read("s")

    def test_a_call_of_a_snapshot_store_ends_at_its_timeout(self, dsn: str, schema: str) -> None:
        with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool, pool.connection():
            snapshots = PostgresSnapshotStore(pool, schema, timeout=SHORT)
            with pytest.raises(StoreUnavailable, match=r"0\.4 s"):
                snapshots.load("A", "1", "x")

    def test_a_call_of_an_async_snapshot_store_ends_at_its_timeout(self, dsn: str, schema: str) -> None:
        async def work() -> None:
            async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool, pool.connection():
                snapshots = AsyncPostgresSnapshotStore(pool, schema, timeout=SHORT)
                with pytest.raises(StoreUnavailable, match=r"0\.4 s"):
                    await snapshots.load("A", "1", "x")

        asyncio.run(work())


@contextmanager
def nobody_listens(port: int) -> Generator[None, None, None]:
    """Hold a port, so that no other test's server gets it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        yield


@contextmanager
def free_port() -> Generator[int, None, None]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class TestNetworksThatSwallowEverything:
    @pytest.mark.parametrize("libpq", ["any", "before 17"])
    def test_an_append_whose_answer_never_comes_ends_as_unknown(
        self, make: Callable[..., EventStore], dsn: str, schema: str, libpq: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if libpq == "before 17":  # There, sending a cancellation blocks for as long as the network does.
            monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda: False)
        with ThreadPoolExecutor(1) as caller, Proxy(dsn) as proxy:
            store = make(proxy.dsn, schema=schema, timeout=SHORT)
            assert store.append("s", events(), 0) == 1
            proxy.swallow()
            try:
                with pytest.raises(AppendOutcomeUnknown):
                    caller.submit(store.append, "s", events(), 1).result(PATIENCE)
            finally:
                proxy.swallow(False)

    def test_one_thread_that_waits_for_the_first_connection_keeps_nobody_from_closing_the_store(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = PostgresEventStore.connect(f"host=127.0.0.1 port={silent.getsockname()[1]} user=nobody")
            raised: list[Exception] = []

            def read() -> None:
                try:
                    store.read("s")
                except Exception as error:  # noqa: BLE001 looked at below
                    raised.append(error)

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            client, _ = silent.accept()
            store.close()
            client.close()
            for thread in threads:
                thread.join(PATIENCE)
            assert len(raised) == 3

    @pytest.mark.parametrize(
        ("dsn", "said"),
        [
            ("host=h", {"connect_timeout": 10, "tcp_user_timeout": 30000, "keepalives_idle": 10}),
            ("host=h connect_timeout=3", {"tcp_user_timeout": 30000, "keepalives_idle": 10}),
            ("postgresql://h/?tcp_user_timeout=5&keepalives_idle=60", {"connect_timeout": 10}),
        ],
    )
    def test_connections_of_its_own_notice_it_unless_the_dsn_says_otherwise(
        self, dsn: str, said: dict[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
        options = own_options(dsn)
        names = {"connect_timeout", "tcp_user_timeout", "keepalives_idle"}
        assert {name: value for name, value in options.items() if name in names} == said

    def test_the_environment_has_a_say_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
        assert own_options("host=h")["connect_timeout"] == "7"


class TestBudgets:
    def test_the_attempts_end_with_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [0.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        with within(60):
            for wait in attempts():
                for request in wait:
                    assert isinstance(request, Pause)
                    now[0] += request.seconds
        assert 57 < now[0] < 60

    def test_a_deadline_allows_one_attempt_however_little_time_is_left(self) -> None:
        with within(1e-9):
            assert len(list(attempts())) == 1

    def test_a_call_within_another_has_what_is_left_to_that(self) -> None:
        assert current() is None
        with within(5), within(100):
            deadline = current()
            assert deadline is not None
            assert deadline.timeout == 5
        assert current() is None

    def test_a_block_that_an_interrupt_keeps_from_being_left_leaves_no_deadline_behind(self) -> None:
        within(0.001).__enter__()
        assert current() is None
        with within(7):
            found = current()
            assert found is not None
            assert found.timeout == 7

    def test_a_call_without_a_deadline_never_times_out(self) -> None:
        assert Deadline(None).left() == math.inf
        assert not Deadline(None).passed

    @pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan, "60", True])
    def test_a_timeout_that_is_none_is_refused_at_once(self, timeout: Any) -> None:
        for make_store in (
            lambda: PostgresEventStore.connect("host=h", timeout=timeout),
            lambda: PostgresSnapshotStore.connect("host=h", timeout=timeout),
            lambda: InMemoryEventStore(timeout=timeout),
        ):
            with pytest.raises(InvalidArgument, match="timeout"):
                make_store()

    @pytest.mark.parametrize("kind", [PostgresEventStore, PostgresSnapshotStore, InMemoryEventStore])
    def test_a_minute_is_the_default(self, kind: type) -> None:
        assert inspect.signature(kind).parameters["timeout"].default == DEFAULT_TIMEOUT == 60
