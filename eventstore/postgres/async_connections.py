"""Where an async store's connections come from: the twin of connections.py."""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Event, Lock, Task, create_task, get_running_loop
from contextlib import suppress
from typing import Any, Self, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from eventstore.core.deadlines import NO_DEADLINE, Deadline
from eventstore.errors import AccessDenied, InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.postgres._forks import Forkable, keep_for_ever, tell_after_forks
from eventstore.postgres.connections import _OPEN, ASK_SECONDS, RECONNECT_SECONDS
from eventstore.postgres.dsn import checked_dsn, own_options
from eventstore.postgres.failures import none_free, store_closed, unavailable
from eventstore.postgres.notifications import Server

Pool: TypeAlias = AsyncConnectionPool[Any]
"""Your pool. Checkers do not know the connections of `AsyncConnectionPool(dsn)`, as its rows are not given."""


class CallersPool(Forkable):
    """Connections of a pool that belongs to the caller."""

    def __init__(self, pool: Pool) -> None:
        if not isinstance(pool, AsyncConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"pool must be a psycopg_pool.AsyncConnectionPool, not {type(pool).__name__}")
        self._pool = pool
        self._forked = False
        tell_after_forks(self)

    def after_fork(self) -> None:
        self._forked = True

    @property
    def source(self) -> object:
        """What stores share whose connections go to the same database."""
        return self._pool

    def _check(self) -> None:
        if self._forked:
            raise InvalidOperation(
                "this process was forked after the store got its pool, whose connections belong to the parent: "
                "make a pool and a store in the child, or use the store's connect(), which does so automatically"
            )

    async def pool(self, deadline: Deadline = NO_DEADLINE) -> Pool:  # noqa: ARG002 OwnPool's
        """Raises InvalidOperation in a forked child."""
        self._check()
        return self._pool

    def server(self) -> Server | None:
        """Where its connections go."""
        self._check()
        return Server.of(self._pool)

    async def close(self) -> None:
        """Leave the pool to the caller."""


class OwnPool(Forkable):
    """A pool for each process and event loop, opened when first used there."""

    def __init__(self, dsn: str, max_size: int, *, prepare: bool = True) -> None:
        self._dsn = checked_dsn(dsn)
        self._options = own_options(dsn, prepare=prepare)
        self._max_size = max_size
        self._loops: WeakKeyDictionary[AbstractEventLoop, _OfLoop] = WeakKeyDictionary()
        tell_after_forks(self)

    @property
    def source(self) -> object:
        """As CallersPool.source."""
        return self._dsn

    def after_fork(self) -> None:
        for here in self._loops.values():
            keep_for_ever(here)
        self._loops = WeakKeyDictionary()

    async def pool(self, deadline: Deadline = NO_DEADLINE) -> Pool:
        """Raises StoreUnavailable or AccessDenied if the first connection can't be made."""
        here = self._here()
        if here.pool is None:
            await here.open(self, deadline)
        if here.closed or here.pool is None:
            raise store_closed()
        return here.pool

    def make(self) -> Pool:
        """A pool that is not open yet."""
        return Pool(
            self._dsn,
            min_size=1,
            max_size=self._max_size,
            open=False,
            kwargs=self._options,
            reconnect_timeout=RECONNECT_SECONDS,
        )

    def server(self) -> Server:
        """Where its connections go."""
        return Server(self._dsn, self._options)

    async def close(self) -> None:
        """Close what this event loop has; each that used the store closes its own."""
        await self._here().close()

    def _here(self) -> _OfLoop:
        loop = get_running_loop()
        here = self._loops.get(loop)
        return here if here is not None else self._loops.setdefault(loop, _OfLoop())


class _OfLoop:
    """What one event loop has of a store."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.closed = False
        self._lock = Lock()
        self._failures = 0
        self._failure = psycopg.Error()
        """The last of them."""
        self._keeper: Task[None] | None = None

    async def open(self, own: OwnPool, deadline: Deadline) -> None:
        """Make a connection without the pool, which would keep trying without saying why it fails; then open the pool.

        One task at a time does, and those that wait meanwhile fail as it does.
        """
        before = self._failures
        async with self._lock:
            if self.pool is not None or self.closed:
                return
            if self._failures > before:
                raise unavailable(self._failure) from self._failure
            try:
                await _try(own.server(), deadline)
            except psycopg.Error as error:
                self._failures, self._failure = self._failures + 1, error
                raise unavailable(error) from error
            pool = own.make()
            await pool.open()
            self._keeper = create_task(_closed_in_the_end(pool))
            self.pool = pool

    async def close(self) -> None:
        self.closed = True
        pool, keeper, self.pool, self._keeper = self.pool, self._keeper, None, None
        if pool is not None and keeper is not None:
            await pool.close()
            keeper.cancel()
            with suppress(CancelledError):
                await keeper


async def _closed_in_the_end(pool: Pool) -> None:
    """Close a pool when its event loop ends, and cancels this: a worker of the pool's may swallow its cancellation."""
    try:
        await Event().wait()
    finally:
        await pool.close()


async def _try(server: Server, deadline: Deadline) -> None:
    connection = await AsyncConnection.connect(server.conninfo, **server.options_of_one(deadline))
    await connection.close()


Connections: TypeAlias = CallersPool | OwnPool
"""Where a store's connections come from."""


class Loan:
    """A connection out of a pool, in autocommit mode, that is given back as it was at the end of the block.

    Whatever else happens to it, it is closed.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._taken: tuple[Pool, AsyncConnection[TupleRow], bool] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.give_back()

    @property
    def in_transaction(self) -> bool:
        """Whether it holds a connection with an open transaction, which can be rolled back."""
        return self._taken is not None and self._taken[1].pgconn.transaction_status in _OPEN

    async def take(self, deadline: Deadline) -> AsyncConnection[TupleRow]:
        """Raises StoreUnavailable if there is none before the deadline, AccessDenied."""
        pool = await self._connections.pool(deadline)
        connection = await self._asked(pool, deadline)
        autocommit = connection.autocommit
        self._taken = pool, connection, autocommit
        if not autocommit:
            await connection.set_autocommit(True)
        return connection

    async def _asked(self, pool: Pool, deadline: Deadline) -> AsyncConnection[TupleRow]:
        while True:
            try:
                connection: AsyncConnection[TupleRow] = await pool.getconn(timeout=min(deadline.left(), ASK_SECONDS))
            except PoolTimeout as error:
                if deadline.passed:
                    raise await self._cause(deadline) from error
            except psycopg.Error as error:
                raise unavailable(error) from error
            else:
                return connection

    async def _cause(self, deadline: Deadline) -> StoreUnavailable | AccessDenied:
        """The reason why there was no connection, which the pool does not give: what another attempt meets."""
        server = self._connections.server()
        if server is None:
            return none_free(deadline.timeout)
        try:
            await _try(server, deadline)
        except psycopg.Error as error:
            return unavailable(error, deadline.timeout)
        return none_free(deadline.timeout)

    async def give_back(self) -> None:
        if self._taken is None:
            return
        pool, connection, autocommit = self._taken
        try:
            if connection.broken:
                await pool.drain()  # What ended one connection has probably ended all.
            elif connection.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.close()  # Nobody knows what it is at.
            elif not autocommit:
                await connection.set_autocommit(False)
        except BaseException:  # A task can be cancelled here.
            await connection.close()
            raise
        finally:
            self._taken = None
            await pool.putconn(connection)
