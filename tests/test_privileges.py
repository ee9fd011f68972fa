"""A login that is a member of the writer and the follower of a store, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eventstore import (
    AccessDenied,
    Event,
    InvalidOperation,
    PostgresEventStore,
    PostgresSnapshotStore,
    Projection,
    Snapshot,
)
from eventstore.cli import main
from eventstore.core.subscription_requests import (
    Claim,
    DropParked,
    Heartbeat,
    ListParked,
    ListSubscriptions,
    NoteError,
    Park,
    PollSubscription,
    Register,
    Remove,
    SaveCheckpoint,
)
from eventstore.postgres import Roles, apply_roles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstore import PostgresTransaction


@pytest.fixture
def roles(dsn: str, schema: str) -> Iterator[Roles]:
    made = apply_roles(dsn, schema)
    yield made
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"REASSIGN OWNED BY {made.owner} TO CURRENT_USER")
        for role in made:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def role(dsn: str, schema: str, roles: Roles) -> Iterator[str]:
    """What an application logs in as."""
    name = f"app_of_{schema}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} IN ROLE {roles.writer}, {roles.follower}")
        yield name
        connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def store(dsn: str, schema: str, role: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(make_conninfo(dsn, options=f"-c role={role}"), schema) as store:
        yield store


def test_a_role_with_the_documented_grants_appends_reads_and_follows(
    store: PostgresEventStore, dsn: str, schema: str, role: str
) -> None:
    assert store.append("Order-1", [Event(event_type="T")], 0) == 1
    with store.transaction() as transaction:
        assert transaction.append("Order-1", [Event(event_type="T")], 1) == 2
    assert [event.version for event in store.read_all()] == [1, 2]
    handled: list[int] = []

    def handle(event: Event, _: PostgresTransaction) -> None:
        handled.append(event.version)

    Projection(store, "role", handle).run_until_caught_up()
    assert handled == [1, 2]
    snapshot = Snapshot("Order", "1", "schema", 2, UUID(int=2), b"state", b"checksum")
    with PostgresSnapshotStore.connect(make_conninfo(dsn, options=f"-c role={role}"), schema) as snapshots:
        snapshots.save(snapshot)
        assert snapshots.load("Order", "1", "schema") == snapshot


def test_every_request_of_a_follower_is_allowed(store: PostgresEventStore) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    (position,) = (event.position for event in store.read("Order-1"))
    for request in (
        Register("x", 2, 0),
        PollSubscription("x"),
        Claim("x", 9),
        Heartbeat("x", present=True),
        NoteError("x", 1, position, "error", failed=False),
        Park("x", position, 1, "error"),
        SaveCheckpoint("x", 0, position),
        ListParked("x"),
        ListSubscriptions("x"),
        DropParked("x", position),
        Remove("x"),
    ):
        assert store.execute(request) not in (False, [])


FORGED = (
    "INSERT INTO events (version, position, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
)
FORGED += " SELECT {}, {}, now(), 0, gen_random_uuid(), 'Order-1', 'T', '\\x80', '\\x80'"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET version = 2",
        "DELETE FROM events",
        "TRUNCATE events",
        "SELECT setval('event_positions', 1)",
        "SELECT nextval('event_positions')",
        "SELECT write_events('s', 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL, false, false)",
        "ALTER TABLE events DISABLE TRIGGER append_only",
        "CREATE TABLE more ()",
        FORGED.format(2, 1),
        FORGED.format(2**63 - 1, 7),
        FORGED.format(2, 2**63 - 1),
    ],
)
def test_a_writer_can_not_change_history(store: PostgresEventStore, schema: str, statement: str) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), store.transaction() as transaction:
        transaction.connection.execute(f"SET LOCAL search_path = {schema}")
        transaction.connection.execute(statement)


def test_a_reader_can_read_all_and_can_not_append(dsn: str, schema: str, roles: Roles) -> None:
    with PostgresEventStore.connect(dsn, schema) as owner:
        owner.append("Order-1", [Event(event_type="T")], 0)
    with PostgresEventStore.connect(make_conninfo(dsn, options=f"-c role={roles.reader}"), schema) as store:
        assert [event.version for event in store.read_all()] == [1]
        for append in (store.append, in_a_transaction(store)):
            with pytest.raises(
                AccessDenied, match=r"permission denied for function append.*`eventstore roles"
            ) as refused:
                append("Order-1", [Event(event_type="T")], 1)
            assert refused.value.sqlstate == "42501"


def in_a_transaction(store: PostgresEventStore) -> Callable[..., int]:
    def append(*arguments: Any) -> int:
        with store.transaction() as transaction:
            return transaction.append(*arguments)

    return append


def test_followers_say_so_where_the_owner_has_inserted_an_impossible_position(
    dsn: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The attack: with a position at the end of the numbers, followers would walk through empty windows for ever."""
    with PostgresEventStore.connect(dsn, schema) as owner, psycopg.connect(dsn, autocommit=True) as connection:
        owner.append("Order-1", [Event(event_type="T")], 0)
        connection.execute(f"SET search_path = {schema}")
        connection.execute(FORGED.format(2, 2**63 - 1))
        with pytest.raises(InvalidOperation, match=f"has not drawn: it is at 1, the newest event at {2**63 - 1}: "):
            Projection(owner, "p", lambda *_: None).run_until_caught_up()
        with pytest.raises(InvalidOperation, match="An event that was inserted by hand is for the owner to remove"):
            list(owner.read_all())
        assert main(["status", "--dsn", dsn, "--schema", schema]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["p", "stopped", "0"]
