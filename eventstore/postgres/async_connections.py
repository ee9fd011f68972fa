"""Where an async store's connections come from: the twin of connections.py."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from typing import Any, Self, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.postgres._forks import Forkable, keep_for_ever, tell_after_forks
from eventstore.postgres.connections import OPTIONS, PATIENCE
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.failures import unavailable
from eventstore.postgres.notifications import Server

Pool: TypeAlias = AsyncConnectionPool[Any]
"""A pool of yours. Checkers do not know the connections of `AsyncConnectionPool(dsn)`, as its rows are not given."""


class CallersPool(Forkable):
    """Connections of a pool that belongs to the caller."""

    def __init__(self, pool: Pool) -> None:
        if not isinstance(pool, AsyncConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"a psycopg_pool.AsyncConnectionPool is needed, not {type(pool).__name__}")
        self._pool = pool
        self._forked = False
        tell_after_forks(self)

    def after_fork(self) -> None:
        self._forked = True

    def _check(self) -> None:
        if self._forked:
            raise InvalidOperation(
                "this process was forked after the store had got its pool, whose connections belong to the parent: "
                "make a pool and a store in the child, or use the store's connect(), which does so by itself"
            )

    async def pool(self) -> Pool:
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

    def __init__(self, dsn: str, max_size: int) -> None:
        self._dsn = checked_dsn(dsn)
        self._max_size = max_size
        self._pools: dict[AbstractEventLoop, Pool] = {}
        self._closed = False
        tell_after_forks(self)

    def after_fork(self) -> None:
        for pool in self._pools.values():
            keep_for_ever(pool)
        self._pools = {}

    async def pool(self) -> Pool:
        if self._closed:
            raise InvalidOperation("this store is closed")
        here = get_running_loop()
        pool = self._pools.get(here)
        if pool is None:
            await self._try_once()
            new = Pool(self._dsn, min_size=1, max_size=self._max_size, timeout=PATIENCE, open=False, kwargs=OPTIONS)
            pool = self._pools.setdefault(here, new)  # Another task may have been faster.
            await pool.open()
        return pool

    def server(self) -> Server:
        """Where its connections go."""
        return Server(self._dsn, {})

    async def _try_once(self) -> None:
        """A pool would go on trying for half a minute, and not say why."""
        try:
            connection = await AsyncConnection.connect(self._dsn)
        except psycopg.Error as error:
            raise unavailable(error) from error
        await connection.close()

    async def close(self) -> None:
        """Close what this event loop has; each that used the store closes its own."""
        self._closed = True
        pool = self._pools.pop(get_running_loop(), None)
        if pool is not None:
            await pool.close()


Connections: TypeAlias = CallersPool | OwnPool
"""Where a store's connections come from."""


class Loan:
    """A connection out of a pool, in autocommit mode until it is given back as it was."""

    def __init__(self, pool: Pool, connection: AsyncConnection[TupleRow]) -> None:
        self.connection = connection
        self._pool = pool
        self._autocommit = connection.autocommit

    @classmethod
    async def take(cls, pool: Pool) -> Self:
        """Raises StoreUnavailable if there is none."""
        try:
            loan = cls(pool, await pool.getconn())
        except psycopg.Error as error:
            raise unavailable(error) from error
        try:
            if not loan._autocommit:
                await loan.connection.set_autocommit(True)
        except BaseException:  # A task can be cancelled here.
            await loan.give_back()
            raise
        return loan

    async def give_back(self) -> None:
        connection = self.connection
        try:
            if connection.broken:
                await self._pool.drain()  # What ended one connection has probably ended all.
            elif not self._autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                await connection.set_autocommit(False)
        finally:
            await self._pool.putconn(connection)
