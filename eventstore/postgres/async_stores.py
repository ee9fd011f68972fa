"""The stores on PostgreSQL in async: the twin of stores.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, AsyncCursor, capabilities
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from eventstore.core import deadlines
from eventstore.core.asynchronous import AsyncBatchStore, AsyncFollowableStore, AsyncRequestSnapshotStore, run
from eventstore.core.deadlines import DEFAULT_TIMEOUT, Deadline, checked_timeout, within
from eventstore.core.operations import ConnectionLost, repeated
from eventstore.core.own_transactions import OwnTransaction, own_transaction
from eventstore.core.refusals import bound_already
from eventstore.core.requests import Call, Request, SessionsGone
from eventstore.core.subject_keys import AsyncSubjectKeys, checked_keys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import EventStoreError, InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres import transactions
from eventstore.postgres.arrays import ADAPTERS
from eventstore.postgres.async_connections import CallersPool, Connections, Loan, OwnPool, Pool
from eventstore.postgres.failures import (
    FORGET_PLANS,
    Warnings,
    check_connection,
    plans_are_outdated,
    resolve,
    unavailable,
)
from eventstore.postgres.notifications import Announcements
from eventstore.postgres.statements import Statements
from eventstore.postgres.stores import DEFAULT_SCHEMA, WORKERS_PATIENCE
from eventstore.postgres.transactions import OnAnotherConnection, commits
from eventstore.postgres.waiting import CANCEL_SECONDS, OutOfTime, Waiting, cancelling_in_a_thread, unanswered, until
from eventstore.store import AsyncEventStore
from eventstore.versions import StreamVersion

R = TypeVar("R")


class _Cursor(AsyncCursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS

    def _execute_gen(self, *args: Any, **options: Any) -> Waiting[None]:
        return until(deadlines.current(), super()._execute_gen(*args, **options))


async def execute(connection: AsyncConnection[TupleRow], request: Request[R], statements: Statements) -> R:
    """Carry out a request on a connection, and return its reply."""
    if commits(request):
        with Warnings(connection) as warnings:
            reply = await _execute(connection, request, statements)
            warnings.check()
            return reply
    if isinstance(request, SessionsGone):
        request = cast("Request[R]", replace(request, own=connection.info.backend_pid))
    return await _execute(connection, request, statements)


async def _execute(connection: AsyncConnection[TupleRow], request: Request[R], statements: Statements) -> R:
    statement = statements.of(request)
    parameters = statement.parameters(request)
    cursor = _Cursor(connection, row_factory=tuple_row)
    session = connection.pgconn.backend_pid
    try:
        check_connection(connection)
        try:
            # What has no parameters, such as a COMMIT, is not worth a plan that the server keeps.
            await cursor.execute(statement.text, parameters, prepare=bool(parameters), binary=True)
        except OutOfTime as late:
            await _cancel(connection, late)
        except psycopg.errors.FeatureNotSupported as error:
            if plans_are_outdated(error) and connection.info.transaction_status == TransactionStatus.IDLE:
                await _forget_plans(connection)
            raise
        rows = await cursor.fetchall() if cursor.rownumber is not None else [(cursor.statusmessage,)]
    except psycopg.Error as error:
        return resolve(error, request, statement, statements, broken=connection.broken, session=session)
    return statement.reply(rows)


async def _forget_plans(connection: AsyncConnection[Any]) -> None:
    """Have a session prepare its statements again; where the server says nothing in time, break the connection."""
    try:
        await _Cursor(connection).execute(FORGET_PLANS, prepare=False)
    except OutOfTime as error:
        connection.pgconn.finish()
        raise unanswered() from error


async def _cancel(connection: AsyncConnection[Any], late: OutOfTime) -> None:
    """Cancel a statement and wait for its end; where the server says nothing, break the connection.

    Returns if it was faster. Raises StoreUnavailable, or the driver's errors.
    """
    try:
        if capabilities.has_cancel_safe():
            await connection.cancel_safe(timeout=CANCEL_SECONDS)
        else:
            await asyncio.wait_for(asyncio.wrap_future(cancelling_in_a_thread(connection)), CANCEL_SECONDS)
        async with connection.lock:
            await connection.wait(until(Deadline(CANCEL_SECONDS), late.statement))
    except psycopg.errors.QueryCanceled as error:
        raise late.cancelled(error) from error
    except (OutOfTime, TimeoutError, psycopg.OperationalError) as error:
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is not None:
            raise  # The server did say something.
        connection.pgconn.finish()
        raise unanswered() from error


class PoolClient:
    """What the stores have in common: a schema, and connections to where it is."""

    def __init__(
        self, pool: Pool | Connections, schema: str = DEFAULT_SCHEMA, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> None:
        self.timeout = checked_timeout(timeout)
        self.connections: Connections = pool if isinstance(pool, (CallersPool, OwnPool)) else CallersPool(pool)
        self.statements = Statements(schema)

    @property
    def _home(self) -> object:
        return self.connections.source, self.statements.schema

    async def execute(self, request: Request[R]) -> R:
        async with Loan(self.connections) as loan:
            return await execute(await loan.take(self._deadline()), request, self.statements)

    def _deadline(self) -> Deadline:
        """Until when to wait for a connection. Outside of a call it is a worker that asks, which asks again."""
        return deadlines.current() or Deadline(min(self.timeout or WORKERS_PATIENCE, WORKERS_PATIENCE))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(schema={self.statements.schema!r})"

    async def close(self) -> None:
        """Close the store's own connections. Your pool is left open."""
        await self.connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class AsyncPostgresEventStore(PoolClient, AsyncFollowableStore):
    """PostgresEventStore in async, over a psycopg_pool.AsyncConnectionPool."""

    def __init__(
        self,
        pool: Pool | Connections,
        schema: str = DEFAULT_SCHEMA,
        *,
        strict: bool = False,
        notify: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: AsyncSubjectKeys | None = None,
    ) -> None:
        super().__init__(pool, schema, timeout=timeout)
        self.strict = strict
        self.subject_keys = checked_keys(subject_keys, AsyncSubjectKeys)
        self._announcements = Announcements(self.connections.server, self.statements, notify=notify)

    @classmethod
    def connect(
        cls,
        dsn: str,
        schema: str = DEFAULT_SCHEMA,
        *,
        strict: bool = False,
        notify: bool = False,
        max_size: int = 10,
        prepare: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: AsyncSubjectKeys | None = None,
    ) -> Self:
        """A store with at most ``max_size`` connections of its own, for each event loop that uses it."""
        pool = OwnPool(dsn, max_size, prepare=prepare)
        return cls(pool, schema, strict=strict, notify=notify, timeout=timeout, subject_keys=subject_keys)

    @property
    def wakeups(self) -> WakeUps:
        return self._announcements.wakeups

    def announce(self) -> None:
        self._announcements.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self._announcements.listening()

    async def execute_apart(self, request: Request[R]) -> R:
        """As PostgresEventStore.execute_apart."""
        server = self.connections.server()
        if server is None:
            return await self.execute(request)
        try:
            connection = await AsyncConnection.connect(server.conninfo, **server.options_of_one(self._deadline()))
        except psycopg.Error as error:
            raise unavailable(error) from error
        async with connection:
            return await execute(connection, request, self.statements)

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:  # noqa: ARG002 the base's
        self.announce()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        async with Loan(self.connections) as loan:
            begin: Call[AsyncConnection[Any]] = Call(partial(self._begin, loan))
            connection = await self.carry_out(repeated(begin))
            store = _Transaction(self, loan, connection)
            try:
                with own_transaction(self, asyncio.current_task()) as own:
                    store.own = own
                    yield store
                await store._commit()
            except BaseException:
                await store._roll_back()
                raise
        if store.has_appended:
            self.announce()
        await store.finish_forgetting()

    async def _begin(self, loan: Loan) -> AsyncConnection[Any]:
        connection = await loan.take(self._deadline())
        try:
            await execute(connection, transactions.BEGIN, self.statements)
        except BaseException:
            await loan.give_back()
            raise
        return connection

    def bind(self, connection: AsyncConnection[Any]) -> AsyncPostgresTransaction:
        """As PostgresEventStore.bind."""
        if not isinstance(connection, AsyncConnection):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"connection must be a psycopg.AsyncConnection, not {type(connection).__name__}")
        return AsyncPostgresTransaction(self, connection)


