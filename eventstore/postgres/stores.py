"""The blocking stores on PostgreSQL: rows of methods over the operations, and how a request gets to the server."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import Connection, Cursor
from psycopg.adapt import AdaptersMap
from psycopg.rows import TupleRow, tuple_row

from eventstore.core.blocking import BlockingSnapshotStore, BlockingStore, FollowableStore, run
from eventstore.core.operations import ConnectionLost, repeated
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres import transactions
from eventstore.postgres.arrays import ADAPTERS
from eventstore.postgres.connections import CallersPool, Loan, OwnPool, Pool
from eventstore.postgres.failures import check_encoding, resolve
from eventstore.postgres.notifications import Announcements
from eventstore.postgres.statements import AnyRequest, Statements, reply_of
from eventstore.postgres.transactions import Elsewhere
from eventstore.store import EventStore

DEFAULT_SCHEMA = "eventstore"


class _Cursor(Cursor[TupleRow]):
    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS


def execute(
    connection: Connection[TupleRow], request: AnyRequest, statements: Statements, *, in_transaction: bool
) -> Any:
    """Carry out a request on a connection, and return its reply."""
    text, parameters = statements.of(request, in_transaction=in_transaction)
    cursor = _Cursor(connection, row_factory=tuple_row)
    try:
        check_encoding(connection)
        cursor.execute(text, parameters, prepare=bool(parameters), binary=True)
        rows = cursor.fetchall() if cursor.rownumber is not None else []
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

    def _execute(self, request: AnyRequest) -> Any:
        loan = Loan.take(self._connections.pool())
        try:
            return execute(loan.connection, request, self._statements, in_transaction=False)
        finally:
            loan.give_back()

    def close(self) -> None:
        """Close the connections of its own; those of a caller's pool are left alone."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class PostgresEventStore(_Client, FollowableStore):
    """A store on PostgreSQL, in one schema. Safe for threads, and after a fork.

    With ``strict``, events of unknown types are refused on reading. With ``notify``, a thread tells the subscriptions
    of other processes, after the commits, that there is something to read; those of this one are told anyway.
    """

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
        """A store with at most ``max_size`` connections of its own, the first of which is made when it is used."""
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

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        version = super().append(stream_id, events, expected_version)
        self.announce()
        return version

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        loan = run(repeated(transactions.BEGIN), self._begin)
        try:
            store = _Transaction(self, loan.connection)
            try:
                yield store
            except BaseException:
                store._roll_back()
                raise
            store._commit()
        finally:
            loan.give_back()
        if store.has_appended:
            self.announce()

    def _begin(self, begin: AnyRequest) -> Loan:
        loan = Loan.take(self._connections.pool())
        try:
            execute(loan.connection, begin, self._statements, in_transaction=True)
        except BaseException:
            loan.give_back()
            raise
        return loan

    def bind(self, connection: Connection[Any]) -> PostgresTransaction:
        """The same store on a connection of the caller's, whose transaction it neither commits nor rolls back.

        Appends and reads there see what the transaction has done. After a ConcurrencyError the transaction is usable.
        """
        if not isinstance(connection, Connection):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"a psycopg.Connection is needed, not {type(connection).__name__}")
        return PostgresTransaction(self, connection)


class PostgresTransaction(BlockingStore):
    """The store in one transaction: what ``transaction()`` and ``bind`` give."""

    def __init__(self, store: PostgresEventStore, connection: Connection[Any]) -> None:
        self._store = store
        self._strict = store._strict
        self._statements = store._statements
        self._connection = connection

    @property
    def connection(self) -> Connection[Any]:
        """Its connection, for statements of one's own in the same transaction."""
        return self._connection

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Never: the commit is the caller's."""

    def _execute(self, request: AnyRequest) -> Any:
        try:
            return execute(self._connection, request, self._statements, in_transaction=True)
        except ConnectionLost as lost:
            raise transactions.lost(lost) from lost

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        self._execute(transactions.SAVEPOINT)
        try:
            yield self
        except BaseException:
            with suppress(StoreUnavailable):
                self._execute(transactions.ROLLBACK_TO)
            raise
        self._execute(transactions.RELEASE)

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise InvalidArgument("this store is bound already: bind the one that it came from")


class _Transaction(PostgresTransaction):
    """The store in a transaction of its own."""

    def __init__(self, store: PostgresEventStore, connection: Connection[Any]) -> None:
        super().__init__(store, connection)
        self._elsewhere = store._execute
        self._state = transactions.State()

    def _execute(self, request: AnyRequest) -> Any:
        self._state.check()
        return super()._execute(request)

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._state.callbacks.append(callback)

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        return self._state.note(stream_id, super().append(stream_id, events, expected_version), events)

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        mark = self._state.mark()
        try:
            with super().transaction():
                yield self
        except BaseException:
            self._state.go_back(mark)
            raise

    @property
    def has_appended(self) -> bool:
        """Whether there is something for readers of the log, once it is committed."""
        return bool(self._state.appended)

    def _commit(self) -> None:
        self._state.end()
        run(transactions.commit(self._state.appended), self._carry_out)
        self._state.committed()

    def _roll_back(self) -> None:
        self._state.end()
        with suppress(StoreUnavailable):  # A connection that is gone has rolled back.
            self._carry_out(transactions.ROLLBACK)

    def _carry_out(self, request: AnyRequest | Elsewhere) -> Any:
        if isinstance(request, Elsewhere):
            return self._elsewhere(request.request)
        return execute(self._connection, request, self._statements, in_transaction=True)


class PostgresSnapshotStore(_Client, BlockingSnapshotStore):
    """Snapshots on PostgreSQL, beside the events or elsewhere. Safe for threads, and after a fork."""

    @classmethod
    def connect(cls, dsn: str, schema: str = DEFAULT_SCHEMA, *, max_size: int = 10) -> Self:
        """A store with at most ``max_size`` connections of its own, the first of which is made when it is used."""
        store = cls.__new__(cls)
        store._connect(dsn, schema, max_size)
        return store
