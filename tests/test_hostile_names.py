"""Names that mean something to SQL, to formats, or to people's eyes: to a store each is a name unlike the others."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from eventstore import Event, PostgresEventStore, SchemaError
from eventstore.cli import main
from eventstore.names import MAX_NAME_BYTES
from eventstore.postgres import migrate
from eventstore.postgres.statements import MAX_SCHEMA_BYTES, for_schema

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from eventstore import InMemoryEventStore

PIECES = [
    "'", "''", '"', '""', "\\", "\\'", ";", "--", "/*", "*/", "%", "%%", "%s", "%b", "%(name)s", "{", "}", "{}", "{{",
    "{schema}", "{0}", "$", "$1", "$$", ":name", "?", "*", ".", "..", "/", "-", "--x", "_", " ", "  ", "\t", "\n",
    "\r\n", "\x01", "\x7f", "\u00e9", "e\u0301", "\u200b", "\u200f", "\u202e", "\ufeff", "\u0430", "a", "A", "\u1e9e",
    "\u00df", "ss", "\u0130", "\ufb01", "\U0001f600", "\uffff", "null", "NULL", "0", "-1", "1e9", "true",
    "'; DROP TABLE events; --", "x' OR '1'='1", '"; DROP SCHEMA public CASCADE; --', "$eventstore_$", "E'\\x27'",
    'U&"\\0041"', "<script>", "../../etc/passwd",
]  # fmt: skip
PAIRS = itertools.product(("", "a-", "a-b", "order", "Order-", "-"), PIECES, ("", "-c", "b-c"))
FITTING = dict.fromkeys("".join(parts) for parts in PAIRS)
NAMES = [*itertools.islice(FITTING, 498), "x" * MAX_NAME_BYTES, "x" * (MAX_NAME_BYTES - 2) + "\u00e9"]


def test_the_search_tries_five_hundred_hostile_names() -> None:
    assert len(set(NAMES)) == 500


def test_each_stream_holds_its_own_events(store: InMemoryEventStore | PostgresEventStore) -> None:
    for number, name in enumerate(NAMES):
        assert store.append(name, [Event(event_type=name, data={"number": number})], 0) == 1
    for number, name in enumerate(NAMES):
        (found,) = store.read(name)
        assert (found.stream_id, found.event_type, found.data) == (name, name, {"number": number})
    assert [event.stream_id for event in store.read_all()] == NAMES


def test_categories_and_types_do_not_mix(store: InMemoryEventStore | PostgresEventStore) -> None:
    for name in NAMES:
        store.append(name, [Event(event_type=name)], 0)
    categories = {name.partition("-")[0] for name in NAMES if "-" in name} - {""}
    assert len(categories) > 50
    for category in categories:
        assert [event.stream_id for event in store.read_all(categories=category)] == [
            name for name in NAMES if name.startswith(f"{category}-")
        ]
    for name in NAMES[::25]:
        assert [event.stream_id for event in store.read_all(event_types=[name])] == [name]


SCHEMAS = [name for name in NAMES if len(name.encode()) <= MAX_SCHEMA_BYTES]


def test_a_schemas_name_is_what_its_statements_say(pool: ConnectionPool) -> None:
    """PostgreSQL says which relation is missing, and quotes the name as the library does."""
    with pool.connection() as connection:
        for name in SCHEMAS:
            with pytest.raises(SchemaError) as caught:
                PostgresEventStore(pool, name).read("s")
            cause = caught.value.__cause__
            assert isinstance(cause, psycopg.errors.UndefinedTable)
            assert cause.diag.message_primary == f'relation "{name}.events" does not exist'
            quoted = connection.execute("SELECT quote_ident(%s)", (name,)).fetchone()
            assert quoted is not None
            assert for_schema("{schema}", name) in {quoted[0], f'"{quoted[0]}"'}  # It leaves plain names bare.
    assert len(SCHEMAS) > 490


def test_stores_live_side_by_side_in_schemas_of_such_names(pool: ConnectionPool) -> None:
    chosen = ["$$", "select", "a.b", "A", "a", "\u00e4" * 31, *SCHEMAS[3::24]]
    assert len(chosen) > 25
    with pool.connection() as connection, ExitStack() as stack:
        connection.execute("SET client_min_messages = warning")
        stack.callback(connection.execute, "RESET client_min_messages")
        for name in chosen:
            migrate(connection, name)
            stack.callback(connection.execute, for_schema("DROP SCHEMA {schema} CASCADE", name).encode())
        for number, name in enumerate(chosen):
            store = PostgresEventStore(pool, name)
            store.append("s", [Event(event_type="T", data={"number": number})], 0)
            with store.transaction() as transaction:
                transaction.append("s-1", [Event(event_type="U", data={"number": number})], 0)
        for number, name in enumerate(chosen):
            store = PostgresEventStore(pool, name)
            assert [event.data for event in store.read_all()] == [{"number": number}] * 2
            assert [event.event_type for event in store.read_all(categories="s")] == ["U"]
            assert [event.stream_id for event in store.read_all(event_types=["T"])] == ["s"]


def test_the_command_line_finds_the_store_that_it_is_told(
    pool: ConnectionPool, dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A percent sign in the name is no parameter, and two are not one."""
    names = ["a%b", "a%%b", "a%%%%b", "a%sb", "a%(after)sb"]
    with pool.connection() as connection, ExitStack() as stack:
        connection.execute("SET client_min_messages = warning")
        stack.callback(connection.execute, "RESET client_min_messages")
        for name in [*names, *(f"{each}2" for each in names)]:
            migrate(connection, name)
            stack.callback(connection.execute, for_schema("DROP SCHEMA {schema} CASCADE", name).encode())
        rows = tmp_path / "rows.csv"
        rows.write_text("id,type,at\n7,T,2024-01-01T00:00:00Z\n")
        columns = ["--category", "Row", "--stream", "id", "--type", "type", "--timestamp", "at"]
        for number, name in enumerate(names):
            place = ["--dsn", dsn, "--schema", name]
            PostgresEventStore(pool, name).append(f"Cart-{number}", [Event(event_type="T")], 0)
            assert main(["import", *place, str(rows), *columns]) == 0
            PostgresEventStore(pool, name).retire(f"Cart-{number}", reason="done")
            file, archive = str(tmp_path / f"{number}.jsonl"), str(tmp_path / f"archive{number}")
            capsys.readouterr()
            assert main(["streams", *place]) == 0
            assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [f"Cart-{number}", "Row-7"]
            assert main(["verify", *place]) == 0
            assert "3 events" in capsys.readouterr().out
            assert main(["export", *place, file]) == 0
            assert main(["import", "--exact", "--dsn", dsn, "--schema", f"{name}2", file]) == 0
            assert [each.stream_id for each in PostgresEventStore(pool, f"{name}2").read_all()] == [
                f"Cart-{number}", "Row-7", f"Cart-{number}",
            ]  # fmt: skip
            moved = ["--category", "Cart", "--retired-for", "0d", "--to", archive]
            assert main(["archive", *place, *moved]) == 0
            assert main(["restore", *place, archive]) == 0
            assert len(list(PostgresEventStore(pool, name).read_all())) == 3
            assert main(["status", *place]) == 0
