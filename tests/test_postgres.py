"""What is special to PostgreSQL: round trips, pools, forks, lost answers, positions under open transactions."""

from __future__ import annotations

import gc
import os
import re
import tempfile
import threading
import traceback
import weakref
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from eventstore import (
    AppendOutcomeUnknown,
    AsyncPostgresEventStore,
    ConcurrencyError,
    Event,
    EventStoreError,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    PostgresTransaction,
    SchemaError,
    StoreUnavailable,
)
from eventstore.codec.record import Record
from eventstore.core.blocking import run
from eventstore.core.operations import ConnectionLost
from eventstore.postgres import migrate, transactions
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.statements import RawSql
from eventstore.testing.contract.threads import ThreadsContract, at_once
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(proxy: Proxy, schema: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(proxy.dsn, schema) as store:
        yield store


class TestRoundTrips:
    def round_trips(self, pool: ConnectionPool, work) -> int:
        """How often the client waited for the server: what libpq's own trace says."""
        with pool.connection() as connection, tempfile.TemporaryFile() as trace:
            connection.pgconn.trace(trace.fileno())
            pool.putconn(connection)
            work()
            again = pool.getconn()
            assert again is connection
            again.pgconn.untrace()
            trace.seek(0)
            return len(
                re.findall(
                    rb"^F\t\d+\t(?:Sync|Query)", re.sub(rb"(?m)^[^\t]*\t(?=F\t)", b"", trace.read()), re.MULTILINE
                )
            )

    @pytest.mark.skipif(psycopg.pq.__impl__ == "python", reason="pure Python psycopg has the same protocol")
    @pytest.mark.parametrize("autocommit", [True, False])
    def test_an_append_takes_one_round_trip(self, dsn: str, schema: str, autocommit: bool) -> None:
        with ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": autocommit}) as pool:
            store = PostgresEventStore(pool, schema)
            store.append("s", events(), 0)  # Prepares the statement.
            assert self.round_trips(pool, lambda: store.append("s", events(), 1)) == 1
            assert self.round_trips(pool, lambda: store.append("s", events(500), 2)) == 1
            assert self.round_trips(pool, lambda: store.append("s", events(), ExpectedVersion.ANY)) == 1

    @pytest.mark.skipif(psycopg.pq.__impl__ == "python", reason="pure Python psycopg has the same protocol")
    def test_a_conflict_and_a_read_take_one_round_trip_each(self, dsn: str, schema: str) -> None:
        with ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}) as pool:
            store = PostgresEventStore(pool, schema)
            store.append("s", events(), 0)
            store.read("s")

            def conflict() -> None:
                with pytest.raises(ConcurrencyError):
                    store.append("s", events(), 0)

            assert self.round_trips(pool, conflict) == 1
            assert self.round_trips(pool, lambda: store.read("s")) == 1


class TestRaces:
    def test_of_50_appends_on_one_version_one_wins_and_no_position_is_burnt(self, store: PostgresEventStore) -> None:
        def race(_: int) -> str:
            try:
                store.append("s", events(), 0)
            except ConcurrencyError:
                return "conflict"
            return "stored"

        assert Counter(at_once(50, race)) == {"stored": 1, "conflict": 49}
        store.append("t", events(), 0)
        first, second = store.read_all()
        assert second.position == first.position + 1


