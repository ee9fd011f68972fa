"""A store in the transaction that a SQLAlchemy session, or connection, has open. For ``postgresql+psycopg://``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session

from eventstore.contrib.borrowed import execute_borrowed
from eventstore.core.blocking import BatchStore, RequestSnapshotStore
from eventstore.core.operations import ConnectionLost
from eventstore.core.refusals import bound_already, transaction_failed
from eventstore.core.requests import Request
from eventstore.errors import InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres.statements import Statements
from eventstore.postgres.stores import PostgresEventStore
from eventstore.store import EventStore
from eventstore.versions import StreamVersion

R = TypeVar("R")

Host: TypeAlias = "Session | scoped_session[Any] | sqlalchemy.Connection"


class _SessionClient:
    """What the stores have in common: a session, and a schema in its database."""

    def __init__(self, host: Host, statements: Statements) -> None:
        if isinstance(host, scoped_session):
            host = cast("Session", host())
        if not isinstance(host, (Session, sqlalchemy.Connection)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"session must be a Session or Connection of SQLAlchemy, not {type(host).__name__}")
        self._host = host
        self.statements = statements

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The psycopg connection of the transaction, for your own statements. Neither commit nor roll back there.

        Raises StoreUnavailable, or InvalidOperation if the session has to be rolled back first.
        """
        connection = self._in_transaction().connection.driver_connection
        if not isinstance(connection, psycopg.Connection):
            raise InvalidArgument("the engine's URL must begin with postgresql+psycopg://, so that it uses psycopg 3")
        return cast("psycopg.Connection[Any]", connection)

    def _in_transaction(self) -> sqlalchemy.Connection:
        host = self._host
        try:
            connection = host.connection() if isinstance(host, Session) else host
            if not connection.in_transaction():
                connection.begin()
            connection.connection  # noqa: B018 gets one out of the pool
        except PendingRollbackError as error:
            raise transaction_failed() from error
        except DBAPIError as error:
            raise StoreUnavailable(f"no connection to the server: {error.orig}") from error
        except SQLAlchemyError as error:
            raise InvalidOperation(f"the session can't be used: {error}") from error
        return connection

    @property
    def _home(self) -> object:
        return self._host, self.statements.schema

    def execute(self, request: Request[R]) -> R:
        connection = self.connection
        try:
            return execute_borrowed(connection, request, self.statements)
        except StoreUnavailable as error:
            if connection.broken or isinstance(error, ConnectionLost):
                self._in_transaction().invalidate()  # SQLAlchemy can't see it, and would use it again.
            raise


class SessionEventStore(_SessionClient, BatchStore):
    """A store in the transaction of a SQLAlchemy session or connection, whose commit stores the events.

    A refused append leaves the session usable. An append does not flush the session. Subscriptions are woken when the
    session commits.
    """

    in_transaction = True
    sees_commit = False

    def __init__(self, store: PostgresEventStore, host: Host) -> None:
        super().__init__(host, store.statements)
        self._store = store
        self.strict = store.strict
        self.timeout = store.timeout
        self.subject_keys = store.subject_keys

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:  # noqa: ARG002 the base's
        _announce_after_commit(self._host, self._store)

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        """Do nothing: the commit is yours, and the store does not see it."""

    @contextmanager
    def transaction(self) -> Generator[SessionEventStore, None, None]:
        """A savepoint of the session's."""
        with self._host.begin_nested():
            yield self  # Whose statements go through session.connection(): before that, no SAVEPOINT is sent.

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise bound_already()


_announced: WeakKeyDictionary[Session | sqlalchemy.Connection, set[PostgresEventStore]] = WeakKeyDictionary()
"""The stores whose followers are to be woken at the next commit of each."""


def _announce_after_commit(host: Session | sqlalchemy.Connection, store: PostgresEventStore) -> None:
    """Wake the followers of a store once a session commits, which has one listener for all stores that it serves."""
    stores = _announced.get(host)
    if stores is None:
        stores = _announced[host] = set()
        commit = "after_commit" if isinstance(host, Session) else "commit"
        sqlalchemy_event.listen(host, commit, partial(_announce, stores))
    stores.add(store)


def _announce(stores: set[PostgresEventStore], _: object) -> None:
    while stores:
        stores.pop().announce()


class SessionSnapshotStore(_SessionClient, RequestSnapshotStore):
    """Snapshots in the transaction of a session."""
