"""Names that mean something to SQL, to formats, or to people's eyes: to a store each is a name unlike the others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from eventstore import Event, InvalidArgument, PostgresEventStore
from eventstore.names import MAX_NAME_BYTES
from eventstore.postgres import migrate
from eventstore.postgres.statements import check_schema, for_schema

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


def test_there_are_five_hundred_of_them() -> None:
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
        assert [event.stream_id for event in store.read_all(category=category)] == [
            name for name in NAMES if name.startswith(f"{category}-")
        ]
    for name in NAMES[::25]:
        assert [event.stream_id for event in store.read_all(event_types=[name])] == [name]


SCHEMAS = [name for name in NAMES if len(name.encode()) <= 63]


def test_a_schemas_name_is_quoted_as_postgres_reads_it(pool: ConnectionPool) -> None:
    assert len(SCHEMAS) > 490
    with pool.connection() as connection:
        for name in SCHEMAS:
            row = connection.execute("SELECT parse_ident(%s)", (for_schema("{schema}", name),)).fetchone()
            assert row == ([name],)


@pytest.mark.parametrize("name", SCHEMAS[::50])
def test_a_store_lives_in_a_schema_of_any_name(pool: ConnectionPool, name: str) -> None:
    with pool.connection() as connection:
        before = connection.execute("SELECT count(*) FROM pg_namespace").fetchone()
        try:
            migrate(connection, name)
            store = PostgresEventStore(pool, name)
            assert store.append("s", [Event(event_type="T")], 0) == 1
            assert [event.version for event in store.read_all(category=None)] == [1]
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(for_schema("DROP SCHEMA IF EXISTS {schema} CASCADE", name).encode())
            connection.execute("RESET client_min_messages")
        assert connection.execute("SELECT count(*) FROM pg_namespace").fetchone() == before


@pytest.mark.parametrize("name", ["", "x" * 64, "pg_mine", "a\0b", "\ud800", "a$eventstore$b", 7, None])
def test_a_schema_that_can_not_be_is_refused(name: object) -> None:
    with pytest.raises(InvalidArgument):
        check_schema(name)
