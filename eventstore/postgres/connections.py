"""Where a store's connections come from: a pool of the caller's, or one of its own, opened when first used."""

from __future__ import annotations

import os
import threading
from typing import Self, TypeAlias

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.failures import ThisProcess, unavailable
from eventstore.postgres.notifications import Server

PATIENCE = 10.0
"""Seconds that a pool of the store's own waits for a connection."""
OPTIONS = {"autocommit": True, "client_encoding": "UTF8"}
"""Of the connections of such a pool."""

Pool: TypeAlias = ConnectionPool[Connection[TupleRow]]


class CallersPool:
    """Connections of a pool that belongs to the caller."""

    def __init__(self, pool: Pool) -> None:
        if not isinstance(pool, ConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"a psycopg_pool.ConnectionPool is needed, not {type(pool).__name__}")
        self._pool = pool
        self._process = ThisProcess()

    def pool(self) -> Pool:
        self._process.check()
        return self._pool

    def server(self) -> Server | None:
        """Where its connections go."""
        self._process.check()
        return Server.of(self._pool)

    def close(self) -> None:
        """Leave the pool to the caller."""


class OwnPool:
    """A pool for each process, opened when first used: after a fork the child opens its own."""

    def __init__(self, dsn: str, max_size: int) -> None:
        self._dsn = checked_dsn(dsn)
        self._max_size = max_size
        self._lock = threading.Lock()
        # The pools of parents are kept: to let one go would end the parent's sessions.
        self._pools: dict[int, Pool] = {}
        os.register_at_fork(after_in_child=self._unlock)
        self._closed = False

    def pool(self) -> Pool:
        pool = self._pools.get(os.getpid())
        return pool if pool is not None else self._open()

    def _open(self) -> Pool:
        with self._lock:
            if self._closed:
                raise InvalidOperation("this store is closed")
            pool = self._pools.get(os.getpid())
            if pool is None:
                try:
                    # A pool would go on trying for half a minute, and not say why.
                    psycopg.connect(self._dsn).close()
                except psycopg.Error as error:
                    raise unavailable(error) from error
                pool = Pool(self._dsn, min_size=1, max_size=self._max_size, timeout=PATIENCE, open=True, kwargs=OPTIONS)
                self._pools[os.getpid()] = pool
            return pool

    def server(self) -> Server:
        """Where its connections go."""
        return Server(self._dsn, {})

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()


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
