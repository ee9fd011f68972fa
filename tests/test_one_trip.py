"""How many requests a load, a save and a command take, wherever the connection comes from."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy
from baskets import Basket, Failing, WatchedSnapshots, fill, warnings_in
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy.orm import Session

from eventstore import (
    AsyncPostgresEventStore,
    AsyncPostgresSnapshotStore,
    AsyncRepository,
    EventStore,
    PostgresEventStore,
    PostgresSnapshotStore,
    Repository,
    SnapshotStore,
    StoreUnavailable,
)
from eventstore.contrib.sqlalchemy import SessionEventStore, SessionSnapshotStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


def of_one_pool(pool: ConnectionPool, _: str, schema: str) -> Iterator[tuple[EventStore, SnapshotStore]]:
    yield PostgresEventStore(pool, schema), PostgresSnapshotStore(pool, schema)


def connected(_: ConnectionPool, dsn: str, schema: str) -> Iterator[tuple[EventStore, SnapshotStore]]:
    with PostgresEventStore.connect(dsn, schema) as store, PostgresSnapshotStore.connect(dsn, schema) as snapshots:
        yield store, snapshots


def in_a_transaction(pool: ConnectionPool, _: str, schema: str) -> Iterator[tuple[EventStore, SnapshotStore]]:
    with PostgresEventStore(pool, schema).transaction() as store:
        yield store, PostgresSnapshotStore(pool, schema)


def bound(pool: ConnectionPool, dsn: str, schema: str) -> Iterator[tuple[EventStore, SnapshotStore]]:
    with psycopg.connect(dsn) as connection:
        yield PostgresEventStore(pool, schema).bind(connection), PostgresSnapshotStore(pool, schema)


@contextmanager
def closing_engine(engine: sqlalchemy.Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


def of_a_session(pool: ConnectionPool, dsn: str, schema: str) -> Iterator[tuple[EventStore, SnapshotStore]]:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    store = PostgresEventStore(pool, schema)
    with closing_engine(engine), Session(engine) as session:
        yield SessionEventStore(store, session), SessionSnapshotStore(session, store.statements)


@pytest.fixture(params=[of_one_pool, connected, in_a_transaction, bound, of_a_session])
def together(
    request: pytest.FixtureRequest, pool: ConnectionPool, dsn: str, schema: str
) -> Generator[Repository[Basket], None, None]:
    """A repository whose events and snapshots are in one schema, with an aggregate "1" at version 25."""
    fill(Repository(PostgresEventStore(pool, schema), Basket, PostgresSnapshotStore(pool, schema), 10), "1", 25)
    with closing(request.param(pool, dsn, schema)) as made:
        store, snapshots = next(made)
        yield Repository(store, Basket, snapshots, snapshot_frequency=10)


def test_a_load_with_its_snapshot_is_one_request(together: Repository[Basket], requests: list[str]) -> None:
    assert together.load("1").version == 25
    assert requests == ["ReadFromSnapshot"]


def test_a_load_without_a_snapshot_is_one_request(
    together: Repository[Basket], requests: list[str], pool: ConnectionPool, schema: str
) -> None:
    fill(Repository(PostgresEventStore(pool, schema), Basket), "few", 5)
    requests.clear()
    assert together.load("few").version == 5
    assert requests == ["ReadFromSnapshot"]


def test_a_load_looks_for_a_command_in_the_same_request(together: Repository[Basket], requests: list[str]) -> None:
    added: list[Basket] = []

    def add(basket: Basket) -> None:
        added.append(basket)
        basket.add(1)

    for _ in range(2):  # The first of them is at the version 26, above the snapshot.
        assert together.update("1", add, command_id="once").version == 26
    assert len(added) == 1
    assert requests == ["ReadFromSnapshot", "Append", "ReadFromSnapshot"]


def test_a_command_below_the_snapshot_is_found(pool: ConnectionPool, schema: str, requests: list[str]) -> None:
    repository = Repository(PostgresEventStore(pool, schema), Basket, PostgresSnapshotStore(pool, schema), 10)
    fill(repository, "1", 5)
    repository.update("1", lambda basket: basket.add(1), command_id="early")
    repository.update("1", lambda basket: basket.add(*range(20)))
    requests.clear()
    assert repository.update("1", lambda basket: basket.add(2), command_id="early").version == 26
    assert requests == ["ReadFromSnapshot"]


@pytest.mark.parametrize("change", [{"checksum": b""}, {"version": 24}], ids=["damaged", "of another version"])
def test_a_void_snapshot_costs_a_second_request(
    pool: ConnectionPool, schema: str, requests: list[str], change: dict[str, Any]
) -> None:
    snapshots = PostgresSnapshotStore(pool, schema)
    repository = Repository(PostgresEventStore(pool, schema), Basket, snapshots, 10)
    basket = fill(repository, "1", 25)
    found = snapshots.load("Basket", "1", Basket.class_schema())
    assert found is not None
    snapshots.save(dataclasses.replace(found, **change))
    requests.clear()
    assert repository.load("1").__dict__ == basket.__dict__
    assert requests == ["ReadFromSnapshot", "ReadStream", "SaveSnapshot"]


def test_snapshots_elsewhere_are_asked_for_first(pool: ConnectionPool, schema: str, requests: list[str]) -> None:
    store, snapshots = PostgresEventStore(pool, schema), WatchedSnapshots(PostgresSnapshotStore(pool, schema))
    repository = Repository(store, Basket, snapshots, 10)
    basket = fill(repository, "1", 25)
    requests.clear()
    assert repository.load("1").__dict__ == basket.__dict__
    assert requests == ["LoadSnapshot", "ReadStream"]


def test_in_async_a_load_with_its_snapshot_is_one_request(
    pool: ConnectionPool, dsn: str, schema: str, requests: list[str]
) -> None:
    fill(Repository(PostgresEventStore(pool, schema), Basket, PostgresSnapshotStore(pool, schema), 10), "1", 25)
    requests.clear()

    async def loads() -> list[int]:
        async with AsyncConnectionPool(dsn, open=False, kwargs={"autocommit": True}) as opened:
            store, snapshots = AsyncPostgresEventStore(opened, schema), AsyncPostgresSnapshotStore(opened, schema)
            async with store.transaction() as transaction:
                repositories = [AsyncRepository(each, Basket, snapshots, 10) for each in (store, transaction)]
                return [(await repository.load("1")).version for repository in repositories]

    assert asyncio.run(loads()) == [25, 25]
    assert requests == ["ReadFromSnapshot"] * 2


def test_a_load_whose_role_may_not_read_snapshots_replays_the_events(
    pool: ConnectionPool, dsn: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    basket = fill(Repository(PostgresEventStore(pool, schema), Basket, PostgresSnapshotStore(pool, schema), 10), "1", 9)
    role = sql.Identifier(f"{schema}_only_events")
    grants = "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.events TO {role}"
    with pool.connection() as connection:
        connection.execute(sql.SQL(grants).format(role=role, schema=sql.Identifier(schema)))

    def become(connection: psycopg.Connection) -> None:
        connection.execute(sql.SQL("SET ROLE {}").format(role))
        connection.commit()

    with ConnectionPool(dsn, min_size=1, max_size=1, configure=become) as limited:
        repository = Repository(PostgresEventStore(limited, schema), Basket, PostgresSnapshotStore(limited, schema), 10)
        assert repository.load("1").__dict__ == basket.__dict__
    assert warnings_in(caplog) == ["no snapshot of Basket-1 could be loaded"]


def written_with(pool: ConnectionPool, schema: str) -> list[str]:
    with pool.connection() as connection:
        rows = connection.execute(sql.SQL("SELECT setting FROM {}.settings").format(sql.Identifier(schema)))
        return [row[0] for row in rows]


def test_nobody_waits_for_the_commit_of_a_snapshot(dsn: str, pool: ConnectionPool, schema: str) -> None:
    notes_settings = """
        CREATE TABLE {schema}.settings (setting text);
        CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO {schema}.settings VALUES (current_setting('synchronous_commit'));
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON {schema}.snapshots
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.note();
        """  # Deferred: they run at the commit, and see what it goes by.
    with pool.connection() as connection:
        connection.execute(sql.SQL(notes_settings).format(schema=sql.Identifier(schema)))
    kwargs = {"options": "-c synchronous_commit=on"}
    with ConnectionPool(dsn, min_size=1, max_size=1, kwargs=kwargs) as durable:
        store, snapshots = PostgresEventStore(durable, schema), PostgresSnapshotStore(durable, schema)
        basket = fill(Repository(store, Basket, snapshots, 10), "1", 10)
        assert written_with(pool, schema) == ["off"]
        with durable.connection() as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
            in_a_transaction = Repository(
                store.bind(connection), Basket, SessionSnapshots(connection, store), snapshot_frequency=10
            )
            basket.add(*range(10))
            in_a_transaction.save(basket)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert written_with(pool, schema) == ["off", "on"]


class SessionSnapshots(SessionSnapshotStore):
    """Snapshots in the transaction of a psycopg connection."""

    def __init__(self, connection: psycopg.Connection, store: PostgresEventStore) -> None:
        self._connection = connection
        self.statements = store.statements

    connection = property(lambda self: self._connection)  # type: ignore[assignment]
    _home = property(lambda _: None)  # type: ignore[assignment]


def test_a_save_does_not_fail_where_its_snapshot_can_not_be_stored(
    pool: ConnectionPool, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = PostgresEventStore(pool, schema)
    basket = fill(Repository(store, Basket, Failing(StoreUnavailable("down")), 10), "1", 10)
    assert (basket.version, basket.pending) == (10, ())
    assert len(warnings_in(caplog)) == 1
    with pool.connection() as connection:
        connection.execute(sql.SQL("ALTER TABLE {}.snapshots RENAME TO gone").format(sql.Identifier(schema)))
    basket.add(*range(10))
    Repository(store, Basket, PostgresSnapshotStore(pool, schema), 10).save(basket)
    assert (basket.version, basket.pending) == (20, ())
    assert store.read("Basket-1", backwards=True, limit=1)[0].version == 20
