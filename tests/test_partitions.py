"""Stores whose events are divided into partitions by stream: they keep every promise, on each partition."""

from __future__ import annotations

import json
import re
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from other_schemas import PARTITIONS
from psycopg import sql

from eventstore import (
    ConcurrencyError,
    Event,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    SchemaError,
    Subscription,
)
from eventstore.cli import main
from eventstore.context import causing
from eventstore.core.requests import ReadLog, ReadRelated, ReadStream, Request
from eventstore.postgres import Tenants, apply_roles, migrate, planned_sql
from eventstore.postgres.migrations import carried_out, partitions_of
from eventstore.postgres.statements import Statements
from eventstore.subscriptions import blocking_sessions
from eventstore.tracing import trace

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

NAMES = [f"events_{number:02}" for number in range(PARTITIONS)]


@pytest.fixture
def store(pool: ConnectionPool, partitioned: str) -> PostgresEventStore:
    return PostgresEventStore(pool, partitioned)


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


def fill(store: PostgresEventStore, streams: int = 20) -> None:
    for number in range(streams):
        store.append(f"s-{number}", events(3), 0)


def execute(pool: ConnectionPool, statement: str) -> list[tuple[Any, ...]]:
    with pool.connection() as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_every_partition_gets_streams_and_the_log_is_one(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str
) -> None:
    fill(store)
    found = execute(
        pool, f"SELECT tableoid::regclass::text, count(DISTINCT stream_id) FROM {partitioned}.events GROUP BY 1"
    )
    assert sorted(name.rpartition(".")[2] for name, _ in found) == NAMES
    assert sum(count for _, count in found) == 20
    assert [event.position for event in store.read_all()] == list(range(1, 61))
    assert [event.position for event in store.read_all(backwards=True, limit=2)] == [60, 59]


def test_a_version_of_a_stream_can_t_be_inserted_twice(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str
) -> None:
    fill(store)
    for number in range(20):
        with pytest.raises(ConcurrencyError):
            store.append(f"s-{number}", events(), 2)
        again = f"SELECT * FROM {partitioned}.events WHERE stream_id = 's-{number}' LIMIT 1"
        with pytest.raises(psycopg.errors.UniqueViolation):
            execute(pool, f"INSERT INTO {partitioned}.events {again}")


@pytest.mark.parametrize("table", ["events", *NAMES])
@pytest.mark.parametrize("change", ["UPDATE {} SET version = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_no_partition_can_be_changed(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str, table: str, change: str
) -> None:
    fill(store, 2)
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        execute(pool, change.format(f"{partitioned}.{table}"))
    assert len(list(store.read_all())) == 6


def test_to_migrate_again_keeps_the_partitions_and_another_number_is_refused(
    dsn: str, partitioned: str, schema: str
) -> None:
    assert migrate(dsn, partitioned) == []
    assert migrate(dsn, partitioned, partitions=PARTITIONS) == []
    assert planned_sql(dsn, partitioned, partitions=PARTITIONS) == ""
    for use in (migrate, planned_sql):
        with pytest.raises(
            InvalidOperation, match=r"in 4 partitions, and the number .* can't be changed to 8: leave it out"
        ):
            use(dsn, partitioned, partitions=8)
        with pytest.raises(InvalidOperation, match="are in one table"):
            use(dsn, schema, partitions=8)


@pytest.mark.parametrize("number", [0, 1, -1, 65, True, 2.0, "16"])
def test_a_number_of_partitions_out_of_range_is_refused(dsn: str, number: Any) -> None:
    for use in (migrate, planned_sql):
        with pytest.raises(InvalidArgument, match="from 2 to 64"):
            use(dsn, "never_made", partitions=number)


def test_the_planned_sql_makes_partitions(dsn: str) -> None:
    name = f"test_planned_{secrets.token_hex(4)}"
    with psycopg.connect(dsn) as connection:
        connection.execute(planned_sql(dsn, name, partitions=16).encode())
        found = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", (f"{name}.events",)
        )
        assert found.fetchall() == [(16,)]
        connection.rollback()


