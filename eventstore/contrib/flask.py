"""Event sourcing in Flask: ``events = FlaskEventStore(app)``. docs/flask.md tells how."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import flask
import psycopg
from flask.cli import with_appcontext

from eventstore.aggregate import Aggregate
from eventstore.contrib import commands
from eventstore.core.blocking import FollowableStore
from eventstore.core.requests import Request
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument, InvalidOperation
from eventstore.event import Event
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore, PostgresTransaction
from eventstore.repository import Repository
from eventstore.store import EventStore

if TYPE_CHECKING:
    from eventstore.contrib.sqlalchemy import Host

A = TypeVar("A", bound=Aggregate[Any])
R = TypeVar("R")

_EXTENSION = "eventstore"


class _OfApp:
    """What one app has: nothing is connected before the first use, and each process connects for itself."""

    def __init__(self, app: flask.Flask) -> None:
        config = cast("dict[str, Any]", app.config)
        config.setdefault("EVENTSTORE_DSN", os.environ.get("EVENTSTORE_DSN"))
        config.setdefault("EVENTSTORE_SCHEMA", "eventstore")
        config.setdefault("EVENTSTORE_POOL_SIZE", 10)
        config.setdefault("EVENTSTORE_SNAPSHOT_FREQUENCY", 100)
        config.setdefault("EVENTSTORE_NOTIFY", False)
        if not isinstance(config["EVENTSTORE_DSN"], str) or not config["EVENTSTORE_DSN"]:
            raise InvalidArgument(
                f"EVENTSTORE_DSN is {config['EVENTSTORE_DSN']!r}: set it in the app's configuration, or the "
                "environment, to postgresql://user@host/database"
            )
        if config["EVENTSTORE_SNAPSHOT_FREQUENCY"] is not None:
            _check_positive(config, "EVENTSTORE_SNAPSHOT_FREQUENCY")
        _check_positive(config, "EVENTSTORE_POOL_SIZE")
        self.dsn: str = config["EVENTSTORE_DSN"]
        self.schema: str = config["EVENTSTORE_SCHEMA"]
        self.frequency: int | None = config["EVENTSTORE_SNAPSHOT_FREQUENCY"]
        self.store = PostgresEventStore.connect(
            self.dsn, self.schema, notify=bool(config["EVENTSTORE_NOTIFY"]), max_size=config["EVENTSTORE_POOL_SIZE"]
        )
        self.snapshots = PostgresSnapshotStore(self.store.connections, self.schema)  # An app has one pool.


def _check_positive(config: dict[str, Any], name: str) -> None:
    if type(config[name]) is not int or config[name] < 1:
        raise InvalidArgument(f"{name} is {config[name]!r}: it must be an int of at least 1")


class FlaskEventStore(FollowableStore):
    """The event store of the current app, to be made at the top of a module and used in views and workers.

    ``app.config`` says where: EVENTSTORE_DSN (default: the environment's), EVENTSTORE_SCHEMA ("eventstore"),
    EVENTSTORE_POOL_SIZE (10 connections for each process), EVENTSTORE_SNAPSHOT_FREQUENCY (100 versions; None: no
    snapshots), EVENTSTORE_NOTIFY (False: workers in other processes look for themselves).
    """

    strict = False

    def __init__(self, app: flask.Flask | None = None) -> None:
        self._apps: list[flask.Flask] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Make it the store of an app. Raises InvalidArgument, which names the setting that is wrong."""
        app.extensions[_EXTENSION] = _OfApp(app)
        app.cli.add_command(_command)
        self._apps.append(app)

    @property
    def store(self) -> PostgresEventStore:
        """The store of the current app; outside of any app's context that of the only one that there is."""
        return _of(self._app()).store

    def repository(self, aggregate_type: type[A], session: Host | None = None) -> Repository[A]:
        """A repository of the current app's; with a SQLAlchemy session, in that one's transaction."""
        of_app = _of(self._app())
        store: EventStore = of_app.store if session is None else self.bind(session)
        if of_app.frequency is None:
            return Repository(store, aggregate_type)
        if session is None:
            return Repository(store, aggregate_type, of_app.snapshots, of_app.frequency)
        from eventstore.contrib.sqlalchemy import SessionSnapshotStore  # noqa: PLC0415 only who uses it has it

        snapshots = SessionSnapshotStore(session, of_app.store.statements)
        return Repository(store, aggregate_type, snapshots, of_app.frequency)

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        return self.store.append(stream_id, events, expected_version)

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        """As EventStore's. In a worker's thread, the block is in the app's context."""
        app = self._app()
        context: AbstractContextManager[object] = nullcontext() if flask.has_app_context() else app.app_context()
        with context, _of(app).store.transaction() as transaction:
            yield transaction

    def bind(self, connection: Host | psycopg.Connection[Any]) -> EventStore:
        """The same store inside the transaction of ``db.session``, or of another session or connection.

        It is SQLAlchemy's Session, scoped_session or Connection, or a psycopg connection. They commit and roll back.
        """
        if isinstance(connection, psycopg.Connection):
            return self.store.bind(connection)
        from eventstore.contrib.sqlalchemy import SessionEventStore  # noqa: PLC0415 only who uses it has it

        return SessionEventStore(self.store, connection)

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self.store.categories

    @property
    def wakeups(self) -> WakeUps:
        return self.store.wakeups

    def announce(self) -> None:
        self.store.announce()

    def listening(self) -> AbstractContextManager[object]:
        return self.store.listening()

    def execute(self, request: Request[R]) -> R:
        return self.store.execute(request)

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
    context.exit(commands.run(arguments, lambda: of_app.dsn, of_app.schema, {}))
