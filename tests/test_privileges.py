"""A role that has what docs/postgresql.md grants, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eventstore import Event, PostgresEventStore, PostgresSnapshotStore, Projection, Snapshot, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventstore import PostgresTransaction

PAGE = Path(__file__).parent.parent / "docs" / "postgresql.md"
GRANTS = re.findall(r"^GRANT .*;$", PAGE.read_text(), flags=re.MULTILINE)
ON_SEQUENCE = next(grant for grant in GRANTS if "SEQUENCE" in grant)


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


@pytest.mark.parametrize("statement", ["UPDATE events SET version = 2", "DELETE FROM events", "TRUNCATE events"])
def test_it_does_not_change_history(store: PostgresEventStore, schema: str, statement: str) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), store.transaction() as transaction:
        transaction.connection.execute(statement.replace("events", f"{schema}.events"))


def test_without_the_sequence_it_does_not_append(store: PostgresEventStore, dsn: str, schema: str, role: str) -> None:
    """It could insert, but not tell readers above which position: they would wait at every gap."""
    store.append("Order-1", [Event(event_type="T")], 0)
    with psycopg.connect(dsn, autocommit=True) as connection:
        revoke = ON_SEQUENCE.replace("GRANT", "REVOKE").replace("TO app", f"FROM {role}")
        connection.execute(revoke.replace("eventstore", schema))
    with pytest.raises(StoreUnavailable, match="permission denied for sequence event_positions") as refused:
        store.append("Order-1", [Event(event_type="T")], 1)
    assert refused.value.sqlstate == "42501"
