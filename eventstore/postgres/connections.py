"""Where a store's connections come from: a pool of the caller's, or one of its own, opened when first used."""

from __future__ import annotations

import threading
from typing import Any, Self, TypeAlias
from weakref import finalize

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.postgres._forks import Forkable, keep_for_ever, tell_after_forks
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.failures import unavailable
from eventstore.postgres.notifications import Server

PATIENCE = 10.0
"""Seconds that a pool of the store's own waits for a connection."""
OPTIONS = {"autocommit": True, "client_encoding": "UTF8"}
"""Connection options of the store's own pool."""

Pool: TypeAlias = ConnectionPool[Any]
"""A pool of yours. Checkers do not know the connections of `ConnectionPool(dsn)`, as its rows are not given."""


class CallersPool(Forkable):
    """Connections of a pool that belongs to the caller."""

    def __init__(self, pool: Pool) -> None:
        if not isinstance(pool, ConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"a psycopg_pool.ConnectionPool is needed, not {type(pool).__name__}")
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

    def pool(self) -> Pool:
        """Raises InvalidOperation in a forked child."""
        self._check()
        return self._pool

    def server(self) -> Server | None:
        """Where its connections go."""
        self._check()
        return Server.of(self._pool)

    def close(self) -> None:
        """Leave the pool to the caller."""


class OwnPool(Forkable):
    """A pool for each process, opened when first used: after a fork the child opens its own."""

    def __init__(self, dsn: str, max_size: int) -> None:
        self._dsn = checked_dsn(dsn)
        self._max_size = max_size
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._end: finalize[..., OwnPool] | None = None
        self._closed = False
        tell_after_forks(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()  # A thread of the parent's may have held it.
        if self._end is not None:
            self._end.detach()
            keep_for_ever(self._pool)
            self._pool = self._end = None

    def pool(self) -> Pool:
        pool = self._pool
        return pool if pool is not None else self._open()

    def _open(self) -> Pool:
        with self._lock:
            if self._closed:
                raise InvalidOperation("this store is closed")
            if self._pool is None:
                try:
                    # A pool would go on trying for half a minute, and not say why.
                    psycopg.connect(self._dsn).close()
                except psycopg.Error as error:
                    raise unavailable(error) from error
                self._pool = Pool(
                    self._dsn, min_size=1, max_size=self._max_size, timeout=PATIENCE, open=True, kwargs=OPTIONS
                )
                # Let go without being closed, a pool waits for its threads in vain when Python ends.
                self._end = finalize(self, self._pool.close)
            return self._pool

    def server(self) -> Server:
        """Where its connections go."""
        return Server(self._dsn, {})

    def close(self) -> None:
        with self._lock:
            self._closed = True
            end, self._pool, self._end = self._end, None, None
        if end is not None:
            end()


Connections: TypeAlias = CallersPool | OwnPool
"""Where a store's connections come from."""


class Loan:
    """A connection out of a pool, in autocommit mode until it is given back as it was."""

    def __init__(self, pool: Pool, connection: Connection[TupleRow]) -> None:
        self.connection = connection
        self._pool = pool
        self._autocommit = connection.autocommit

    @classmethod
    def take(cls, pool: Pool) -> Self:
        """Raises StoreUnavailable if there is none."""
        try:
            loan = cls(pool, pool.getconn())
        except psycopg.Error as error:
            raise unavailable(error) from error
        if not loan._autocommit:
            loan.connection.autocommit = True
        return loan

    def give_back(self) -> None:
        connection = self.connection
        try:
            if connection.broken:
                self._pool.drain()  # What ended one connection has probably ended all.
            elif not self._autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
                connection.autocommit = False
        finally:
            self._pool.putconn(connection)
