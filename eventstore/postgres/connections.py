"""Where a store's connections come from: your pool, or one of its own that opens on first use."""

from __future__ import annotations

import threading
from typing import Any, Self, TypeAlias
from weakref import finalize

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from eventstore.core.deadlines import NO_DEADLINE, Deadline
from eventstore.errors import AccessDenied, InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.postgres._forks import Forkable, keep_for_ever, tell_after_forks
from eventstore.postgres.dsn import checked_dsn, own_options
from eventstore.postgres.failures import none_free, store_closed, unavailable
from eventstore.postgres.notifications import Server
from eventstore.postgres.waiting import unanswered

ASK_SECONDS = 1.0
"""After so long a pool is asked for a connection again: one that has given up connecting tries at once then."""
RECONNECT_SECONDS = 1.0
"""How long a pool of the store's own tries to connect before it gives up. It waits twice as long after each failure,
and would be of no use for half a minute after the server is back."""
_OPEN = {TransactionStatus.INTRANS, TransactionStatus.INERROR}

Pool: TypeAlias = ConnectionPool[Any]
"""Your pool. Checkers do not know the connections of `ConnectionPool(dsn)`, as its rows are not given."""


class CallersPool(Forkable):
    """Connections of a pool that belongs to the caller."""

    def __init__(self, pool: Pool) -> None:
        if not isinstance(pool, ConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"pool must be a psycopg_pool.ConnectionPool, not {type(pool).__name__}")
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

    def pool(self, deadline: Deadline = NO_DEADLINE) -> Pool:  # noqa: ARG002 OwnPool's
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

    def __init__(self, dsn: str, max_size: int, *, prepare: bool = True) -> None:
        self._dsn = checked_dsn(dsn)
        self._options = own_options(dsn, prepare=prepare)
        self._max_size = max_size
        self._lock = threading.Lock()
        self._first = _FirstConnection()
        self._pool: Pool | None = None
        self._end: finalize[..., OwnPool] | None = None
        self._closed = False
        tell_after_forks(self)

    @property
    def source(self) -> object:
        """As CallersPool.source."""
        return self._dsn

    def after_fork(self) -> None:
        self._lock = threading.Lock()  # A thread of the parent's may have held it.
        self._first = _FirstConnection()
        if self._end is not None:
            self._end.detach()
            keep_for_ever(self._pool)
            self._pool = self._end = None

    def pool(self, deadline: Deadline = NO_DEADLINE) -> Pool:
        """Raises StoreUnavailable or AccessDenied if the first connection can't be made."""
        pool = self._pool
        return pool if pool is not None else self._open(deadline)

    def _open(self, deadline: Deadline) -> Pool:
        if not self._closed:
            self._first.make(self.server(), deadline)  # Nobody who closes the store waits for that.
        with self._lock:
            if self._closed:
                raise store_closed()
            if self._pool is None:
                self._pool = Pool(
                    self._dsn,
                    min_size=1,
                    max_size=self._max_size,
                    open=True,
                    kwargs=self._options,
                    reconnect_timeout=RECONNECT_SECONDS,
                )
                # Let go without being closed, a pool waits for its threads in vain when Python ends.
                self._end = finalize(self, self._pool.close)
            return self._pool

    def server(self) -> Server:
        """Where its connections go."""
        return Server(self._dsn, self._options)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            end, self._pool, self._end = self._end, None, None
        if end is not None:
            end()


class _FirstConnection:
    """The attempt to connect without a pool, which would keep trying without saying why it fails.

    One thread at a time makes it, and those that wait meanwhile fail as it does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = False
        self._failures = 0
        self._failure = psycopg.Error()
        """The last of them."""

    def make(self, server: Server, deadline: Deadline) -> None:
        """Raises StoreUnavailable, AccessDenied."""
        before = self._failures
        if not self._lock.acquire(timeout=min(deadline.left(), threading.TIMEOUT_MAX)):
            raise unavailable(unanswered(), deadline.timeout)
        try:
            if self._made:
                return
            if self._failures > before:
                raise unavailable(self._failure) from self._failure
            psycopg.connect(server.conninfo, **server.options_of_one(deadline)).close()
            self._made = True
        except psycopg.Error as error:
            self._failures, self._failure = self._failures + 1, error
            raise unavailable(error) from error
        finally:
            self._lock.release()


Connections: TypeAlias = CallersPool | OwnPool
"""Where a store's connections come from."""


class Loan:
    """A connection out of a pool, in autocommit mode, that is given back as it was at the end of the block.

    Whatever else happens to it, it is closed.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._taken: tuple[Pool, Connection[TupleRow], bool] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    @property
    def in_transaction(self) -> bool:
        """Whether it holds a connection with an open transaction, which can be rolled back."""
        return self._taken is not None and self._taken[1].pgconn.transaction_status in _OPEN

    def take(self, deadline: Deadline) -> Connection[TupleRow]:
        """Raises StoreUnavailable if there is none before the deadline, AccessDenied."""
        pool = self._connections.pool(deadline)
        connection = self._asked(pool, deadline)
        autocommit = connection.autocommit
        self._taken = pool, connection, autocommit
        if not autocommit:
            connection.autocommit = True
        return connection

    def _asked(self, pool: Pool, deadline: Deadline) -> Connection[TupleRow]:
        while True:
            try:
                connection: Connection[TupleRow] = pool.getconn(timeout=min(deadline.left(), ASK_SECONDS))
            except PoolTimeout as error:
                if deadline.passed:
                    raise self._cause(deadline) from error
            except psycopg.Error as error:
                raise unavailable(error) from error
            else:
                return connection

    def _cause(self, deadline: Deadline) -> StoreUnavailable | AccessDenied:
        """The reason why there was no connection, which the pool does not give: what another attempt meets."""
        server = self._connections.server()
        if server is None:
            return none_free(deadline.timeout)
        try:
            psycopg.connect(server.conninfo, **server.options_of_one(deadline)).close()
        except psycopg.Error as error:
            return unavailable(error, deadline.timeout)
        return none_free(deadline.timeout)

    def give_back(self) -> None:
        if self._taken is None:
            return
        pool, connection, autocommit = self._taken
        try:
            if connection.broken:
                pool.drain()  # What ended one connection has probably ended all.
            elif connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.close()  # Nobody knows what it is at.
            elif not autocommit:
                connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        finally:
            self._taken = None
            pool.putconn(connection)
