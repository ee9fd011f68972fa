"""Connections that are lent: whatever happens to them, they go back as they came, or closed."""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from waiting import eventually

from eventstore import (
    AsyncPostgresEventStore,
    AsyncSubscription,
    Event,
    InvalidOperation,
    PostgresEventStore,
    Subscription,
)
from eventstore.postgres import stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


@pytest.fixture
def callers(dsn: str) -> Iterator[ConnectionPool[Any]]:
    """A pool as README makes it: without kwargs, and so not in autocommit mode."""
    with ConnectionPool(make_conninfo(dsn, application_name=NAME), min_size=1, max_size=1, open=True) as pool:
        yield pool


NAME = f"loans-{os.getpid()}"
OPEN = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'
"""


def as_they_came(pool: ConnectionPool[Any]) -> bool:
    """Whether the application's own rollback works on its one connection."""
    with pool.connection() as connection:
        return not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


class TestCallersPools:
    def test_a_statement_that_fails_and_is_swallowed(self, callers: ConnectionPool[Any], schema: str) -> None:
        store = PostgresEventStore(callers, schema)
        with pytest.raises(InvalidOperation), store.transaction() as transaction, suppress(psycopg.Error):
            transaction.connection.execute("SELECT nothing")
        assert as_they_came(callers)

    @pytest.mark.parametrize("command", ["BEGIN", "pg_current_xact_id", "COMMIT", "ROLLBACK", "append"])
    def test_ctrl_c_at_a_command(
        self, callers: ConnectionPool[Any], schema: str, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = PostgresEventStore(callers, schema)
        execute = stores._Cursor.execute

        def interrupted(cursor: Any, query: bytes, *args: Any, **options: Any) -> Any:
            if command.encode() in query:
                monkeypatch.setattr(stores._Cursor, "execute", execute)
                with suppress(psycopg.Error):
                    execute(cursor, query if command != "append" else b"SELECT 1/0")
                raise KeyboardInterrupt
            return execute(cursor, query, *args, **options)

        monkeypatch.setattr(stores._Cursor, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt), store.transaction() as transaction:
            transaction.append("s", events(), 0)
            if command == "ROLLBACK":
                raise ZeroDivisionError
        assert as_they_came(callers)

    @pytest.mark.parametrize("kind", ["transaction", "subscription"])
    def test_a_task_that_is_cancelled_at_any_moment(self, dsn: str, schema: str, kind: str) -> None:
        async def transaction(store: AsyncPostgresEventStore, number: int) -> None:
            async with store.transaction() as both:
                await both.append(f"s{number}", events(), 0)

        async def subscription(store: AsyncPostgresEventStore, number: int) -> None:
            await AsyncSubscription(store, f"w{number}", lambda _: None).run_until_caught_up()

        async def work() -> int:
            async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
                store = AsyncPostgresEventStore(pool, schema)
                await store.append("first", events(), 0)
                turns = done = 0
                while done < 3:
                    turns += 1
                    begun = transaction(store, turns) if kind == "transaction" else subscription(store, turns)
                    task = asyncio.create_task(begun)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                        done += 1
                    async with pool.connection() as connection:
                        assert not connection.autocommit
                        assert connection.info.transaction_status == TransactionStatus.IDLE
                return turns

        assert asyncio.run(work()) > 3, "no task was cancelled before its end"


class TestInterrupts:
    def test_one_between_begin_and_the_block_leaves_no_open_transaction(
        self, callers: ConnectionPool[Any], dsn: str, schema: str
    ) -> None:
        store = PostgresEventStore(callers, schema)
        number = interrupted = 0
        entered = False
        with psycopg.connect(dsn, autocommit=True) as other:
            while not entered:  # At one line after the other of the library's, until the block begins.
                number += 1
                try:
                    with Interrupt(number) as interrupt, store.transaction():
                        interrupt.ended = entered = True
                except KeyboardInterrupt:
                    interrupted += 1
                assert as_they_came(callers)
                assert eventually(lambda: other.execute(OPEN, [NAME]).fetchone() == (0,))
        assert interrupted > 20


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line of the library's stores that runs in the block."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.ended = False

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith(("postgres/stores.py", "core/blocking.py", "core/operations.py")):
            return None
        # A bare `try:` does nothing, so no signal is noticed there.
        idle = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "try:"
        if event == "line" and not self.ended and not idle:
            self._left -= 1
            if not self._left:
                self.ended = True
                raise KeyboardInterrupt
        return self._trace


class TestNotificationsWithReadmesPool:
    def test_a_store_on_a_pool_without_kwargs_tells_and_hears(self, callers: ConnectionPool[Any], schema: str) -> None:
        heard: list[bool] = []
        store = PostgresEventStore(callers, schema, notify=True)
        with psycopg.connect(callers.conninfo, autocommit=True) as listener:
            (channel,) = listener.execute(store.statements.channel).fetchone() or ("",)
            listener.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
            store.append("s", events(), 0)
            assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1
            with store.wakeups.calling(lambda: heard.append(True)), store.listening():
                announce = psycopg.sql.SQL("NOTIFY {}").format(psycopg.sql.Identifier(channel))

                def told() -> bool:
                    listener.execute(announce)
                    return len(heard) >= 3

                assert eventually(told)
        Subscription(store, "s", print).run_until_caught_up()