class TestCallersTransaction:
    def test_the_caller_commits_a_bound_store(self, store: PostgresEventStore, connection: psycopg.Connection) -> None:
        bound = store.bind(connection)
        assert bound.append("s", events(2), 0) == 2
        assert len(bound.read("s")) == 2
        assert store.read("s") == []
        connection.commit()
        assert len(store.read("s")) == 2

    def test_the_caller_rolls_back_a_bound_store(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        bound = store.bind(connection)
        bound.append("s", events(2), 0)
        connection.rollback()
        assert store.read("s") == []
        assert bound.append("s", events(1), 0) == 1

    @pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
    def test_a_conflict_leaves_the_callers_transaction_usable_at_every_isolation_level(
        self, store: PostgresEventStore, connection: psycopg.Connection, level: psycopg.IsolationLevel
    ) -> None:
        connection.isolation_level = level
        connection.execute("SELECT 1")  # The snapshot is taken here.
        store.append("s", events(1), 0)
        bound = store.bind(connection)
        connection.execute("CREATE TEMPORARY TABLE mine (n int)")
        with pytest.raises(ConcurrencyError):
            bound.append("s", events(1), 0)
        connection.execute("INSERT INTO mine VALUES (1)")
        bound.append("t", events(1), 0)
        connection.commit()
        assert connection.execute("SELECT n FROM mine").fetchall() == [(1,)]
        assert [event.stream_id for event in store.read_all()] == ["s", "t"]

    @pytest.mark.parametrize(
        "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE], ids=str
    )
    def test_the_log_is_not_read_with_an_old_snapshot(
        self, store: PostgresEventStore, connection: psycopg.Connection, level: psycopg.IsolationLevel
    ) -> None:
        connection.isolation_level = level
        bound = store.bind(connection)
        with pytest.raises(InvalidOperation, match="READ COMMITTED"):
            list(bound.read_all())
        assert bound.append("s", events(1), 0) == 1

    def test_pipeline_mode_is_refused_before_anything_is_stored(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        with connection.pipeline():
            with pytest.raises(InvalidOperation, match="pipeline mode"):
                store.bind(connection).append("s", events(1), 0)
            connection.execute("SELECT 1")
        connection.commit()
        assert store.read("s") == []

    def test_other_streams_writers_are_not_held_up(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        store.bind(connection).append("s", events(1), 0)
        assert store.append("t", events(1), 0) == 1

    def test_a_transaction_of_many_streams_takes_few_locks(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        bound = store.bind(connection)
        for number in range(400):
            bound.append(f"s{number}", events(1), 0)
        locks = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
        ).fetchone()
        assert locks is not None
        assert locks[0] <= 512
        store.append("s500", events(1), 0)
        with pytest.raises(ConcurrencyError):
            bound.append("s500", events(2), 0)
        bound.append("s501", events(1), 0)
        assert [event.stream_id for event in store.read_all()] == []
        connection.commit()
        assert len(list(store.read_all())) == 402

    def test_beyond_them_the_constraint_finds_the_conflict(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        bound = store.bind(connection)
        for _ in range(256):
            bound.append("many", events(1), ExpectedVersion.ANY)
        outcome: list[object] = []

        def append_too() -> None:
            try:
                outcome.append(store.append("s", events(1), 0))
            except ConcurrencyError as error:
                outcome.append(error.actual_version)

        bound.append("s", events(1), 0)
        thread = threading.Thread(target=append_too)
        thread.start()
        while not self.waiters(store):
            pass
        connection.commit()
        thread.join(30)
        assert outcome == [1]  # The constraint does not tell the version: the append looks again.
        assert len(store.read("s")) == 1

    def waiters(self, store: PostgresEventStore) -> int:
        """How many sessions wait for another's transaction; a table's locks, such as autovacuum's, don't count."""
        with store.connections.pool().connection() as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            ).fetchone()
            return int(found[0]) if found else 0

    def test_an_append_after_a_savepoint_was_rolled_back_is_registered_again(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        bound = store.bind(connection)
        connection.execute("SAVEPOINT mine")
        bound.append("s", events(1), 0)
        connection.execute("ROLLBACK TO SAVEPOINT mine")
        bound.append("s", events(1), 0)
        store.append("t", events(1), 0)
        assert list(store.read_all()) == []
        connection.commit()
        assert [event.stream_id for event in store.read_all()] == ["s", "t"]

    def test_a_lost_connection_is_not_tried_again(
        self, store: PostgresEventStore, connection: psycopg.Connection, pool: ConnectionPool
    ) -> None:
        bound = store.bind(connection)
        bound.append("s", events(1), 0)
        with pool.connection() as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(StoreUnavailable, match="rolled back"):
            bound.append("s", events(1), 1)
        assert store.read("s") == []

    def test_an_object_that_is_not_a_connection_is_refused(self, store: PostgresEventStore) -> None:
        with pytest.raises(InvalidArgument):
            store.bind("postgresql://")  # type: ignore[arg-type]

    def test_a_failed_transaction_says_so(self, store: PostgresEventStore, connection: psycopg.Connection) -> None:
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1/0")
        with pytest.raises(InvalidOperation, match="failed earlier"):
            store.bind(connection).append("s", events(1), 0)


class TestReadersOfTheLog:
    def test_an_unrelated_open_transaction_holds_nobody_back(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        connection.execute("CREATE TEMPORARY TABLE unrelated AS SELECT 1")
        connection.execute("SELECT pg_advisory_xact_lock_shared(1), pg_advisory_xact_lock(2)")
        store.append("s", events(3), 0)
        assert len(list(store.read_all())) == 3

    def test_followers_miss_nothing_beside_an_unrelated_open_transaction(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        connection.execute("CREATE TEMPORARY TABLE unrelated AS SELECT 1")
        ThreadsContract().test_readers_never_miss_an_event(store)

    def test_another_store_in_the_database_holds_nobody_back(
        self, store: PostgresEventStore, connection: psycopg.Connection, pool: ConnectionPool
    ) -> None:
        name = f"other_{uuid4().hex}"
        with pool.connection() as admin:
            migrate(admin, name)
        PostgresEventStore(pool, name).bind(connection).append("s", events(1), 0)
        store.append("s", events(3), 0)
        assert len(list(store.read_all())) == 3
        connection.rollback()
        with pool.connection() as admin:
            admin.execute("SET client_min_messages = warning")
            admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))

    @pytest.mark.parametrize("start", [2**40 - 2, 2**40, 2**48 + 1, 2**62])
    def test_positions_beyond_the_bits_of_a_lock(
        self, store: PostgresEventStore, connection: psycopg.Connection, pool: ConnectionPool, schema: str, start: int
    ) -> None:
        with pool.connection() as admin:
            restart = sql.SQL("ALTER SEQUENCE {}.event_positions RESTART WITH {}")
            admin.execute(restart.format(sql.Identifier(schema), sql.Literal(start)))
        store.append("before", events(2), 0)
        store.bind(connection).append("open", events(1), 0)
        store.append("after", events(2), 0)
        assert [event.stream_id for event in store.read_all()] == ["before", "before"]
        connection.commit()
        assert [event.position for event in store.read_all()] == [start + number for number in range(5)]

    def test_a_prepared_transaction_holds_the_log_back(
        self, store: PostgresEventStore, connection: psycopg.Connection
    ) -> None:
        setting = connection.execute("SHOW max_prepared_transactions").fetchone()
        connection.rollback()
        if setting == ("0",):
            pytest.skip("the server allows no prepared transactions")
        connection.tpc_begin(connection.xid(1, uuid4().hex, "events"))
        store.bind(connection).append("s", events(1), 0)
        connection.tpc_prepare()
        try:
            store.append("t", events(1), 0)
            assert list(store.read_all()) == []
        finally:
            connection.tpc_commit()
        assert [event.stream_id for event in store.read_all()] == ["s", "t"]


class TestLostAnswers:
    @pytest.mark.parametrize("delivered", [True, False])
    @pytest.mark.parametrize("expected", [0, ExpectedVersion.ANY])
    def test_an_append_whose_answer_is_lost_is_stored_once(
        self, through_proxy: PostgresEventStore, proxy: Proxy, delivered: bool, expected: int
    ) -> None:
        batch = events(3)
        proxy.lose("stream-of-the-test", delivered=delivered)
        assert through_proxy.append("stream-of-the-test", batch, expected) == 3
        assert proxy.lost == 1
        assert through_proxy.read("stream-of-the-test") == batch

    @pytest.mark.parametrize("delivered", [True, False])
    def test_an_append_with_unknown_outcome_says_so_and_can_be_repeated(
        self, through_proxy: PostgresEventStore, proxy: Proxy, schema: str, delivered: bool
    ) -> None:
        batch = events(3)
        with PostgresEventStore.connect(proxy.dsn, schema, timeout=0.3) as impatient:
            assert impatient.read("stream-of-the-test") == []
            proxy.lose("stream-of-the-test", delivered=delivered, times=1000)
            with pytest.raises(AppendOutcomeUnknown) as caught:
                impatient.append("stream-of-the-test", batch, 0)
        assert isinstance(caught.value.__cause__, StoreUnavailable)
        proxy.lose("no such message", delivered=False)
        assert caught.value.stream_id == "stream-of-the-test"
        assert list(caught.value.event_ids) == [event.event_id for event in batch]
        assert through_proxy.append("stream-of-the-test", batch, 0) == 3
        assert through_proxy.read("stream-of-the-test") == batch

    def test_a_conflict_after_a_lost_answer_is_a_conflict(
        self, through_proxy: PostgresEventStore, proxy: Proxy
    ) -> None:
        through_proxy.append("stream-of-the-test", events(1), 0)
        proxy.lose("stream-of-the-test", delivered=True)
        with pytest.raises(ConcurrencyError):
            through_proxy.append("stream-of-the-test", events(1), 0)

    def test_a_read_whose_answer_is_lost_is_repeated(self, through_proxy: PostgresEventStore, proxy: Proxy) -> None:
        through_proxy.append("stream-of-the-test", events(1), 0)
        proxy.lose("stream-of-the-test", delivered=False, times=2)
        assert len(through_proxy.read("stream-of-the-test")) == 1
        assert proxy.lost == 2

    def test_a_commit_whose_answer_is_lost_is_found_out(self, through_proxy: PostgresEventStore, proxy: Proxy) -> None:
        with through_proxy.transaction() as transaction:
            transaction.append("a", events(2), 0)
            transaction.append("b", events(1), 0)
            proxy.lose("COMMIT", delivered=True)
        assert proxy.lost == 1
        assert len(through_proxy.read("a")) == 2
        assert len(through_proxy.read("b")) == 1

    def test_a_commit_that_never_arrived_is_an_error(self, through_proxy: PostgresEventStore, proxy: Proxy) -> None:
        with pytest.raises(StoreUnavailable, match="nothing of this transaction"), through_proxy.transaction() as both:
            both.append("a", events(2), 0)
            proxy.lose("COMMIT", delivered=False)
        assert through_proxy.read("a") == []

    def test_a_second_loss_while_finding_out_says_nothing_about_the_first(self) -> None:
        """The operation alone, sent what a connection that is lost twice would give."""
        event_id = uuid4()
        record = Record("s", 1, 1, event_id.bytes, "T", b"", b"", b"", 0, 1)
        replies: list[object] = ["17", ConnectionLost("in the commit"), "committed", ConnectionLost("in the read")]
        replies += ["committed", [record], None]

        def execute(_: object) -> object:
            reply = replies.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply

        run(transactions.commit([transactions.Appended("s", 1, [event_id])]), execute)
        assert replies == []

    @pytest.mark.parametrize(
        ("replies", "message"),
        [
            ([ConnectionLost("gone")], "nothing of it is stored"),
            (["17", ConnectionLost("gone")], "may or may not be stored"),
        ],
    )
    def test_a_connection_that_is_lost_at_the_end_of_one_that_appended_nothing(
        self, replies: list[object], message: str
    ) -> None:
        def execute(_: object) -> object:
            reply = replies.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply

        with pytest.raises(StoreUnavailable, match=message) as lost:
            run(transactions.commit([]), execute)
        assert not isinstance(lost.value, ConnectionLost)

    def test_the_status_of_an_id_that_the_server_forgot_is_not_an_error(
        self, through_proxy: PostgresEventStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transactions, "_TRANSACTION_ID", RawSql("SELECT (2::bigint ^ 40)::bigint::text"))
        with pytest.raises(StoreUnavailable, match="nothing of this transaction"), through_proxy.transaction() as both:
            both.append("a", events(2), 0)
            proxy.lose("COMMIT", delivered=False)

    def test_a_commit_of_what_was_there_already_needs_no_answer(
        self, through_proxy: PostgresEventStore, proxy: Proxy
    ) -> None:
        batch = events(2)
        through_proxy.append("a", batch, 0)
        with through_proxy.transaction() as transaction:
            transaction.append("a", batch, 0)
            proxy.lose("COMMIT", delivered=False)
        assert proxy.lost == 1

    def test_a_transaction_begins_on_a_connection_that_lives(
        self, through_proxy: PostgresEventStore, proxy: Proxy
    ) -> None:
        through_proxy.read("s")
        proxy.lose("BEGIN", delivered=False)
        with through_proxy.transaction() as transaction:
            transaction.append("a", events(2), 0)
        assert proxy.lost == 1
        assert len(through_proxy.read("a")) == 2


class TestPools:
    def test_killed_sessions_are_not_noticed(self, dsn: str, schema: str, pool: ConnectionPool) -> None:
        with PostgresEventStore.connect(dsn, schema) as store:
            at_once(8, lambda number: store.append(f"s{number}", events(1), 0))
            victims = [c.info.backend_pid for c in store.connections.pool()._pool]  # type: ignore[attr-defined]
            with pool.connection() as other:
                for pid in victims:
                    other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            assert at_once(8, lambda number: len(store.read(f"s{number}"))) == [1] * 8
            assert store.append("s0", events(1), 1) == 2

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_restart_of_the_server_is_not_noticed_by_readers(self, mode: Literal["fast", "immediate"]) -> None:
        with EmbeddedServer(settings={"fsync": "off"}) as server:
            migrate(server.dsn)
            with PostgresEventStore.connect(server.dsn) as store:
                at_once(8, lambda number: store.append(f"s{number}", events(1), 0))
                restarted = threading.Event()

                def read(number: int) -> int:
                    reads = 0
                    while not restarted.is_set() or reads < 50:
                        assert len(store.read(f"s{number}")) == 1
                        reads += 1
                    return reads

                def restart_or_read(number: int) -> int:
                    if number:
                        return read(number)
                    server.restart(mode)
                    restarted.set()
                    return 50

                assert min(at_once(8, restart_or_read)) >= 50
                assert store.append("s0", events(1), 1) == 2

    def test_a_thousand_errors_leak_no_connection_no_lock_and_no_transaction(self, dsn: str, schema: str) -> None:
        # Who waits for what was leaked waits 2 s.
        options = {"autocommit": False, "options": "-c lock_timeout=2s"}
        with ConnectionPool(dsn, min_size=2, max_size=2, timeout=2, kwargs=options) as small:
            store = PostgresEventStore(small, schema)
            store.append("s", events(1), 0)
            raised: Counter[type[BaseException]] = Counter()
            for number in range(1000):
                try:
                    with store.transaction() as transaction:
                        transaction.append(f"t{number}", events(1), 0)
                        fail(transaction, number)
                except StoreUnavailable:
                    raise  # Something was leaked: no connection is left, or a lock is held.
                except (EventStoreError, psycopg.Error, ZeroDivisionError, KeyboardInterrupt) as error:
                    raised[type(error)] += 1
            assert raised.total() == 1000
            assert len(raised) == 8, raised
            # While the pool is open: closing a connection would end whatever it holds.
            statistics = small.get_stats()
            assert (statistics["pool_size"], statistics["pool_available"]) == (2, 2)
            with psycopg.connect(dsn) as other:
                pids = [connection.info.backend_pid for connection in small._pool]
                left = other.execute("SELECT count(*) FROM pg_locks WHERE pid = ANY (%s)", [pids]).fetchone()
                states = other.execute("SELECT state FROM pg_stat_activity WHERE pid = ANY (%s)", [pids]).fetchall()
            assert left == (0,)
            assert states == [("idle",), ("idle",)]
            assert [event.stream_id for event in store.read_all()] == ["s"]

    def test_a_pool_of_the_callers_is_given_back_as_it_was(self, dsn: str, schema: str) -> None:
        with ConnectionPool(dsn, min_size=1, max_size=1) as pool:
            PostgresEventStore(pool, schema).append("s", events(1), 0)
            with pool.connection() as connection:
                assert not connection.autocommit

    def test_a_server_that_is_not_there_is_said_at_once(self) -> None:
        with (
            PostgresEventStore.connect("host=127.0.0.1 port=1 connect_timeout=2") as store,
            pytest.raises(StoreUnavailable, match="no connection"),
        ):
            store.read("s")

    def test_a_pool_without_a_free_connection_is_unavailable(self, dsn: str, schema: str) -> None:
        with (
            ConnectionPool(dsn, min_size=1, max_size=1) as pool,
            pool.connection(),
            pytest.raises(StoreUnavailable, match=r"within 0\.05 s .*: all connections of the pool are in use"),
        ):
            PostgresEventStore(pool, schema, timeout=0.05).append("s", events(1), 0)

    def test_a_closed_store_says_so(self, dsn: str, schema: str) -> None:
        with PostgresEventStore.connect(dsn, schema) as store:
            store.read("s")
        with pytest.raises(InvalidOperation, match="closed"):
            store.read("s")

    @pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
    def test_names_are_in_utf_8_whatever_the_connection_is_in(
        self, dsn: str, schema: str, store: PostgresEventStore, encoding: str
    ) -> None:
        other = make_conninfo(dsn, client_encoding=encoding)
        batch = [Event(event_type="Äußerung", data={"text": "ö"})]
        with PostgresEventStore.connect(other, schema) as own:
            assert own.append("Ärger-1", batch, 0) == 1
            assert own.read("Ärger-1") == store.read("Ärger-1") == batch
        with (
            ConnectionPool(other, min_size=1, max_size=1) as pool,
            pytest.raises(InvalidOperation, match="client_encoding"),
        ):
            PostgresEventStore(pool, schema).append("Ärger-1", batch, 1)
        with psycopg.connect(other) as connection, pytest.raises(InvalidOperation, match="client_encoding"):
            store.bind(connection).append("Ärger-1", batch, 1)
        assert len(store.read("Ärger-1")) == 1

    def test_an_object_that_is_not_a_pool_is_refused(self) -> None:
        with pytest.raises(InvalidArgument):
            PostgresEventStore("postgresql://")  # type: ignore[arg-type]

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_after_a_fork_parent_and_child_have_connections_of_their_own(self, dsn: str, schema: str) -> None:
        with PostgresEventStore.connect(dsn, schema) as store:
            store.append("s", events(1), 0)

            def in_child() -> None:
                for version in range(1, 50):
                    store.append("child", events(1), version - 1)
                assert len(store.read("s")) == 1
                store.close()

            with forked(in_child):
                for version in range(1, 50):
                    store.append("parent", events(1), version - 1)
            assert len(store.read("child")) == len(store.read("parent")) == 49

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_a_pool_from_before_a_fork_is_refused_in_the_child(self, store: PostgresEventStore) -> None:
        def in_child() -> None:
            with pytest.raises(InvalidOperation, match="forked"):
                store.read("s")

        with forked(in_child):
            pass


def fail(transaction: PostgresTransaction, number: int) -> None:
    """Each number in another way, of the library's, the driver's, the application's and the user's errors."""
    match number % 8:
        case 0:
            transaction.append("s", events(1), 0)
        case 1:
            transaction.append("", events(1), 0)
        case 2:
            transaction.append("s", [Event(event_type="T", data={"value": object()})], 1)
        case 3:
            transaction.connection.execute("SELECT 1/0")
        case 4:
            transaction.connection.execute("INSERT INTO nowhere VALUES (1)")
        case 5:
            with transaction.transaction() as inner:
                inner.append("s", events(1), 1)
                raise ZeroDivisionError
        case 6:
            raise KeyboardInterrupt
        case 7:
            with suppress(psycopg.Error):
                transaction.connection.execute("SELECT nothing")
            transaction.append("s", events(1), 1)  # The transaction has failed.


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not closed"])
def test_a_store_of_connect_and_its_pool_go_away_with_the_last_reference(dsn: str, schema: str, closed: bool) -> None:
    store = PostgresEventStore.connect(dsn, schema, notify=True, max_size=1)
    assert store.read("s") == []
    own = weakref.ref(store.connections)
    if closed:
        store.close()
    del store
    gc.collect()
    assert own() is None


def test_an_async_store_of_connect_and_its_pool_go_away_with_the_last_reference(dsn: str, schema: str) -> None:
    store = AsyncPostgresEventStore.connect(dsn, schema, notify=True)
    own = weakref.ref(store.connections)
    del store
    gc.collect()
    assert own() is None


class forked:  # noqa: N801 reads as what it does
    """Runs a function in a forked child beside the block, and fails if it failed there."""

    def __init__(self, work) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._work()
                os._exit(0)
            except BaseException:  # noqa: BLE001 nothing may leave the child
                traceback.print_exc()
            finally:
                os._exit(1)

    def __exit__(self, *_: object) -> None:
        assert os.waitpid(self._pid, 0)[1] == 0


class TestSchemas:
    def test_the_error_for_a_missing_schema_says_what_to_run(self, pool: ConnectionPool) -> None:
        store = PostgresEventStore(pool, "nowhere")
        for use in (
            lambda: store.append("s", events(1), 0),
            lambda: store.read("s"),
            lambda: list(store.read_all()),
        ):
            with pytest.raises(SchemaError, match="eventstore migrate --schema nowhere") as caught:
                use()
            assert caught.value.schema == "nowhere"

    @pytest.mark.parametrize("name", ["", "x" * 64, "pg_x", "a\0b", "\ud800", "a$eventstore$b", None, 1])
    def test_an_invalid_schema_name_is_refused(self, pool: ConnectionPool, name) -> None:
        with pytest.raises(InvalidArgument):
            PostgresEventStore(pool, name)
        with pool.connection() as connection, pytest.raises(InvalidArgument):
            migrate(connection, name)

    @pytest.mark.parametrize(
        "statement", ["UPDATE {}.events SET event_type = 'x'", "DELETE FROM {}.events", "TRUNCATE {}.events"]
    )
    def test_events_are_append_only_for_their_owner_too(
        self, store: PostgresEventStore, connection: psycopg.Connection, schema: str, statement: str
    ) -> None:
        store.append("s", events(1), 0)
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(schema)))

    def test_every_object_says_what_it_is_for(self, connection: psycopg.Connection, schema: str) -> None:
        silent = connection.execute(
            """
            SELECT 'relation ' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = %(schema)s AND obj_description(pg_class.oid, 'pg_class') IS NULL AND relkind <> 'c'
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)
            UNION ALL
            SELECT 'type ' || typname FROM pg_type JOIN pg_namespace n ON n.oid = typnamespace
            JOIN pg_class ON pg_class.oid = typrelid
            WHERE nspname = %(schema)s AND obj_description(pg_type.oid, 'pg_type') IS NULL AND relkind = 'c'
            UNION ALL
            SELECT 'function ' || proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
            WHERE nspname = %(schema)s AND obj_description(pg_proc.oid, 'pg_proc') IS NULL
            UNION ALL
            SELECT 'column ' || attrelid::regclass || '.' || attname FROM pg_attribute
            JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = %(schema)s AND relkind = 'r' AND relname = 'events' AND attnum > 0
                AND col_description(attrelid, attnum) IS NULL
            """,
            {"schema": schema},
        ).fetchall()
        assert silent == []

    def test_errors_are_the_librarys_own(self, store: PostgresEventStore) -> None:
        with store.connections.pool().connection() as connection:
            connection.execute("SET statement_timeout = '1ms'")
            with pytest.raises(EventStoreError):
                for _ in range(1000):
                    store.bind(connection).append("s", events(200), ExpectedVersion.ANY)
            connection.execute("SET statement_timeout = 0")
