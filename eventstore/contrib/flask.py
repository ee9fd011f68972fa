"""Event sourcing in Flask: ``events = FlaskEventStore(app)``. docs/flask.md says how."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click
import flask
import psycopg
from flask.cli import with_appcontext

from eventstore.aggregate import Aggregate
from eventstore.contrib import commands
from eventstore.core.arguments import check_instance
from eventstore.core.blocking import FollowableStore
from eventstore.core.deadlines import DEFAULT_TIMEOUT, checked_timeout
from eventstore.core.requests import Request
from eventstore.core.subject_keys import SubjectKeys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.event import Event
from eventstore.memory import InMemoryEventStore, InMemorySnapshotStore
from eventstore.observing import Observer
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.statements import check_schema
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore, PostgresTransaction
from eventstore.repository import Repository
from eventstore.store import Appends, EventStore, SnapshotStore
from eventstore.versions import StreamVersion

if TYPE_CHECKING:
    from eventstore.contrib.sqlalchemy import Host

A = TypeVar("A", bound=Aggregate[Any])
R = TypeVar("R")

MEMORY = "memory:"
"""The EVENTSTORE_DSN of a store that lives in the process: empty for each app, for tests."""
_EXTENSION = "eventstore"


class _OfApp:
    """What one app has: nothing is connected before the first use, and each process connects for itself."""

    def __init__(self, app: flask.Flask) -> None:
        config = self._config = cast("dict[str, Any]", app.config)
        config.setdefault("EVENTSTORE_DSN", os.environ.get("EVENTSTORE_DSN"))
        config.setdefault("EVENTSTORE_SCHEMA", "eventstore")
        config.setdefault("EVENTSTORE_POOL_SIZE", 10)
        config.setdefault("EVENTSTORE_SNAPSHOT_FREQUENCY", 100)
        config.setdefault("EVENTSTORE_NOTIFY", False)
        config.setdefault("EVENTSTORE_TIMEOUT", DEFAULT_TIMEOUT)
        if config["EVENTSTORE_SNAPSHOT_FREQUENCY"] is not None:
            _check_positive(config, "EVENTSTORE_SNAPSHOT_FREQUENCY")
        _check_positive(config, "EVENTSTORE_POOL_SIZE")
        self.timeout = checked_timeout(config["EVENTSTORE_TIMEOUT"], "EVENTSTORE_TIMEOUT")
        self.subject_keys: SubjectKeys | None = config.setdefault("EVENTSTORE_SUBJECT_KEYS", None)
        if self.subject_keys is not None:
            check_instance("EVENTSTORE_SUBJECT_KEYS", self.subject_keys, SubjectKeys)
        self.schema: str = check_schema(config["EVENTSTORE_SCHEMA"])
        self.frequency: int | None = config["EVENTSTORE_SNAPSHOT_FREQUENCY"]
        if config["EVENTSTORE_DSN"] not in {None, "", MEMORY}:
            checked_dsn(config["EVENTSTORE_DSN"])

    @property
    def dsn(self) -> str:
        """Raises InvalidOperation where there is none, or none that leads to a database."""
        dsn: str | None = self._config["EVENTSTORE_DSN"]
        if not dsn:
            raise InvalidOperation(
                "this app has no database for its events: set EVENTSTORE_DSN, in its configuration or in the "
                f"environment, to postgresql://user@host/database, or in tests to {MEMORY!r}"
            )
        if dsn == MEMORY:
            raise InvalidOperation(f"EVENTSTORE_DSN is {MEMORY!r}: only the app's own process has that store")
        return checked_dsn(dsn)

    @property
    def stores(self) -> _Stores:
        """Made when they are first asked for: an app can be imported and configured without a database."""
        found: _Stores | None = vars(self).get("_stores")
        return found if found is not None else vars(self).setdefault("_stores", self._made())

    def _made(self) -> _Stores:
        if self._config["EVENTSTORE_DSN"] == MEMORY:
            memory = InMemoryEventStore(timeout=self.timeout, subject_keys=self.subject_keys)
            return _Stores(memory, InMemorySnapshotStore())
        notify, size = bool(self._config["EVENTSTORE_NOTIFY"]), self._config["EVENTSTORE_POOL_SIZE"]
        store = PostgresEventStore.connect(
            self.dsn,
            self.schema,
            notify=notify,
            max_size=size,
            timeout=self.timeout,
            subject_keys=self.subject_keys,
        )
        snapshots = PostgresSnapshotStore(store.connections, self.schema, timeout=self.timeout)  # An app has one pool.
        store.statements.migrate_with = snapshots.statements.migrate_with = "flask eventstore migrate"
        return _Stores(store, snapshots)


class _Stores(NamedTuple):
    events: PostgresEventStore | InMemoryEventStore
    snapshots: SnapshotStore


def _check_positive(config: dict[str, Any], name: str) -> None:
    if type(config[name]) is not int or config[name] < 1:
        raise InvalidArgument(f"{name} is {config[name]!r}: it must be an int of at least 1")


class FlaskEventStore(FollowableStore):
    """The event store of the current app. Create it at the top of a module, and use it in views and workers.

    The settings in ``app.config`` are EVENTSTORE_DSN (by default the environment's; "memory:" for tests),
    EVENTSTORE_SCHEMA ("eventstore"), EVENTSTORE_POOL_SIZE (10 connections for each process),
    EVENTSTORE_SNAPSHOT_FREQUENCY (100 versions; None: no snapshots), EVENTSTORE_NOTIFY (False: workers in other
    processes poll), EVENTSTORE_TIMEOUT (60 seconds for a call; None: no bound) and EVENTSTORE_SUBJECT_KEYS (a
    SubjectKeys for personal data; None: there are no keys).
    """

    strict = False

    def __init__(self, app: flask.Flask | None = None) -> None:
        self._apps: list[flask.Flask] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Make this the store of an app. Call it again to read the settings again, or to empty a store in memory.

        Raises:
            InvalidArgument: a setting is invalid. The message names it.
        """
        app.extensions[_EXTENSION] = _OfApp(app)
        app.cli.add_command(_command)
        if app not in self._apps:
            self._apps.append(app)

    @property
    def store(self) -> PostgresEventStore | InMemoryEventStore:
        """The store of the current app. Outside of any app's context it is that of the only app.

        Raises InvalidOperation if EVENTSTORE_DSN is not set, or if there are several apps and no context.
        """
        return _of(self._app()).stores.events

    def repository(self, aggregate_type: type[A], session: Host | None = None) -> Repository[A]:
        """Return a repository on the current app's store; with ``session``, in the transaction of that session."""
        of_app = _of(self._app())
        store: EventStore = self.store if session is None else self.bind(session)
        if of_app.frequency is None:
            return Repository(store, aggregate_type)
        snapshots = of_app.stores.snapshots
        if session is not None:
            from eventstore.contrib.sqlalchemy import SessionSnapshotStore  # noqa: PLC0415 only who uses it has it

            snapshots = SessionSnapshotStore(session, self._on_postgresql().statements)
        return Repository(store, aggregate_type, snapshots, of_app.frequency)

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        return self.store.append(stream_id, events, expected_version)

    def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        return self.store.append_many(appends)

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        """See EventStore.transaction. In a worker's thread, the block runs in the app's context.

        The transaction of a store in memory has no ``connection``.
        """
        app = self._app()
        context: AbstractContextManager[object] = nullcontext() if flask.has_app_context() else app.app_context()
        with context, _of(app).stores.events.transaction() as transaction:
            yield cast("PostgresTransaction", transaction)

    def bind(self, connection: Host | psycopg.Connection[Any]) -> EventStore:
        """Return the same store in the transaction of ``db.session``, or of another session or connection.

        ``connection`` is a Session, scoped_session or Connection of SQLAlchemy, or a psycopg connection. You commit it
        or roll it back.
        """
        store = self._on_postgresql()
        if isinstance(connection, psycopg.Connection):
            return store.bind(connection)
        from eventstore.contrib.sqlalchemy import SessionEventStore  # noqa: PLC0415 only who uses it has it

        return SessionEventStore(store, connection)

    def _on_postgresql(self) -> PostgresEventStore:
        store = self.store
        if not isinstance(store, PostgresEventStore):
            raise InvalidOperation(
                "a store in memory can't join the transaction of a session or connection: test that on PostgreSQL"
            )
        return store

    @property
    def timeout(self) -> float | None:  # type: ignore[override] # it is the current app's
        """Seconds that a call may take in all; None: as long as it takes."""
        return self.store.timeout

    @property
    def subject_keys(self) -> SubjectKeys | None:  # type: ignore[override] # they are the current app's
        """The keys of personal data."""
        return _of(self._app()).subject_keys

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self.store.categories

    @property
    def _home(self) -> object:
        return self.store._home

    @property
    def wakeups(self) -> WakeUps:
        return self.store.wakeups

    def announce(self) -> None:
        self.store.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self.store.listening()

    def execute(self, request: Request[R]) -> R:
        return self.store.execute(request)

    @property
    def observer(self) -> Observer | None:
        return self.store.observer

    def observe(self, observer: Observer | None) -> None:
        """Let somebody watch the current app's store."""
        self.store.observe(observer)

    def execute_apart(self, request: Request[R]) -> R:
        return self.store.execute_apart(request)

    def _app(self) -> flask.Flask:
        if flask.has_app_context():
            return flask.current_app
        if len(self._apps) == 1:
            return self._apps[0]
        raise InvalidOperation("which app's store? Use it in a view, or in a block `with app.app_context():`")


def _of(app: flask.Flask) -> _OfApp:
    of_app = app.extensions.get(_EXTENSION)
    if of_app is None:
        raise InvalidOperation(f"the app {app.name!r} has no event store: call init_app(app) first")
    found: _OfApp = of_app
    return found


@click.command(
    "eventstore",
    short_help="What `eventstore` does, on this app's database.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
@with_appcontext
def _command(context: click.Context, arguments: tuple[str, ...]) -> None:
    of_app = _of(flask.current_app)
    context.exit(commands.run(arguments, lambda: of_app.dsn, of_app.schema, {}, lambda: of_app.subject_keys))
