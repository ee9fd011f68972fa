"""The stores on PostgreSQL in async: the twin of stores.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.adapt import AdaptersMap
from psycopg.rows import TupleRow, tuple_row

from eventstore.core.asynchronous import AsyncFollowableStore, AsyncRequestSnapshotStore, AsyncStore, run
from eventstore.core.operations import ConnectionLost, repeated
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres import transactions
from eventstore.postgres.arrays import ADAPTERS
from eventstore.postgres.async_connections import CallersPool, Loan, OwnPool, Pool
from eventstore.postgres.failures import check_encoding, resolve
from eventstore.postgres.notifications import Announcements
from eventstore.postgres.statements import AnyRequest, Statements, reply_of
from eventstore.postgres.transactions import Elsewhere
from eventstore.store import AsyncEventStore

DEFAULT_SCHEMA = "eventstore"


class _Cursor(AsyncCursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS


async def execute(
    connection: AsyncConnection[TupleRow], request: AnyRequest, statements: Statements, *, in_transaction: bool
) -> Any:
    """Carry out a request on a connection, and return its reply."""
    text, parameters = statements.of(request, in_transaction=in_transaction)
    cursor = _Cursor(connection, row_factory=tuple_row)
    try:
        check_encoding(connection)
        await cursor.execute(text, parameters, prepare=bool(parameters), binary=True)
        rows = await cursor.fetchall() if cursor.rownumber is not None else []
    except psycopg.Error as error:
        return resolve(error, request, broken=connection.broken, schema=statements.schema)
    return reply_of(request, rows, cursor.statusmessage)


class _Client:
    """What the stores have in common: a schema, and connections to where it is."""

    def __init__(self, pool: Pool, schema: str = DEFAULT_SCHEMA) -> None:
        """``pool`` stays the caller's, who opens and closes it."""
        self._connections: CallersPool | OwnPool = CallersPool(pool)
        self._statements = Statements(schema)

    def _connect(self, dsn: str, schema: str, max_size: int) -> None:
        self._connections = OwnPool(dsn, max_size)
        self._statements = Statements(schema)

    async def _execute(self, request: AnyRequest) -> Any:
        loan = await Loan.take(await self._connections.pool())
        try:
            return await execute(loan.connection, request, self._statements, in_transaction=False)
        finally:
            await loan.give_back()

    async def close(self) -> None:
        """Close the connections of its own; those of a caller's pool are left alone."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class AsyncPostgresEventStore(_Client, AsyncFollowableStore):
    """PostgresEventStore in async, over a psycopg_pool.AsyncConnectionPool."""

    def __init__(self, pool: Pool, schema: str = DEFAULT_SCHEMA, *, strict: bool = False, notify: bool = False) -> None:
        super().__init__(pool, schema)
        self._prepare(strict=strict, notify=notify)

    @classmethod
    def connect(
        cls,
        dsn: str,
        schema: str = DEFAULT_SCHEMA,
        *,
        strict: bool = False,
        notify: bool = False,
        max_size: int = 10,
    ) -> Self:
        """A store with at most ``max_size`` connections of its own, for each event loop that uses it."""
        store = cls.__new__(cls)
        store._connect(dsn, schema, max_size)
        store._prepare(strict=strict, notify=notify)
        return store

    def _prepare(self, *, strict: bool, notify: bool) -> None:
        self._strict = strict
        self._announcements = Announcements(self._connections.server, self._statements, notify=notify)

    @property
    def wakeups(self) -> WakeUps:
        return self._announcements.wakeups

    def announce(self) -> None:
        self._announcements.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self._announcements.listening()

    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        version = await super().append(stream_id, events, expected_version)
        self.announce()
        return version

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        loan = await run(repeated(transactions.BEGIN), self._begin)
        try:
            store = _Transaction(self, loan.connection)
            try:
                yield store
            except BaseException:
                await store._roll_back()
                raise
            await store._commit()
        finally:
            await loan.give_back()
        if store.has_appended:
            self.announce()

    async def _begin(self, begin: AnyRequest) -> Loan:
        loan = await Loan.take(await self._connections.pool())
        try:
            await execute(loan.connection, begin, self._statements, in_transaction=True)
        except BaseException:
            await loan.give_back()
            raise
        return loan

    def bind(self, connection: AsyncConnection[Any]) -> AsyncPostgresTransaction:
        """As PostgresEventStore.bind."""
        if not isinstance(connection, AsyncConnection):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"a psycopg.AsyncConnection is needed, not {type(connection).__name__}")
        return AsyncPostgresTransaction(self, connection)


class AsyncPostgresTransaction(AsyncStore):
    """The store in one transaction: what ``transaction()`` and ``bind`` give."""

    def __init__(self, store: AsyncPostgresEventStore, connection: AsyncConnection[Any]) -> None:
        self._store = store
        self._strict = store._strict
        self._statements = store._statements
        self._connection = connection

    @property
    def connection(self) -> AsyncConnection[Any]:
        """Its connection, for statements of one's own in the same transaction."""
        return self._connection

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Never: the commit is the caller's."""

    async def _execute(self, request: AnyRequest) -> Any:
        try:
            return await execute(self._connection, request, self._statements, in_transaction=True)
        except ConnectionLost as lost:
            raise transactions.lost(lost) from lost

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        await self._execute(transactions.SAVEPOINT)
        try:
            yield self
        except BaseException:
            with suppress(StoreUnavailable):
                await self._execute(transactions.ROLLBACK_TO)
            raise
        await self._execute(transactions.RELEASE)

    def bind(self, connection: Any) -> AsyncEventStore:  # noqa: ARG002 the interface's
        raise InvalidArgument("this store is bound already: bind the one that it came from")


class _Transaction(AsyncPostgresTransaction):
    """The store in a transaction of its own."""

    def __init__(self, store: AsyncPostgresEventStore, connection: AsyncConnection[Any]) -> None:
        super().__init__(store, connection)
        self._elsewhere = store._execute
        self._state = transactions.State()

    async def _execute(self, request: AnyRequest) -> Any:
        self._state.check()
        return await super()._execute(request)

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._state.callbacks.append(callback)

    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        return self._state.note(stream_id, await super().append(stream_id, events, expected_version), events)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncPostgresTransaction, None]:
        mark = self._state.mark()
        try:
            async with super().transaction():
                yield self
        except BaseException:
            self._state.go_back(mark)
            raise

    @property
    def has_appended(self) -> bool:
        """Whether there is something for readers of the log, once it is committed."""
        return bool(self._state.appended)

    async def _commit(self) -> None:
        self._state.end()
        await run(transactions.commit(self._state.appended), self._carry_out)
        self._state.committed()

    async def _roll_back(self) -> None:
        self._state.end()
        with suppress(StoreUnavailable):  # A connection that is gone has rolled back.
            await self._carry_out(transactions.ROLLBACK)

    async def _carry_out(self, request: AnyRequest | Elsewhere) -> Any:
        if isinstance(request, Elsewhere):
            return await self._elsewhere(request.request)
        return await execute(self._connection, request, self._statements, in_transaction=True)


class AsyncPostgresSnapshotStore(_Client, AsyncRequestSnapshotStore):
    """PostgresSnapshotStore in async."""

    @classmethod
    def connect(cls, dsn: str, schema: str = DEFAULT_SCHEMA, *, max_size: int = 10) -> Self:
        """A store with at most ``max_size`` connections of its own, for each event loop that uses it."""
        store = cls.__new__(cls)
        store._connect(dsn, schema, max_size)
        return store
