"""The stores on Django's own connections: what they do is part of ``transaction.atomic()``.

Errors are the library's, inside and outside of ``atomic()``; Django's and psycopg's don't get out of here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, TypeVar, cast
from uuid import UUID

import django.db
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic, on_commit
from psycopg import Connection
from psycopg.pq import TransactionStatus

from eventstore.aggregate import Aggregate
from eventstore.contrib.borrowed import execute_borrowed
from eventstore.contrib.django import conf
from eventstore.core.blocking import BatchStore, FollowableStore, RequestSnapshotStore, run
from eventstore.core.deadlines import DEFAULT_TIMEOUT, checked_timeout
from eventstore.core.forgetting import Forgotten, destroy
from eventstore.core.operations import ConnectionLost
from eventstore.core.refusals import nothing_stored, transaction_ended, transaction_failed
from eventstore.core.requests import Request
from eventstore.core.subject_keys import SubjectKeys, checked_keys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import AppendOutcomeUnknown, InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres import transactions
from eventstore.postgres.notifications import Announcements, Server
from eventstore.postgres.statements import Statements
from eventstore.postgres.stores import execute
from eventstore.repository import Repository
from eventstore.store import EventStore
from eventstore.versions import StreamVersion

A = TypeVar("A", bound=Aggregate[Any])
R = TypeVar("R")


class _DjangoClient:
    """What the stores have in common: an alias, and a schema in its database."""

    def __init__(self, using: str, schema: str, *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        self.using = using
        self.timeout = checked_timeout(timeout)
        self.statements = Statements(schema)
        self.statements.migrate_with = "manage.py migrate"

    @property
    def connection(self) -> Connection[Any]:
        """The psycopg connection that Django has for this alias in this thread, opened if need be.

        Neither commit nor roll back there. Raises StoreUnavailable.
        """
        wrapper = connections[self.using]
        try:
            wrapper.ensure_connection()
        except django.db.Error as error:
            raise StoreUnavailable(f"no connection to the server: {error}") from error
        connection = cast("object", wrapper.connection)
        if not isinstance(connection, Connection):
            raise InvalidArgument(
                f"the database {self.using!r} is not a PostgreSQL database, or Django does not use psycopg 3 for it: "
                "the setting EVENTSTORE_DATABASE names the one that the events are in"
            )
        return cast("Connection[Any]", connection)

    @property
    def _home(self) -> object:
        return self.using, self.statements.schema

    def execute(self, request: Request[R]) -> R:
        connection, wrapper = self.connection, connections[self.using]
        if wrapper.needs_rollback:
            raise transaction_failed()
        try:
            with self._logged(wrapper, request):
                return execute_borrowed(connection, request, self.statements)
        except ConnectionLost:
            wrapper.close()  # The next attempt opens another one.
            raise

    @contextmanager
    def _logged(self, wrapper: BaseDatabaseWrapper, request: Request[Any]) -> Generator[None, None, None]:
        """Let ``connection.queries`` and ``assertNumQueries`` know, where Django keeps count."""
        if not wrapper.queries_logged:
            yield
            return
        started = time.monotonic()
        try:
            yield
        finally:
            statements = self.statements.in_transaction if wrapper.in_atomic_block else self.statements
            text = statements.of(request).text
            seconds = time.monotonic() - started
            wrapper.queries_log.append({"sql": text.decode(), "time": f"{seconds:.3f}"})


class DjangoEventStore(_DjangoClient, FollowableStore):
    """A store in one schema of a Django database. Make one with ``event_store()``.

    It is safe for threads: each uses the connection that Django gives it. Inside ``transaction.atomic()`` an append is
    part of the block, and is stored or rolled back with it. A refused append leaves the block usable. Outside of a
    block, each append is its own transaction.
    """

    def __init__(
        self,
        using: str,
        schema: str,
        *,
        strict: bool = False,
        notify: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: SubjectKeys | None = None,
    ) -> None:
        super().__init__(using, schema, timeout=timeout)
        self.strict = strict
        self.subject_keys = checked_keys(subject_keys, SubjectKeys)
        self._announcements = Announcements(self._server, self.statements, notify=notify)

    @property
    def in_transaction(self) -> bool:  # type: ignore[override] # it depends on where it is used
        """Whether this thread is inside of ``transaction.atomic()``."""
        return connections[self.using].in_atomic_block

    @property
    def sees_commit(self) -> bool:  # type: ignore[override] # it depends on where it is used
        """Whether Django knows when the commit is, and so calls back."""
        wrapper = connections[self.using]
        return wrapper.in_atomic_block or wrapper.get_autocommit()

    def destroy_after_commit(self, forgotten: Forgotten) -> None:
        keys = self.subject_keys
        if keys is not None:
            self.when_committed(lambda: run(destroy(keys, [forgotten])))

    @property
    def wakeups(self) -> WakeUps:
        return self._announcements.wakeups

    def announce(self) -> None:
        self._announcements.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self._announcements.listening()

    def _server(self) -> Server:
        return Server(conf.conninfo(self.using), {})

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:  # noqa: ARG002 the base's
        self.when_committed(self.announce)

    def when_committed(self, callback: Callable[[], object]) -> None:
        if self.sees_commit:
            on_commit(callback, using=self.using)

    @contextmanager
    def transaction(self) -> Generator[DjangoTransaction, None, None]:
        """Return ``transaction.atomic()`` with the library's errors. Appends and the ORM's writes in it are one.

        Raises:
            InvalidOperation: at the end, if a statement had failed and nobody rolled it back.
            AppendOutcomeUnknown: the answer to the commit was lost.
        """
        store = DjangoTransaction(self)
        block = atomic(using=self.using)
        _ = self.connection  # Says why there is none.
        block.__enter__()
        try:
            yield store
            store._check()
        except BaseException as error:
            with suppress(django.db.Error):  # A connection that is gone has rolled back.
                block.__exit__(type(error), error, error.__traceback__)
            raise
        try:
            block.__exit__(None, None, None)
        except django.db.Error as error:
            raise store._commit_failed(error) from error

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise InvalidArgument(
            "this store joins Django's transactions by itself; on another connection use PostgresEventStore"
        )


class DjangoTransaction(BatchStore):
    """The store in a block of its ``transaction()``. Appends through the store itself take part in it as well."""

    in_transaction = True

    def __init__(self, store: DjangoEventStore) -> None:
        self._store = store
        self.strict = store.strict
        self.timeout = store.timeout
        self.subject_keys = store.subject_keys
        self._last: tuple[str, tuple[UUID, ...]] | None = None

    @property
    def connection(self) -> Connection[Any]:
        """The psycopg connection, for your own statements. The ORM uses it too."""
        return self._store.connection

    def execute(self, request: Request[R]) -> R:
        wrapper = connections[self._store.using]
        if wrapper.needs_rollback:
            raise transaction_failed()
        if not wrapper.in_atomic_block:
            raise transaction_ended()
        try:
            with self._store._logged(wrapper, request):
                return execute(self.connection, request, self._store.statements.in_transaction)
        except ConnectionLost as lost:
            raise transactions.rolled_back(lost) from lost

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:
        for stream_id, _, events in appends:
            self._last = stream_id, tuple(event.event_id for event in events)
        self._store.when_committed(self._store.announce)

    def destroy_after_commit(self, forgotten: Forgotten) -> None:
        self._store.destroy_after_commit(forgotten)

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    @property
    def _home(self) -> object:
        return self._store._home

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._store.when_committed(callback)

    def transaction(self) -> AbstractContextManager[DjangoTransaction]:
        return self._store.transaction()

    def bind(self, connection: Any) -> EventStore:
        return self._store.bind(connection)

    def _check(self) -> None:
        """Raise InvalidOperation if the block can only be rolled back: Django would do that, and say nothing."""
        wrapper = connections[self._store.using]
        if wrapper.needs_rollback or self.connection.info.transaction_status == TransactionStatus.INERROR:
            raise nothing_stored()

    def _commit_failed(self, error: django.db.Error) -> AppendOutcomeUnknown | StoreUnavailable:
        if self._last is not None and isinstance(error, (django.db.OperationalError, django.db.InterfaceError)):
            return AppendOutcomeUnknown(*self._last)
        return StoreUnavailable(f"the commit failed: {error}")


class DjangoSnapshotStore(_DjangoClient, RequestSnapshotStore):
    """Snapshots in a Django database. Like the events, they are part of ``transaction.atomic()``."""


def event_store(using: str | None = None, *, schema: str | None = None) -> DjangoEventStore:
    """Return the project's store: database EVENTSTORE_DATABASE or the alias ``using``.

    Its schema is ``schema``, or what EVENTSTORE_SCHEMA_RESOLVER returns, or EVENTSTORE_SCHEMA.
    """
    alias: str = using or conf.setting("DATABASE")
    # A connection that only notifies would keep a test database from being dropped.
    notify = conf.setting("NOTIFY") and not conf.is_test_database(alias)
    keys = conf.subject_keys()
    return _event_store(
        alias, schema or conf.schema(), notify=notify, timeout=conf.setting("TIMEOUT"), subject_keys=keys
    )


def snapshot_store(using: str | None = None, *, schema: str | None = None) -> DjangoSnapshotStore:
    """Return the project's snapshot store, beside the events of ``event_store`` with the same arguments."""
    alias: str = using or conf.setting("DATABASE")
    return DjangoSnapshotStore(alias, schema or conf.schema(), timeout=conf.setting("TIMEOUT"))


def repository(aggregate_type: type[A], using: str | None = None) -> Repository[A]:
    """Return a repository on the project's store, with a snapshot every EVENTSTORE_SNAPSHOT_FREQUENCY versions."""
    frequency = conf.setting("SNAPSHOT_FREQUENCY")
    if frequency is None:
        return Repository(event_store(using), aggregate_type)
    return Repository(event_store(using), aggregate_type, snapshot_store(using), frequency)


@cache
def _event_store(
    using: str, schema: str, *, notify: bool, timeout: float | None, subject_keys: SubjectKeys | None
) -> DjangoEventStore:
    return DjangoEventStore(using, schema, notify=notify, timeout=timeout, subject_keys=subject_keys)