def test_the_command_makes_partitions_and_refuses_another_number(
    dsn: str, partitioned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["migrate", "--dsn", dsn, "--schema", partitioned, "--partitions"]
    assert main([*command, str(PARTITIONS)]) == 0
    assert main([*command, "8"]) == 1
    assert "docs/postgresql.md" in capsys.readouterr().err
    assert main([*command, "many"]) == 2


def plan(pool: ConnectionPool, schema: str, request: Request[Any], *values: str) -> tuple[list[dict[str, Any]], int]:
    """The scans of a request with these values, and how many partitions its generic plan left out."""
    statement = Statements(schema).of(request)
    numbers = iter(range(1, len(statement.parameters(request)) + 1))
    prepared = re.sub(r"%b", lambda _: f"${next(numbers)}", statement.text.decode())
    with pool.connection() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute(f"PREPARE hot AS {prepared}".encode())
        row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({', '.join(values)})".encode()).fetchone()
        connection.execute("DEALLOCATE hot")
    assert row is not None
    scans: list[dict[str, Any]] = []
    removed = 0
    waiting = [cast("dict[str, Any]", row[0][0]["Plan"])]
    while waiting:
        node = waiting.pop()
        removed += node.get("Subplans Removed", 0)
        waiting += node.get("Plans", [])
        if "Scan" in node["Node Type"] and str(node.get("Relation Name", "")).startswith("events"):
            scans.append(node)
        assert node["Node Type"] != "Seq Scan" or not scans or node is not scans[-1], json.dumps(node)
    return scans, removed


def test_a_stream_is_looked_for_in_its_partition_only(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str
) -> None:
    fill(store)
    request = ReadStream("s-1", 0, 2**62, backwards=False, limit=10)
    scans, removed = plan(pool, partitioned, request, "'s-1'", "0", str(2**62), "10")
    assert removed == PARTITIONS - 1
    assert [scan["Node Type"] for scan in scans] == ["Index Scan"]


def test_the_log_is_read_by_the_index_of_each_partition(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str
) -> None:
    fill(store)
    scans, _ = plan(pool, partitioned, ReadLog(5, 2**62, 10, None, None), "5", "10", str(2**62), str(2**62))
    assert [scan["Node Type"] for scan in scans] == ["Index Scan"] * PARTITIONS
    assert {scan["Index Name"].partition("_position")[1] for scan in scans} == {"_position"}


def test_what_caused_what_is_found_by_the_indexes_for_traces(
    store: PostgresEventStore, pool: ConnectionPool, partitioned: str
) -> None:
    with causing(correlation_id="c-1"):
        fill(store)
    fill(store, 0)
    assert len(trace(store, "c-1").events) == 60
    request = ReadRelated("correlation_id", [b"\xa3c-1"], 10)
    scans, _ = plan(pool, partitioned, request, r"ARRAY['\xa3632d31'::bytea]", r"ARRAY['\xa3632d31ff'::bytea]", "10")
    assert len(scans) == PARTITIONS
    assert all("substring" in scan["Index Name"] for scan in scans)


def test_verify_finds_nothing_wrong_and_a_guard_that_is_missing(
    store: PostgresEventStore, dsn: str, pool: ConnectionPool, partitioned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(store, 3)
    command = ["verify", "--dsn", dsn, "--schema", partitioned]
    assert main(command) == 0
    assert "9 events, up to position 9: 0 finding(s)" in capsys.readouterr().out
    execute(pool, f"DROP TRIGGER append_only ON {partitioned}.events_02")
    assert main(command) == 1
    assert "trigger append_only of events_02: it is missing" in capsys.readouterr().out


def test_roles_own_the_partitions_and_reach_them_through_the_table_only(
    dsn: str, pool: ConnectionPool, partitioned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = apply_roles(dsn, partitioned)
    try:
        assert main(["verify", "--dsn", dsn, "--schema", partitioned]) == 0
        capsys.readouterr()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(roles.writer)))
            connection.execute(f"SELECT count(*) FROM {partitioned}.events".encode())
            for name in NAMES:
                for use in ("SELECT * FROM {}", "DELETE FROM {}", "TRUNCATE {}", "ALTER TABLE {} DISABLE TRIGGER ALL"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(use.format(f"{partitioned}.{name}").encode())
        owners = execute(
            pool,
            "SELECT DISTINCT relowner::regrole::text FROM pg_class"
            f" WHERE relname LIKE 'events%' AND relkind IN ('r', 'p') AND relnamespace = '{partitioned}'::regnamespace",
        )
        assert owners == [(roles.owner,)]
    finally:
        with psycopg.connect(dsn) as connection:
            for role in roles:
                connection.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")


def test_who_has_locked_a_partition_is_named(store: PostgresEventStore, dsn: str, partitioned: str) -> None:
    fill(store, 2)
    with psycopg.connect(dsn, application_name="vacuuming") as connection:
        connection.execute(f"LOCK TABLE {partitioned}.events_01 IN ACCESS EXCLUSIVE MODE".encode())
        assert [(each.holds, each.application) for each in blocking_sessions(store)] == [("table", "vacuuming")]


def test_a_tenant_can_have_partitions(pool: ConnectionPool, partitioned: str) -> None:
    tenants = Tenants(pool, f"{partitioned}_")
    try:
        tenants.create("large", partitions=3).append("s", events(), 0)
        tenants.create("small")
        assert [(each.name, each.error) for each in tenants.migrate()] == [("large", None), ("small", None)]
        with pytest.raises(InvalidArgument, match="from 2 to 64"):
            tenants.create("other", partitions=1)
        found = execute(
            pool, f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{partitioned}_large.events'::regclass"
        )
        assert found == [(3,)]
    finally:
        for name in tenants.names():
            tenants.drop(name, confirm=name)


def test_streams_are_archived_and_restored(
    store: PostgresEventStore, dsn: str, partitioned: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(store, 8)
    for number in range(8):
        store.retire(f"s-{number}", reason="done")
    before = [(event.stream_id, event.version, event.event_id) for event in store.read_all()]
    where = ["--dsn", dsn, "--schema", partitioned]
    assert main(["archive", *where, "--category", "s", "--retired-for", "0s", "--to", str(tmp_path)]) == 0
    assert [event.version for event in store.read_all()] == [4] * 8
    assert main(["verify", *where]) == 0
    assert main(["restore", *where, str(tmp_path)]) == 0
    assert [(event.stream_id, event.version, event.event_id) for event in store.read_all()] == before
    capsys.readouterr()


DOCUMENTED = re.search(
    r"^### Divide an existing store\n(.*?)^##",
    (Path(__file__).parents[1] / "docs/postgresql.md").read_text(),
    re.DOTALL | re.MULTILINE,
)


def documented(part: int, old: str, new: str) -> str:
    """The SQL of docs/postgresql.md for these schemas."""
    assert DOCUMENTED is not None
    text = re.findall(r"^```postgresql\n(.*?)^```$", DOCUMENTED[1], re.DOTALL | re.MULTILINE)[part]
    names = {"eventstore_16": new, "eventstore_before": f"{old}_before", "eventstore": old}
    return re.sub("|".join(rf"\b{name}\b" for name in names), lambda found: names[found[0]], text)


def test_the_documented_copy_loses_no_write(dsn: str, pool: ConnectionPool, schema: str, partitioned: str) -> None:
    old, new = PostgresEventStore(pool, schema), PostgresEventStore(pool, partitioned)
    fill(old)
    mails = Subscription(old, "mails", lambda _: None)
    mails.run_until_caught_up()
    acknowledged: list[tuple[str, int, object]] = [
        (e.stream_id or "", e.version or 0, e.event_id) for e in old.read_all()
    ]
    started, ended = threading.Barrier(5), []

    def write(stream: str) -> None:
        version = 0
        try:
            while True:
                (event,) = events()
                if version % 2:
                    version = int(old.append(stream, [event], version))
                else:
                    with old.transaction() as transaction:
                        version = int(transaction.append(stream, [event], version))
                acknowledged.append((stream, version, event.event_id))
                if version == 5:
                    started.wait(60)
        except SchemaError as error:
            ended.append(error)

    writers = [threading.Thread(target=write, args=(f"w-{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    started.wait(60)
    try:
        for _ in range(2):
            execute(pool, documented(0, schema, partitioned))
        with pytest.raises(InvalidOperation):
            new.append("early", events(), 0)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(documented(1, schema, partitioned).encode())
        for writer in writers:
            writer.join(60)
        assert len(ended) == 4
        copied = [(event.stream_id, event.version, event.event_id) for event in new.read_all()]
        assert sorted(copied) == sorted(acknowledged)
        assert len(copied) > 80
        seen: list[Event] = []
        Subscription(new, "mails", seen.append).run_until_caught_up()
        assert len(seen) == len(copied) - 60
        assert new.append("w-0", events(), ExpectedVersion.STREAM_EXISTS).position > max(
            event.position or 0 for event in seen
        )
        assert main(["verify", "--dsn", dsn, "--schema", partitioned]) == 0
    finally:
        started.abort()
        execute(pool, f"ALTER SCHEMA {schema}_before RENAME TO {schema}")


def test_the_partitions_of_a_plain_store_are_none(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn) as connection:
        assert carried_out(connection.cursor(), partitions_of(schema)) == 0
