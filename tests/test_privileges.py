"""A role that has what docs/postgresql.md grants, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eventstore import AccessDenied, Event, PostgresEventStore, PostgresSnapshotStore, Projection, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstore import PostgresTransaction

PAGE = Path(__file__).parent.parent / "docs" / "postgresql.md"
GRANTS = re.findall(r"^GRANT .*;$", PAGE.read_text(), flags=re.MULTILINE)


@pytest.fixture
def role(dsn: str, schema: str) -> Iterator[str]:
    """With the grants of the page, on a schema of its own."""
    name = f"app_of_{schema}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}")
        for grant in GRANTS:
            connection.execute(grant.replace("eventstore", schema).replace("TO app;", f"TO {name};"))
        yield name
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def store(dsn: str, schema: str, role: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(make_conninfo(dsn, options=f"-c role={role}"), schema) as store:
        yield store


def test_it_appends_reads_and_follows(store: PostgresEventStore, dsn: str, schema: str, role: str) -> None:
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
        "SELECT write_events('s', 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL)",
        "ALTER TABLE events DISABLE TRIGGER append_only",
        "CREATE TABLE more ()",
        FORGED.format(2, 1),
        FORGED.format(2**63 - 1, 7),
        FORGED.format(2, 2**63 - 1),
    ],
)
def test_it_does_not_change_history(store: PostgresEventStore, schema: str, statement: str) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), store.transaction() as transaction:
        transaction.connection.execute(f"SET LOCAL search_path = {schema}")
        transaction.connection.execute(statement)


def test_a_role_that_only_reads_can_read_all_and_can_not_append(dsn: str, schema: str) -> None:
    name = f"reader_of_{schema}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}")
        for grant in GRANTS[:2]:
            connection.execute(grant.replace("eventstore", schema).replace("TO app;", f"TO {name};"))
    try:
        with PostgresEventStore.connect(dsn, schema) as owner:
            owner.append("Order-1", [Event(event_type="T")], 0)
        with PostgresEventStore.connect(make_conninfo(dsn, options=f"-c role={name}"), schema) as store:
            assert [event.version for event in store.read_all()] == [1]
            for append in (store.append, in_a_transaction(store)):
                with pytest.raises(AccessDenied, match="permission denied for function append") as refused:
                    append("Order-1", [Event(event_type="T")], 1)
                assert refused.value.sqlstate == "42501"
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")


def in_a_transaction(store: PostgresEventStore) -> Callable[..., int]:
    def append(*arguments: Any) -> int:
        with store.transaction() as transaction:
            return transaction.append(*arguments)

    return append
