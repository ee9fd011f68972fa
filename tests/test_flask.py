"""A store in Flask: one lazy pool for each app and process, and part of SQLAlchemy's transactions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from unittest import mock
from uuid import uuid4

import flask
import psycopg
import pytest
import sqlalchemy
from flask_sqlalchemy import SQLAlchemy
from http_servers import environment, gunicorn
from sqlalchemy.orm import Mapped, Session, mapped_column

from eventstore import (
    Aggregate,
    ConcurrencyError,
    Event,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Projection,
    SchemaError,
    StoreUnavailable,
    handles,
)
from eventstore.contrib.flask import FlaskEventStore
from eventstore.contrib.sqlalchemy import SessionEventStore
from eventstore.privacy import InMemorySubjectKeys, Personal, PostgresSubjectKeys, Subject

_numbers = count()


class LetterSent(Event):
    to: str


class Letter(Aggregate["Letter"]):
    to: str = ""

    def send(self, to: str) -> None:
        self._record(LetterSent(to=to))

    @handles(LetterSent)
    def _sent(self, event: LetterSent) -> None:
        self.to = event.to


def a_stream() -> str:
    return f"s-{uuid4()}"


def an_event() -> Event:
    return Event(event_type="Happened")


def an_app(events: FlaskEventStore, dsn: str, schema: str, **config: Any) -> flask.Flask:
    app = flask.Flask(f"app{next(_numbers)}")
    app.config.update(EVENTSTORE_DSN=dsn, EVENTSTORE_SCHEMA=schema, **config)
    events.init_app(app)
    return app


@pytest.fixture
def events() -> Iterator[FlaskEventStore]:
    events = FlaskEventStore()
    yield events
    for app in events._apps:
        stores = vars(app.extensions["eventstore"]).get("_stores")
        if stores is not None and isinstance(stores.events, PostgresEventStore):
            stores.events.close()


@pytest.fixture
def app(events: FlaskEventStore, dsn: str, schema: str) -> flask.Flask:
    return an_app(events, dsn, schema)


class TestTheExtension:
    def test_views_use_the_store_of_the_extension(self, app: flask.Flask, events: FlaskEventStore) -> None:
        @app.post("/letters/<to>")
        def send(to: str) -> dict[str, str]:
            letter = Letter(uuid4())
            letter.send(to)
            events.repository(Letter).save(letter)
            return {"id": str(letter.id)}

        @app.get("/letters/<uuid:letter_id>")
        def show(letter_id: Any) -> dict[str, str]:
            return {"to": events.repository(Letter).load(letter_id).to}

        client = app.test_client()
        sent = client.post("/letters/Ada").get_json()
        assert client.get(f"/letters/{sent['id']}").get_json() == {"to": "Ada"}

    def test_flask_event_store_is_an_event_store(self, app: flask.Flask, events: FlaskEventStore) -> None:
        with app.app_context():
            stream = a_stream()
            assert events.append(stream, [an_event()], 0) == 1
            with events.transaction() as both:
                both.append(stream, [an_event()], 1)
            assert [event.version for event in events.read(stream)] == [1, 2]
            assert len(list(events.read_all())) == 2

    def test_each_app_has_its_own(self, app: flask.Flask, events: FlaskEventStore, dsn: str) -> None:
        other = an_app(events, dsn, "elsewhere")
        with app.app_context():
            mine = events.store
        with other.app_context():
            assert events.store is not mine
            assert events.store.statements.schema == "elsewhere"
        with pytest.raises(InvalidOperation, match="which app's"):
            _ = events.store
        with flask.Flask("bare").app_context(), pytest.raises(InvalidOperation, match="'bare' has no event store"):
            _ = events.store

    def test_nothing_is_connected_before_it_is_used_and_once_it_is_it_stays(
        self, app: flask.Flask, events: FlaskEventStore
    ) -> None:
        own = events.store.connections
        assert own._pool is None
        pools = []
        for _ in range(3):
            with app.app_context():
                events.append(a_stream(), [an_event()], 0)
                pools.append(own.pool())
        assert pools[0] is pools[1] is pools[2]
        assert not pools[0].closed

    def test_snapshots_share_the_pool_of_the_extension(self, events: FlaskEventStore, dsn: str, schema: str) -> None:
        app = an_app(events, dsn, schema, EVENTSTORE_SNAPSHOT_FREQUENCY=3)
        with app.app_context():
            letter = Letter(uuid4())
            for number in range(3):
                letter.send(str(number))
            events.repository(Letter).save(letter)
            snapshots = app.extensions["eventstore"].stores.snapshots
            assert snapshots.load("Letter", str(letter.id), Letter.class_schema()).version == 3
            assert snapshots.connections is events.store.connections

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("EVENTSTORE_DSN", "postgres//bob:s3cret@h/db", "^the DSN is malformed: write postgresql://user@host/"),
            ("EVENTSTORE_DSN", 7, "the DSN must be a str, not int"),
            ("EVENTSTORE_SCHEMA", "pg_x", "pg_x"),
            ("EVENTSTORE_POOL_SIZE", 0, "EVENTSTORE_POOL_SIZE is 0"),
            ("EVENTSTORE_TIMEOUT", "60", "EVENTSTORE_TIMEOUT must be a number"),
            ("EVENTSTORE_SNAPSHOT_FREQUENCY", "9", "EVENTSTORE_SNAPSHOT_FREQUENCY is '9'"),
        ],
    )
    def test_a_wrong_setting_is_named(self, dsn: str, name: str, value: object, said: str) -> None:
        app = flask.Flask("wrong")
        app.config.update({"EVENTSTORE_DSN": dsn, name: value})
        with pytest.raises(InvalidArgument, match=said):
            FlaskEventStore(app)

    def test_the_environment_says_where_if_the_app_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVENTSTORE_DSN", "postgresql://somewhere/else")
        app = flask.Flask("environment")
        FlaskEventStore(app)
        assert app.config["EVENTSTORE_DSN"] == "postgresql://somewhere/else"

    @pytest.mark.parametrize("dsn", [None, ""])
    def test_without_a_dsn_an_app_is_made_and_the_first_use_says_what_to_set(
        self, dsn: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("EVENTSTORE_DSN", raising=False)
        app = flask.Flask("without")
        app.config["EVENTSTORE_DSN"] = dsn
        events = FlaskEventStore(app)
        projection = Projection(events, "letters", print)
        for use in (lambda: events.read("s"), lambda: events.repository(Letter), projection.run_until_caught_up):
            with pytest.raises(InvalidOperation, match=r"set EVENTSTORE_DSN, .* or in tests to 'memory:'"):
                use()
        done = app.test_cli_runner().invoke(args=["eventstore", "status"])
        assert done.exit_code == 1
        assert "set EVENTSTORE_DSN" in done.stderr
        assert "--json" in app.test_cli_runner().invoke(args=["eventstore", "status", "--help"]).output
        app.config["EVENTSTORE_DSN"] = "memory:"  # what is set before the first use counts
        assert events.read("s") == []

    def test_a_missing_schema_is_reported_with_flasks_command(self, events: FlaskEventStore, dsn: str) -> None:
        an_app(events, dsn, "flask_has_none")
        with pytest.raises(SchemaError, match=r"run `flask eventstore migrate`$"):
            events.read("s")
        with pytest.raises(SchemaError, match=r"run `flask eventstore migrate`$"):
            events.repository(Letter).load(uuid4())

    def test_workers_run_in_the_apps_context(self, app: flask.Flask, events: FlaskEventStore) -> None:
        names: list[str] = []
        letters = Projection(events, "letters", lambda *_: names.append(flask.current_app.name))
        events.append(a_stream(), [an_event()], 0)
        letters.run_until_caught_up()
        assert names == [app.name]


class TestInMemory:
    @pytest.fixture
    def app(self, events: FlaskEventStore) -> flask.Flask:
        return an_app(events, "memory:", "eventstore", EVENTSTORE_SNAPSHOT_FREQUENCY=2)

    def test_views_and_repositories_use_the_store_in_memory(self, app: flask.Flask, events: FlaskEventStore) -> None:
        @app.post("/letters/<to>")
        def send(to: str) -> dict[str, str]:
            letter = Letter(uuid4())
            letter.send("nobody")
            letter.send(to)
            events.repository(Letter).save(letter)
            return {"id": str(letter.id)}

        sent = app.test_client().post("/letters/Ada").get_json()
        assert events.repository(Letter).load(sent["id"]).to == "Ada"
        assert (
            app.extensions["eventstore"].stores.snapshots.load("Letter", sent["id"], Letter.class_schema()).version == 2
        )

    def test_transactions_and_projections_work_in_memory(self, app: flask.Flask, events: FlaskEventStore) -> None:
        with pytest.raises(ZeroDivisionError), events.transaction() as transaction:
            transaction.append("s", [an_event()], 0)
            _ = 1 / 0
        assert events.read("s") == []
        events.append("s", [an_event()], 0)
        seen: list[str] = []
        Projection(events, "seen", lambda *_: seen.append(flask.current_app.name)).run_until_caught_up()
        assert seen == [app.name]

    def test_each_app_has_its_own_memory_and_init_app_empties_it(
        self, app: flask.Flask, events: FlaskEventStore
    ) -> None:
        events.append("s", [an_event()], 0)
        events.init_app(app)
        assert events.read("s") == []
        other = an_app(events, "memory:", "eventstore")
        with other.app_context():
            events.append("s", [an_event()], 0)
        with app.app_context():
            assert events.read("s") == []

    def test_what_needs_a_database_is_refused_in_memory(self, app: flask.Flask, events: FlaskEventStore) -> None:
        engine = sqlalchemy.create_engine("postgresql+psycopg://nobody@/x?host=/nowhere")
        for use in (events.bind, lambda session: events.repository(Letter, session)):
            with Session(engine) as session, pytest.raises(InvalidOperation, match="test that on PostgreSQL"):
                use(session)
        done = app.test_cli_runner().invoke(args=["eventstore", "read", "s"])
        assert done.exit_code == 1
        assert "only the app's own process has that store" in done.stderr


class TestCommands:
    def test_what_the_command_line_does_on_the_apps_database(
        self, app: flask.Flask, events: FlaskEventStore, schema: str
    ) -> None:
        runner = app.test_cli_runner()
        assert f"schema {schema!r} is up to date" in runner.invoke(args=["eventstore", "migrate"]).output
        stream = a_stream()
        events.append(stream, [an_event()], 0)
        assert "Happened" in runner.invoke(args=["eventstore", "read", stream]).output
        assert '"version": 1' in runner.invoke(args=["eventstore", "read", stream, "--json"]).output
        assert "NAME" in runner.invoke(args=["eventstore", "status"]).output
        missing = runner.invoke(args=["eventstore", "read", "no-such"])
        assert missing.exit_code == 1

    def test_subscriptions_are_named_by_their_modules(
        self, app: flask.Flask, events: FlaskEventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = ModuleType("letters_shop")
        shop.letters = Projection(events, "letters", print)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "letters_shop", shop)
        done = app.test_cli_runner().invoke(args=["eventstore", "retry", "letters_shop:letters"])
        assert (done.exit_code, done.output) == (0, "")


class Base(sqlalchemy.orm.DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "flask_notes"
    text: Mapped[str] = mapped_column(primary_key=True)


class Joined:
    """A session, and the store in its transaction."""

    def __init__(self, session: Any, store: SessionEventStore) -> None:
        self.session = session
        self.store = store

    def note(self) -> str:
        text = f"note {next(_numbers)}"
        self.session.add(Note(text=text))
        return text


@pytest.fixture(scope="module")
def notes(dsn: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture(params=["flask-sqlalchemy", "plain"])
def joined(
    request: pytest.FixtureRequest, app: flask.Flask, events: FlaskEventStore, notes: sqlalchemy.Engine
) -> Iterator[Joined]:
    """``events.bind(session)``, one call, on either kind of session."""
    if request.param == "plain":
        with Session(notes) as session:
            yield Joined(session, SessionEventStore(events.store, session))
        return
    app.config["SQLALCHEMY_DATABASE_URI"] = notes.url
    db = SQLAlchemy(app)
    with app.app_context():
        bound = events.bind(db.session)
        assert isinstance(bound, SessionEventStore)
        yield Joined(db.session, bound)
        db.session.remove()
        db.engine.dispose()


class TestJoiningASession:
    def test_the_commit_of_a_session_stores_what_was_appended(self, joined: Joined, events: FlaskEventStore) -> None:
        stream = a_stream()
        assert joined.store.append(stream, [an_event()], 0) == 1
        note = joined.note()
        assert joined.store.append(stream, [an_event()], 1) == 2
        assert [event.version for event in joined.store.read(stream)] == [1, 2]
        assert events.store.read(stream) == []
        joined.session.commit()
        assert len(events.store.read(stream)) == 2
        assert joined.session.get(Note, note) is not None

    def test_the_rollback_of_a_session_takes_appends_back_even_as_its_first_statement(
        self, joined: Joined, events: FlaskEventStore
    ) -> None:
        stream = a_stream()
        joined.store.append(stream, [an_event()], 0)
        joined.session.rollback()
        assert events.store.read(stream) == []

    def test_a_commit_of_the_session_stores_what_only_the_store_wrote(
        self, joined: Joined, events: FlaskEventStore
    ) -> None:
        stream = a_stream()
        joined.store.append(stream, [an_event()], 0)
        joined.session.commit()
        joined.store.append(stream, [an_event()], 1)
        joined.session.commit()
        assert len(events.store.read(stream)) == 2

    def test_a_conflict_leaves_the_session_usable(self, joined: Joined, events: FlaskEventStore) -> None:
        stream = a_stream()
        events.store.append(stream, [an_event()], 0)
        note = joined.note()
        with pytest.raises(ConcurrencyError):
            joined.store.append(stream, [an_event()], 0)
        assert joined.store.append(stream, [an_event()], 1) == 2
        joined.session.commit()
        assert joined.session.get(Note, note) is not None

    def test_a_swallowed_error_does_not_take_the_rest_of_the_session_with_it(
        self, joined: Joined, events: FlaskEventStore, connection: psycopg.Connection, schema: str
    ) -> None:
        """A commit would "succeed", and the data be gone."""
        stream = a_stream()
        connection.execute(
            f'SELECT pg_advisory_xact_lock(hashtextextended(%s, tableoid::bigint)) FROM "{schema}".event_positions',
            [stream],
        )
        note, kept = joined.note(), a_stream()
        joined.store.connection.execute("SET LOCAL lock_timeout = '20ms'")
        with suppress(StoreUnavailable):
            joined.store.append(stream, [an_event()], 0)
        joined.store.append(kept, [an_event()], 0)
        joined.session.commit()
        assert joined.session.get(Note, note) is not None
        assert (len(events.store.read(kept)), events.store.read(stream)) == (1, [])

    def test_a_savepoint_of_the_session_takes_its_events_with_it(self, joined: Joined, events: FlaskEventStore) -> None:
        stream = a_stream()
        joined.store.append(stream, [an_event()], 0)
        with suppress(ZeroDivisionError), joined.session.begin_nested():
            joined.store.append(stream, [an_event()], 1)
            raise ZeroDivisionError
        with suppress(ZeroDivisionError), joined.store.transaction() as inner:
            inner.append(stream, [an_event()], 1)
            raise ZeroDivisionError
        with joined.store.transaction() as inner:
            inner.append(stream, [an_event()], 1)
        joined.session.commit()
        assert len(events.store.read(stream)) == 2

    def test_a_session_that_has_failed_is_said_to_have(self, joined: Joined) -> None:
        note = joined.note()
        joined.session.commit()
        joined.session.add_all([Note(text="new"), Note(text=note)])
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            joined.session.flush()
        with pytest.raises(InvalidOperation, match="failed earlier"):
            joined.store.append(a_stream(), [an_event()], 0)
        joined.session.rollback()
        assert joined.store.append(a_stream(), [an_event()], 0) == 1

    def test_a_raw_failure_of_the_callers_is_said_as_well(self, joined: Joined) -> None:
        with suppress(psycopg.Error):
            joined.store.connection.execute("SELECT 1 / 0")
        with pytest.raises(InvalidOperation, match="failed earlier"):
            joined.store.append(a_stream(), [an_event()], 0)
        joined.session.rollback()

    def test_a_lost_connection_is_replaced_after_the_rollback(
        self, joined: Joined, connection: psycopg.Connection
    ) -> None:
        stream = a_stream()
        joined.store.append(stream, [an_event()], 0)
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [joined.store.connection.info.backend_pid])
        with pytest.raises(StoreUnavailable, match="rolled back"):
            joined.store.append(stream, [an_event()], 1)
        joined.session.rollback()
        assert joined.store.append(stream, [an_event()], 0) == 1

    def test_subscriptions_are_woken_by_its_commit(self, joined: Joined, events: FlaskEventStore) -> None:
        woken = mock.Mock()
        with events.store.wakeups.calling(woken):
            joined.store.append(a_stream(), [an_event()], 0)
            joined.store.append(a_stream(), [an_event()], 0)
            woken.assert_not_called()
            joined.session.commit()
            woken.assert_called_once_with()

    def test_repositories_join_the_transaction_of_a_session(
        self, joined: Joined, events: FlaskEventStore, app: flask.Flask
    ) -> None:
        with app.app_context():
            letters = events.repository(Letter, joined.session)
            letter = Letter(uuid4())
            for number in range(100):  # As many as it takes for a snapshot.
                letter.send(str(number))
            letters.save(letter)
            assert letters.load(letter.id).to == "99"
            joined.session.rollback()
            assert not events.repository(Letter).exists(letter.id)
            snapshots = app.extensions["eventstore"].stores.snapshots
            assert snapshots.load("Letter", str(letter.id), Letter.class_schema()) is None

    def test_values_of_its_own_are_not_touched(self, joined: Joined) -> None:
        """SQLAlchemy has its own ideas of JSON on its connections."""
        stream = a_stream()
        event = Event(event_type="Happened", data={"id": uuid4(), "names": ("a", "b")})
        joined.store.append(stream, [event], 0)
        (read,) = joined.store.read(stream)
        assert (read.data, read.timestamp, read.event_id) == (event.data, event.timestamp, event.event_id)
        joined.session.rollback()


class TestOtherHosts:
    def test_bind_joins_a_core_connection(
        self, events: FlaskEventStore, app: flask.Flask, notes: sqlalchemy.Engine
    ) -> None:
        stream, woken = a_stream(), mock.Mock()
        assert app is events._app()
        with notes.connect() as connection, events.store.wakeups.calling(woken):
            store = events.bind(connection)
            store.append(stream, [an_event()], 0)
            connection.rollback()
            assert events.read(stream) == []
            store.append(stream, [an_event()], 0)
            woken.assert_not_called()
            connection.commit()
            woken.assert_called_once_with()
        assert len(events.read(stream)) == 1

    def test_an_append_on_a_connection_in_autocommit_is_stored_at_once(
        self, events: FlaskEventStore, app: flask.Flask, notes: sqlalchemy.Engine
    ) -> None:
        stream = a_stream()
        assert app is events._app()
        with notes.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            events.bind(connection).append(stream, [an_event()], 0)
            assert len(events.read(stream)) == 1

    def test_bind_joins_a_psycopg_connection(
        self, events: FlaskEventStore, app: flask.Flask, connection: psycopg.Connection
    ) -> None:
        stream = a_stream()
        assert app is events._app()
        events.bind(connection).append(stream, [an_event()], ExpectedVersion.ANY)
        connection.rollback()
        assert events.read(stream) == []

    def test_hosts_that_can_not_be_joined_are_refused(self, events: FlaskEventStore, app: flask.Flask) -> None:
        assert app is events._app()
        with pytest.raises(InvalidArgument, match="not str"):
            events.bind("db.session")  # type: ignore[arg-type]
        engine = sqlalchemy.create_engine("sqlite://")
        with Session(engine) as session, pytest.raises(InvalidArgument, match=r"postgresql\+psycopg://"):
            events.bind(session).read("s")
        engine.dispose()
        gone = sqlalchemy.create_engine("postgresql+psycopg://nobody@/x?host=/nowhere")
        with Session(gone) as session, pytest.raises(StoreUnavailable, match="no connection"):
            events.bind(session).read("s")


APP = """
import flask
from eventstore import ConcurrencyError, Event
from eventstore.contrib.flask import FlaskEventStore

