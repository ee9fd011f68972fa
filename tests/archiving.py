"""What the tests of archives and exports share: a store with retired streams, its rows, and the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
import pytest

from eventstore import Event, PostgresEventStore
from eventstore.cli import main
from eventstore.postgres import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg_pool import ConnectionPool

Run: TypeAlias = "Callable[..., tuple[int, str, str]]"
ROWS = "SELECT stream_id, version, position, event_id, event_type, data, metadata, timestamp, utc_offset, revision,"
ROWS += " closing, tombstone FROM {}.events ORDER BY position"


def rows_of(dsn: str, schema: str) -> list[Any]:
    """Everything that the events have."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(ROWS.format(schema).encode()).fetchall()


def fill(store: PostgresEventStore, carts: int = 6) -> None:
    """Carts of which all but the first are retired, beside orders, with their events mixed in the log."""
    for number in range(3):
        for cart in range(carts):
            store.append(f"Cart-{cart}", [Event(event_type="Added", data={"n": number})], number)
        store.append("Order-1", [Event(event_type="Noted", metadata={"by": "ann"})], number)
    for cart in range(1, carts):
        store.retire(f"Cart-{cart}", reason="checked out")


@pytest.fixture
def carts(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    """The store."""
    store = PostgresEventStore(pool, schema)
    fill(store)
    return store


@pytest.fixture
def run(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns its exit code, and what it printed."""

    def run(command: str, *arguments: object, where: str = schema) -> tuple[int, str, str]:
        code = main([command, "--dsn", dsn, "--schema", where, *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def other_schema(dsn: str, schema: str) -> Iterator[str]:
    """The schema of another store."""
    name = f"{schema}_other"
    migrate(dsn, name)
    yield name
    with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
        connection.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives of several parts, and deletions in several transactions, of a few events."""
    monkeypatch.setattr("eventstore.archives.writing.PART_EVENTS", 4)
    monkeypatch.setattr("eventstore.cli.archiving._STREAMS", 2)
