"""How the server carries out the hot statements on a store that is not small: by its indexes, and in their order."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from eventstore import Event, ExpectedVersion, PostgresEventStore
from eventstore.core.requests import ReadLog, ReadStream
from eventstore.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 20_000


@pytest.fixture
def filled(pool: ConnectionPool, schema: str) -> str:
    """A schema with so many events, 100 a stream."""
    statement = sql.SQL(
        "INSERT INTO {}.events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"
        " SELECT number % 100 + 1, now(), 0, gen_random_uuid(), 'Order-' || number / 100, 'T' || number % 3,"
        " '\\x80', '\\x80' FROM generate_series(0, {} - 1) AS number"
    ).format(sql.Identifier(schema), EVENTS)
    with pool.connection() as connection:
        connection.execute(statement)
        connection.execute(sql.SQL("ANALYZE {}.events").format(sql.Identifier(schema)))
    return schema


@pytest.fixture
def without_statistics(pool: ConnectionPool, filled: str) -> str:
    """The same, as it is just after a large import."""
    with pool.connection() as connection:
        connection.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", (f'"{filled}".events',))
    return filled


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that find events: not what is asked once, before anything is read, about a standby and its mark."""
    if "One-Time Filter" not in plan:
        yield plan
    for below in plan.get("Plans", ()):
        if below["Parent Relationship"] != "InitPlan":
            yield from nodes(below)


def plan(pool: ConnectionPool, schema: str, request: ReadStream | ReadLog) -> list[dict[str, Any]]:
    """The nodes of a request's generic plan."""
    statement = Statements(schema).of(request)
    parameters = statement.parameters(request)
    numbers = iter(range(1, len(parameters) + 1))
    prepared = re.sub(r"%b", lambda _: f"${next(numbers)}", statement.text.decode())
    nulls = ", ".join(["NULL"] * len(parameters))  # A generic plan is made before any value is seen.
    with pool.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE hot AS {prepared}".encode())
        row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({nulls})".encode()).fetchone()
        connection.execute("DEALLOCATE hot")
    assert row is not None
    return list(nodes(row[0][0]["Plan"]))


@pytest.mark.parametrize(
    ("request_", "index"),
    [
        (ReadStream("Order-7", 20, 2**62, backwards=False, limit=50), "events_stream_version"),
        (ReadStream("Order-7", 0, 2**62, backwards=True, limit=1), "events_stream_version"),
        (ReadStream("Order-7", 0, 2**62, backwards=False, limit=None), "events_stream_version"),
        (ReadLog(500, 2**62, 1000, None, None), "events_position"),
        (ReadLog(500, 2**62, 1000, ["T1"], ["Order"]), "events_position"),
        (ReadLog(500, 2**62, 1000, None, None, (1, 4)), "events_position"),
        (ReadLog(0, 2**62, 10, None, None, backwards=True), "events_position"),
        (ReadLog(0, 2**62, 10, ["T1"], ["Order"], backwards=True), "events_position"),
    ],
    ids=str,
)
def test_reads_use_an_index_and_sort_nothing(
    pool: ConnectionPool, filled: str, request_: ReadStream | ReadLog, index: str
) -> None:
    found = plan(pool, filled, request_)
    assert {node["Node Type"] for node in found} <= {"Subquery Scan", "Limit", "Index Scan"}, json.dumps(
        found, indent=1
    )
    assert {node["Index Name"] for node in found if "Index Name" in node} == {index}


def test_a_load_finds_its_closing_event_by_an_index_of_few_entries(pool: ConnectionPool, filled: str) -> None:
    found = plan(pool, filled, ReadStream("Order-7", 0, 2**62, backwards=False, limit=50, from_closing=True))
    assert [node.get("Index Name") for node in found] == [None, "events_stream_version"]
    (first,) = (node for node in found[0]["Plans"] if node["Parent Relationship"] == "InitPlan")
    assert [node["Index Name"] for node in first["Plans"]] == ["events_closing"]


def test_the_log_is_read_in_order_where_there_are_no_statistics(pool: ConnectionPool, without_statistics: str) -> None:
    found = plan(pool, without_statistics, ReadLog(500, 2**62, 1000, None, None))
    assert {node["Node Type"] for node in found} == {"Subquery Scan", "Limit", "Index Scan"}


def test_nothing_that_a_store_does_walks_through_the_table(filled: str, dsn: str) -> None:
    """What functions do inside as well: the server counts the scans."""
    with ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}) as pool:

        def scans() -> tuple[int, int]:
            with pool.connection() as connection:
                connection.execute("SELECT pg_stat_force_next_flush()")
                row = connection.execute(
                    "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'events'",
                    (filled,),
                ).fetchone()
            assert row is not None
            return row

        sequential, by_index = scans()
        store = PostgresEventStore(pool, filled)
        for number in range(20):  # From the sixth call on, plans are generic.
            event = [Event(event_type="T1", data={"number": number})]
            store.append("Order-7", event, 100 + number)
            store.append("Order-7", event, 100 + number)
            store.append("Order-8", event, ExpectedVersion.ANY)
            store.append("Order-8", event, ExpectedVersion.ANY)
            store.append(f"New-{number}", event, 0)
            with store.transaction() as transaction:
                transaction.append("Order-9", event, ExpectedVersion.STREAM_EXISTS)
            assert len(store.read("Order-7", 90)) == 11 + number
            assert next(store.read_all(EVENTS - 10)).stream_id.startswith("Order-")
        after = scans()
        assert after[0] == sequential
        assert after[1] > by_index