class AsyncPostgresTransaction(AsyncBatchStore):
    """The store in one transaction: what ``transaction()`` and ``bind`` give."""

    in_transaction = True
    sees_commit = False

    def __init__(self, store: AsyncPostgresEventStore, connection: AsyncConnection[Any]) -> None:
        self._store = store
        self.strict = store.strict
        self.timeout = store.timeout
        self.subject_keys = store.subject_keys
        self.statements = store.statements.in_transaction
        self._connection = connection

    @property
    def connection(self) -> AsyncConnection[Any]:
        """Its connection, for statements of one's own in the same transaction."""
        return self._connection

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    @property
    def _home(self) -> object:
        return self._store._home

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Do nothing: the commit is yours, and the store does not see it."""

    async def execute(self, request: Request[R]) -> R:
        try:
            return await execute(self._connection, request, self.statements)
        except ConnectionLost as lost:
            raise transactions.rolled_back(lost) from lost

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        await self.execute(transactions.SAVEPOINT)
        try:
            yield self
        except BaseException:
            with suppress(StoreUnavailable):
                await self.execute(transactions.ROLLBACK_TO)
            raise
        await self.execute(transactions.RELEASE)

    def bind(self, connection: Any) -> AsyncEventStore:  # noqa: ARG002 the interface's
        raise bound_already()


class _Transaction(AsyncPostgresTransaction):
    """The store in a transaction of its own."""

    sees_commit = True
    own: OwnTransaction

    def __init__(self, store: AsyncPostgresEventStore, loan: Loan, connection: AsyncConnection[Any]) -> None:
        super().__init__(store, connection)
        self._loan = loan
        self._elsewhere = store.execute
        self._log = transactions.AppendLog()

    async def execute(self, request: Request[R]) -> R:
        self._log.check()
        return await super().execute(request)

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._log.callbacks.append(callback)

    def _begin_appends(self, stream_ids: Iterable[str]) -> None:
        self.own.streams |= {*stream_ids}

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:
        for stream_id, version, events in appends:
            self._log.note(stream_id, version, events)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        mark, held = self._log.mark(), self.own.streams
        try:
            async with super().transaction():
                yield self
        except BaseException:
            self._log.go_back(mark)
            self.own.streams = held
            raise

    @property
    def has_appended(self) -> bool:
        """Whether there is something for readers of the log, once it is committed."""
        return bool(self._log.appended)

    async def _commit(self) -> None:
        self._log.end()
        with within(self.timeout):
            await run(transactions.commit(self._log.appended), self._carry_out)
        self._log.committed()

    async def _roll_back(self) -> None:
        self._log.end()
        if self._loan.in_transaction:
            with suppress(EventStoreError), within(self.timeout):  # A connection that is gone has rolled back.
                await self._carry_out(transactions.ROLLBACK)

    async def _carry_out(self, request: Request[Any]) -> Any:
        if isinstance(request, OnAnotherConnection):
            await self._loan.give_back()  # It is broken, and there may be no other.
            return await self._elsewhere(request.request)
        return await execute(self._connection, request, self.statements)


class AsyncPostgresSnapshotStore(PoolClient, AsyncRequestSnapshotStore):
    """PostgresSnapshotStore in async."""

    @classmethod
    def connect(
        cls,
        dsn: str,
        schema: str = DEFAULT_SCHEMA,
        *,
        max_size: int = 10,
        prepare: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Self:
        """A store with at most ``max_size`` connections of its own, for each event loop that uses it."""
        return cls(OwnPool(dsn, max_size, prepare=prepare), schema, timeout=timeout)
