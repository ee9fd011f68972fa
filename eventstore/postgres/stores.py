"""The blocking stores on PostgreSQL: rows of methods over the operations, and how a request gets to the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import Connection, Cursor, capabilities
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from eventstore.core import deadlines
from eventstore.core.blocking import BatchStore, FollowableStore, RequestSnapshotStore, run
from eventstore.core.deadlines import DEFAULT_TIMEOUT, Deadline, checked_timeout, within
from eventstore.core.operations import ConnectionLost, repeated
from eventstore.core.own_transactions import OwnTransaction, own_transaction
from eventstore.core.refusals import bound_already
from eventstore.core.requests import Call, Request, SessionsGone
from eventstore.core.subject_keys import SubjectKeys, checked_keys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import EventStoreError, InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres import transactions
from eventstore.postgres.arrays import ADAPTERS
from eventstore.postgres.connections import CallersPool, Connections, Loan, OwnPool, Pool
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
from eventstore.postgres.transactions import OnAnotherConnection, commits
from eventstore.postgres.waiting import CANCEL_SECONDS, OutOfTime, Waiting, cancelling_in_a_thread, unanswered, until
from eventstore.store import EventStore
from eventstore.versions import StreamVersion

R = TypeVar("R")

DEFAULT_SCHEMA = "eventstore"
WORKERS_PATIENCE = 10.0
"""Seconds that a subscription waits for a connection, before it says so in the log and tries again."""


class _Cursor(Cursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS

    def _execute_gen(self, *args: Any, **options: Any) -> Waiting[None]:
        return until(deadlines.current(), super()._execute_gen(*args, **options))


def execute(connection: Connection[TupleRow], request: Request[R], statements: Statements) -> R:
    """Carry out a request on a connection, and return its reply."""
    if commits(request):
        with Warnings(connection) as warnings:
            reply = _execute(connection, request, statements)
            warnings.check()
            return reply
    if isinstance(request, SessionsGone):
        request = cast("Request[R]", replace(request, own=connection.info.backend_pid))
    return _execute(connection, request, statements)


def _execute(connection: Connection[TupleRow], request: Request[R], statements: Statements) -> R:
    statement = statements.of(request)
    parameters = statement.parameters(request)
    cursor = _Cursor(connection, row_factory=tuple_row)
    session = connection.pgconn.backend_pid
    try:
        check_connection(connection)
        try:
            # What has no parameters, such as a COMMIT, is not worth a plan that the server keeps.
            cursor.execute(statement.text, parameters, prepare=bool(parameters), binary=True)
        except OutOfTime as late:
            _cancel(connection, late)
        except psycopg.errors.FeatureNotSupported as error:
            if plans_are_outdated(error) and connection.info.transaction_status == TransactionStatus.IDLE:
                _forget_plans(connection)
            raise
        rows = cursor.fetchall() if cursor.rownumber is not None else [(cursor.statusmessage,)]
    except psycopg.Error as error:
        return resolve(error, request, statement, statements, broken=connection.broken, session=session)
    return statement.reply(rows)


def _forget_plans(connection: Connection[Any]) -> None:
    """Have a session prepare its statements again; where the server says nothing in time, break the connection."""
    try:
        _Cursor(connection).execute(FORGET_PLANS, prepare=False)
    except OutOfTime as error:
        connection.pgconn.finish()
        raise unanswered() from error


def _cancel(connection: Connection[Any], late: OutOfTime) -> None:
    """Cancel a statement and wait for its end; where the server says nothing, break the connection.

    Returns if it was faster. Raises StoreUnavailable, or the driver's errors.
    """
    try:
        if capabilities.has_cancel_safe():
            connection.cancel_safe(timeout=CANCEL_SECONDS)
        else:
            cancelling_in_a_thread(connection).result(CANCEL_SECONDS)
        with connection.lock:
            connection.wait(until(Deadline(CANCEL_SECONDS), late.statement))
    except psycopg.errors.QueryCanceled as error:
        raise late.cancelled(error) from error
    except (OutOfTime, TimeoutError, psycopg.OperationalError) as error:
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is not None:
            raise  # The server did say something.
        connection.pgconn.finish()
        raise unanswered() from error


class PoolClient:
    """What the stores have in common: a schema, and connections to its database."""

    def __init__(
        self, pool: Pool | Connections, schema: str = DEFAULT_SCHEMA, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> None:
        self.timeout = checked_timeout(timeout)
        self.connections: Connections = pool if isinstance(pool, (CallersPool, OwnPool)) else CallersPool(pool)
        self.statements = Statements(schema)

    @property
    def _home(self) -> object:
        return self.connections.source, self.statements.schema

    def execute(self, request: Request[R]) -> R:
        with Loan(self.connections) as loan:
            return execute(loan.take(self._deadline()), request, self.statements)

    def _deadline(self) -> Deadline:
        """The time to wait for a connection. Outside of a call a worker asks, and asks again."""
        return deadlines.current() or Deadline(min(self.timeout or WORKERS_PATIENCE, WORKERS_PATIENCE))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(schema={self.statements.schema!r})"

    def close(self) -> None:
        """Close the store's own connections. Your pool is left open."""
        self.connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class PostgresEventStore(PoolClient, FollowableStore):
    """A store on PostgreSQL, in one schema. Safe for threads, and after a fork.

    >>> with PostgresEventStore.connect(dsn, schema) as store:
    ...     store.append("Order-7", [OrderShipped(tracking_number="1Z")], ExpectedVersion.NO_STREAM)
    ...     store.read("Order-7")
    1
    [OrderShipped(tracking_number='1Z')]

    Args:
        pool: a ``psycopg_pool.ConnectionPool``. You open and close it. After a fork, make pool and store in the child.
        schema: the schema of the store; ``migrate`` creates what is in it.
        strict: refuse events of unknown types when reading, instead of returning plain Events.
        notify: wake the subscriptions of other processes, by a NOTIFY that a thread sends after the commits. Those of
            this process are woken in any case.
        timeout: the number of seconds that a call may take, waits included; None: no bound.
        subject_keys: the keys of personal data. Without them it reads as placeholders, and can't be appended.

    Raises:
        InvalidArgument: an argument is invalid.
    """

    def __init__(
        self,
        pool: Pool | Connections,
        schema: str = DEFAULT_SCHEMA,
        *,
        strict: bool = False,
        notify: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: SubjectKeys | None = None,
    ) -> None:
        super().__init__(pool, schema, timeout=timeout)
        self.strict = strict
        self.subject_keys = checked_keys(subject_keys, SubjectKeys)
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
        subject_keys: SubjectKeys | None = None,
    ) -> Self:
        """Return a store with at most ``max_size`` connections of its own. It connects on first use.

        Close it, or use it as a context manager. Raises InvalidArgument for a malformed ``dsn``.
        ``prepare=False`` is for a PgBouncer that does not know prepared statements.
        """
        pool = OwnPool(dsn, max_size, prepare=prepare)
        return cls(pool, schema, strict=strict, notify=notify, timeout=timeout, subject_keys=subject_keys)

    @property
    def wakeups(self) -> WakeUps:
        return self._announcements.wakeups

    def announce(self) -> None:
        self._announcements.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self._announcements.listening()

    def execute_apart(self, request: Request[R]) -> R:
        """Carry out a request on a connection of its own, which is closed then: the pool's may all be in use."""
        server = self.connections.server()
        if server is None:
            return self.execute(request)
        try:
            connection = psycopg.connect(server.conninfo, **server.options_of_one(self._deadline()))
        except psycopg.Error as error:
            raise unavailable(error) from error
        with closing(connection):
            return execute(connection, request, self.statements)

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:  # noqa: ARG002 the base's
        self.announce()

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        with Loan(self.connections) as loan:
            connection = self.carry_out(repeated(Call(partial(self._begin, loan))))
            store = _Transaction(self, loan, connection)
            try:
                with own_transaction(self, threading.get_ident()) as own:
                    store.own = own
                    yield store
                store._commit()
            except BaseException:
                store._roll_back()
                raise
        if store.has_appended:
            self.announce()
        store.finish_forgetting()

    def _begin(self, loan: Loan) -> Connection[Any]:
        connection = loan.take(self._deadline())
        try:
            execute(connection, transactions.BEGIN, self.statements)
        except BaseException:
            loan.give_back()
            raise
        return connection

    def bind(self, connection: Connection[Any]) -> PostgresTransaction:
        """Return the same store on your connection, in whose transaction it neither commits nor rolls back.

        Appends and reads see what the transaction has done. A ConcurrencyError leaves the transaction usable.

        Raises:
            InvalidArgument: ``connection`` is not a ``psycopg.Connection``.
        """
        if not isinstance(connection, Connection):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"connection must be a psycopg.Connection, not {type(connection).__name__}")
        return PostgresTransaction(self, connection)


