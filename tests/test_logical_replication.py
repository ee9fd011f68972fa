"""Logical replication: events arrive in the order of commits, and a replica takes over when its sequence is set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import psycopg
import pytest
from conftest import wanted_binaries
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from standbys import *  # noqa: F403 fixtures
from waiting import eventually

from eventstore import Event, InvalidOperation, PostgresEventStore, SchemaError, Subscription, cli
from eventstore.postgres import Promotion, migrate, promote
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = "s.events, s.snapshots, s.subscriptions, s.parked_events"
SCHEMA = "s"


def events(number: int = 1) -> list[Event]:
    return [Event(event_type="T") for _ in range(number)]


@pytest.fixture
def publisher(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(
        durable=False, bin_directory=wanted_binaries(), settings={"wal_level": "logical", "wal_sender_timeout": "0"}
    ) as server:
        migrate(server.dsn, SCHEMA, partitions=getattr(request, "param", None))
        yield server


@pytest.fixture
def origin(publisher: EmbeddedServer) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(publisher.dsn, SCHEMA) as store:
        yield store


@pytest.fixture
def subscriber(publisher: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A session on a server to which the store is replicated."""
    with psycopg.connect(publisher.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE PUBLICATION store FOR TABLE {PUBLISHED}".encode())
    where = conninfo_to_dict(publisher.dsn)
    source = make_conninfo(
        host=unquote(str(where["host"])), port=where["port"], user="postgres", dbname=where["dbname"]
    )
    with EmbeddedServer(durable=False, bin_directory=wanted_binaries()) as server:
        migrate(server.dsn, SCHEMA, partitions=getattr(request, "param", None))
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SUBSCRIPTION store CONNECTION '{source}' PUBLICATION store".encode())
            yield connection
            connection.execute("ALTER SUBSCRIPTION store DISABLE")
            connection.execute("ALTER SUBSCRIPTION store SET (slot_name = NONE)")
            connection.execute("DROP SUBSCRIPTION store")


def dsn_of(connection: psycopg.Connection) -> str:
    return make_conninfo(**connection.info.get_parameters())


@pytest.fixture
def replica(subscriber: psycopg.Connection) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(dsn_of(subscriber), SCHEMA) as store:
        yield store


def test_a_consumer_of_the_write_ahead_log_meets_positions_out_of_order(
    publisher: EmbeddedServer, origin: PostgresEventStore
) -> None:
    """So a position is not its place: it would take what commits late for something that it has seen."""
    with psycopg.connect(publisher.dsn, autocommit=True) as connection:
        try:
            connection.execute("SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')")
        except psycopg.errors.UndefinedFile:
            pytest.skip("this server has no test_decoding")
        with origin.transaction() as transaction:
            transaction.append("late", events(), 0)
            origin.append("early", events(), 0)
        found: list[int] = []

        def arrived() -> bool:
            rows = connection.execute("SELECT data FROM pg_logical_slot_get_changes('cdc', NULL, NULL)").fetchall()
            matches = (re.search(r'position"?\[bigint\]:(\d+)', change) for (change,) in rows)
            found.extend(int(match[1]) for match in matches if match)
            return len(found) == 2

        assert eventually(arrived)
        connection.execute("SELECT pg_drop_replication_slot('cdc')")
    assert found == [2, 1]
    assert [event.position for event in origin.read_all()] == [1, 2]


@pytest.mark.parametrize(
    ("publisher", "subscriber"),
    [(None, None), (None, 3), (3, 3)],
    indirect=True,
    ids=["whole", "divided", "both divided"],
)
def test_a_replica_refuses_to_read_the_log_and_to_append_until_it_is_promoted(
    origin: PostgresEventStore, replica: PostgresEventStore, subscriber: psycopg.Connection
) -> None:
    dsn = dsn_of(subscriber)
    origin.append("s", events(3), 0)
    Subscription(origin, "w", lambda _: None).run_until_caught_up()
    assert eventually(lambda: len(replica.read("s")) == 3)
    checkpoint = sql.SQL("SELECT position FROM {}.subscriptions").format(sql.Identifier(SCHEMA))
    assert eventually(lambda: subscriber.execute(checkpoint).fetchall() == [(3,)])
    with pytest.raises(InvalidOperation, match="has not drawn"):
        list(replica.read_all())
    with pytest.raises(InvalidOperation, match="has drawn nothing"):
        replica.append("s", events(), 3)

    with pytest.raises(
        InvalidOperation, match="subscription 'store' still brings events to schema 's': stop appending"
    ):
        promote(dsn, SCHEMA)
    subscriber.execute("ALTER SUBSCRIPTION store DISABLE")
    assert promote(dsn, SCHEMA, dry_run=True) == Promotion(0, 3)
    assert promote(dsn, SCHEMA) == Promotion(0, 3)

    assert replica.append("s", events(), 3).position == 4
    assert [event.position for event in replica.read_all()] == [1, 2, 3, 4]
    seen: list[int] = []
    Subscription(replica, "w", lambda event: seen.append(event.position)).run_until_caught_up()
    assert seen == [4]  # its checkpoint was replicated


def test_the_command_shows_first_and_sets_with_apply_and_refuses_what_needs_nothing(
    origin: PostgresEventStore,
    replica: PostgresEventStore,
    subscriber: psycopg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    origin.append("s", events(2), 0)
    assert eventually(lambda: len(replica.read("s")) == 2)
    subscriber.execute("ALTER SUBSCRIPTION store DISABLE")
    command = ["promote", "--dsn", dsn_of(subscriber), "--schema", SCHEMA]
    for _ in range(2):
        assert cli.main(command) == 0
        shown = "the sequence of positions is at 0, and would continue above 2, the newest event; --apply sets it"
        assert capsys.readouterr().out == f"schema 's': {shown}\n"
    assert cli.main([*command, "--apply"]) == 0
    assert capsys.readouterr().out == "schema 's': the sequence of positions was at 0, and continues above 2\n"
    assert cli.main([*command, "--apply"]) == 1
    refused = "there is nothing to set in schema 's': the sequence of positions is at 2, and the newest event at 2"
    assert capsys.readouterr().err == f"eventstore: {refused}\n"


def test_a_store_that_draws_its_own_positions_is_not_promoted(dsn: str, schema: str) -> None:
    with PostgresEventStore.connect(dsn, schema) as store:
        with pytest.raises(InvalidOperation, match="is at 0, and the newest event at 0"):
            promote(dsn, schema)
        store.append("s", events(2), 0)
        with store.transaction() as transaction:
            transaction.append("s", events(), 2)
            transaction.connection.rollback()
        with pytest.raises(InvalidOperation, match=r"nothing to set .* is at 3, and the newest event at 2"):
            promote(dsn, schema)


def test_a_standby_is_promoted_without_it(standby: EmbeddedServer) -> None:
    with pytest.raises(InvalidOperation, match=r"promote the server, for example with pg_promote\(\)"):
        promote(standby.dsn, SCHEMA)


def test_without_a_store_there_is_nothing_to_promote(dsn: str) -> None:
    with pytest.raises(SchemaError, match="eventstore migrate"):
        promote(dsn, "nowhere")