app = flask.Flask(__name__)
app.config.from_prefixed_env()
events = FlaskEventStore(app)
events.read("before the fork")  # A pool that was opened in the parent.

@app.post("/<stream>")
def append(stream):
    version = len(events.read(stream))
    try:
        return {"version": events.append(stream, [Event(event_type="Happened")], version)}
    except ConcurrencyError as conflict:
        return {"actual": conflict.actual_version}, 409
"""


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_under_gunicorn_each_worker_has_a_pool_of_its_own(
    options: list[str], dsn: str, schema: str, tmp_path: Path, pool: Any
) -> None:
    (tmp_path / "letters_app.py").write_text(APP)
    variables = environment(FLASK_EVENTSTORE_SCHEMA=schema, FLASK_EVENTSTORE_DSN=dsn)
    with gunicorn("letters_app:app", tmp_path, variables, "--workers", "2", "--threads", "4", *options) as client:
        answers = client.post_many("/s-1", [None] * 40, threads=8)
    stored = PostgresEventStore(pool, schema).read("s-1")
    assert {answer.status for answer in answers} <= {200, 409}
    won = sorted(answer.body["version"] for answer in answers if answer.status == 200)
    assert won == list(range(1, len(stored) + 1))
    assert [event.version for event in stored] == won


class LetterAddressed(Event):
    who: Annotated[str, Subject]
    name: Annotated[str, Personal("(erased)")]


@pytest.mark.parametrize("where", ["memory", "postgres"])
def test_the_keys_of_personal_data_are_a_setting(events: FlaskEventStore, dsn: str, schema: str, where: str) -> None:
    keys = InMemorySubjectKeys()
    app = an_app(events, "memory:" if where == "memory" else dsn, schema, EVENTSTORE_SUBJECT_KEYS=keys)
    with app.app_context():
        assert events.subject_keys is keys
        events.append("Letter-1", [LetterAddressed(who="ann", name="Ann")], 0)
        assert events.read("Letter-1")[0].sealed == ()
        events.forget("ann")
        assert events.read("Letter-1")[0].sealed == ("name",)
    if where == "postgres":
        shown = app.test_cli_runner().invoke(args=["eventstore", "subjects", "show", "ann"])
        assert "forgotten" in shown.output
        assert "  stream Letter-1" in shown.output
    with pytest.raises(InvalidArgument, match="EVENTSTORE_SUBJECT_KEYS"):
        an_app(events, dsn, schema, EVENTSTORE_SUBJECT_KEYS=object())


def test_a_session_forgets_with_its_commit_where_the_keys_are_in_its_database(
    events: FlaskEventStore, dsn: str, schema: str, keys_schema: str
) -> None:
    elsewhere = InMemorySubjectKeys()
    with PostgresSubjectKeys.connect(dsn, wrap=bytes(32), schema=keys_schema) as keys:
        app = an_app(events, dsn, schema, EVENTSTORE_SUBJECT_KEYS=keys)
        engine = sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
        with app.app_context(), Session(engine) as session:
            events.append("Letter-1", [LetterAddressed(who="ann", name="Ann")], 0)
            events.bind(session).forget("ann")
            session.rollback()
            assert events.read("Letter-1")[0].sealed == ()
            events.bind(session).forget("ann")
            session.commit()
            keys.cache.drop("ann")
            assert events.read("Letter-1")[0].sealed == ("name",)
        engine.dispose()
    other = an_app(events, dsn, schema, EVENTSTORE_SUBJECT_KEYS=elsewhere)
    with (
        other.app_context(),
        psycopg.connect(dsn) as connection,
        pytest.raises(InvalidOperation, match="does not see its commit"),
    ):
        events.bind(connection).forget("bob")


def test_a_session_has_one_listener_however_many_stores_it_serves(dsn: str, pool: Any, schema: str) -> None:
    announced: list[None] = []
    store = PostgresEventStore(pool, schema)
    wake, engine = store.announce, sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    store.announce = lambda: (announced.append(None), wake())[1]  # type: ignore[method-assign] counted
    with Session(engine) as session:
        for number in range(5):
            SessionEventStore(store, session).append(f"s{number}", [Event(event_type="T")], 0)
            SessionEventStore(store, session).append(f"s{number}", [Event(event_type="T")], 1)
            session.commit()
        session.commit()
    engine.dispose()
    assert len(announced) == 5