class PostgresTransaction(BatchStore):
    """A store in one transaction. ``transaction()`` and ``bind()`` of PostgresEventStore return it."""

    in_transaction = True
    sees_commit = False

    def __init__(self, store: PostgresEventStore, connection: Connection[Any]) -> None:
        self._store = store
        self.strict = store.strict
        self.timeout = store.timeout
        self.subject_keys = store.subject_keys
        self.statements = store.statements.in_transaction
        self._connection = connection

    @property
    def connection(self) -> Connection[Any]:
        """The psycopg connection, for your own statements in the same transaction."""
        return self._connection

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    @property
    def _home(self) -> object:
        return self._store._home

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Do nothing: the commit is yours, and the store does not see it."""

    def execute(self, request: Request[R]) -> R:
        try:
            return execute(self._connection, request, self.statements)
        except ConnectionLost as lost:
            raise transactions.rolled_back(lost) from lost

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        self.execute(transactions.SAVEPOINT)
        try:
            yield self
        except BaseException:
            with suppress(StoreUnavailable):
                self.execute(transactions.ROLLBACK_TO)
            raise
        self.execute(transactions.RELEASE)

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise bound_already()


class _Transaction(PostgresTransaction):
    """The store in a transaction of its own."""

    sees_commit = True
    own: OwnTransaction

    def __init__(self, store: PostgresEventStore, loan: Loan, connection: Connection[Any]) -> None:
        super().__init__(store, connection)
        self._loan = loan
        self._elsewhere = store.execute
        self._log = transactions.AppendLog()

    def execute(self, request: Request[R]) -> R:
        self._log.check()
        return super().execute(request)

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._log.callbacks.append(callback)

    def _begin_appends(self, stream_ids: Iterable[str]) -> None:
        self.own.streams |= {*stream_ids}

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:
        for stream_id, version, events in appends:
            self._log.note(stream_id, version, events)

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        mark, held = self._log.mark(), self.own.streams
        try:
            with super().transaction():
                yield self
        except BaseException:
            self._log.go_back(mark)
            self.own.streams = held
            raise

    @property
    def has_appended(self) -> bool:
        """Whether there is something for readers of the log, once it is committed."""
        return bool(self._log.appended)

    def _commit(self) -> None:
        self._log.end()
        with within(self.timeout):
            run(transactions.commit(self._log.appended), self._carry_out)
        self._log.committed()

    def _roll_back(self) -> None:
        self._log.end()
        if self._loan.in_transaction:
            with suppress(EventStoreError), within(self.timeout):  # A connection that is gone has rolled back.
                self._carry_out(transactions.ROLLBACK)

    def _carry_out(self, request: Request[Any]) -> Any:
        if isinstance(request, OnAnotherConnection):
            self._loan.give_back()  # It is broken, and there may be no other.
            return self._elsewhere(request.request)
        return execute(self._connection, request, self.statements)


class PostgresSnapshotStore(PoolClient, RequestSnapshotStore):
    """Snapshots on PostgreSQL, beside the events or elsewhere. Safe for threads, and after a fork.

    The arguments are those of PostgresEventStore.
    """

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
        """Return a store with at most ``max_size`` connections of its own. It connects on first use."""
        return cls(OwnPool(dsn, max_size, prepare=prepare), schema, timeout=timeout)
