"""Tenants: stores in schemas of their own on one pool, which can't touch each other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from eventstore import (
    AccessDenied,
    Event,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    SchemaError,
    Snapshot,
)
from eventstore.cli import main
from eventstore.postgres import Tenants, apply_roles
from eventstore.postgres.statements import Statements

if TYPE_CHECKING:
    pass


def event() -> list[Event]:
    return [Event(event_type="T")]


def test_each_tenant_has_its_own_events(tenants: Tenants) -> None:
    one, two = tenants.create("one"), tenants.create("two")
    one.append("Order-1", event(), 0)
    assert two.read("Order-1") == []
    two.append("Order-1", event() + event(), 0)
    assert [len(list(store.read_all())) for store in (one, two)] == [1, 2]
    assert tenants.names() == ["one", "two"]
    tenants.snapshot_store("one").save(Snapshot("Order", "1", "s", 1, event()[0].event_id, b"", b""))
    assert tenants.snapshot_store("two").load("Order", "1", "s") is None


def test_the_store_of_a_tenant_is_the_same_object_each_time(tenants: Tenants) -> None:
    tenants.create("one")
    assert tenants.store("one") is tenants.store("one")
    assert tenants.store("one") is not tenants.store("two")


def test_a_tenant_is_created_once(tenants: Tenants) -> None:
    tenants.create("one").append("s", event(), 0)
    with pytest.raises(InvalidOperation, match="tenant 'one' exists already"):
        tenants.create("one")
    assert len(tenants.store("one").read("s")) == 1


def test_two_that_create_a_tenant_at_once_don_t_both_succeed(tenants: Tenants) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            tenants.create("one")
            outcomes.append("created")
        except InvalidOperation:
            outcomes.append("exists")

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created", "exists", "exists"]


def test_a_tenant_that_does_not_exist_is_said_at_its_first_use(tenants: Tenants) -> None:
    with pytest.raises(SchemaError):
        tenants.store("nobody").read("s")


HOSTILE: list[Any] = [
    "", "*", "a b", 'a"; DROP SCHEMA public CASCADE; --', "A", "é", "a.b", "a%s", "a\0", "a\n", "$eventstore$", "../a",
    "x" * 64, None, 7, b"a",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_before_anything_happens(tenants: Tenants, name: Any) -> None:
    uses = (tenants.schema, tenants.create, tenants.store, tenants.snapshot_store, lambda n: tenants.drop(n, confirm=n))
    for use in uses:
        with pytest.raises(InvalidArgument):
            use(name)
    assert tenants.names() == []
    (outcome,) = tenants.migrate([name])
    assert isinstance(outcome.error, InvalidArgument)


@pytest.mark.parametrize("prefix", ["", "pg_", "x" * 64, None])
def test_an_invalid_prefix_is_refused(pool: ConnectionPool, prefix: Any) -> None:
    with pytest.raises(InvalidArgument):
        Tenants(pool, prefix)


def test_only_tenants_with_this_prefix_are_listed(tenants: Tenants, pool: ConnectionPool, prefix: str) -> None:
    tenants.create("one")
    Tenants(pool, f"{prefix[:-3]}_x_").create("other")
    with pool.connection() as connection:
        connection.execute(f'CREATE SCHEMA "{prefix}plain"')
    try:
        assert tenants.names() == ["one"]
    finally:
        Tenants(pool, f"{prefix[:-3]}_x_").drop("other", confirm="other")


def test_all_tenants_are_migrated_and_a_failure_stops_none(tenants: Tenants, pool: ConnectionPool, prefix: str) -> None:
    for name in ("one", "two", "three"):
        tenants.create(name)
    with pool.connection() as connection:
        connection.execute(f"UPDATE {prefix}one.migrations SET checksum = 'other' WHERE number = 1")
        connection.execute(f"DELETE FROM {prefix}two.migrations WHERE name = 'operations'")
        connection.execute(f"DROP TABLE {prefix}two.archived_streams, {prefix}two.restored_events")
        for function in ("archived_digests", "archive_streams", "restore_streams"):
            connection.execute(f"DROP FUNCTION {prefix}two.{function}")
    for applied in (("0010_operations",), ()):
        found = {each.name: each for each in tenants.migrate()}
        assert sorted(found) == ["one", "three", "two"]
        assert isinstance(found["one"].error, SchemaError)
        assert (found["two"].applied, found["two"].error) == (applied, None)
        assert (found["three"].applied, found["three"].error) == ((), None)


@pytest.mark.parametrize("at_once", [0, -1, True, "4"])
def test_a_number_that_can_not_be_migrated_at_once_is_refused(tenants: Tenants, at_once: Any) -> None:
    with pytest.raises(InvalidArgument, match="at_once"):
        tenants.migrate(at_once=at_once)


def test_a_tenant_is_dropped_only_if_its_name_is_given_twice(tenants: Tenants) -> None:
    tenants.create("one")
    tenants.create("two")
    for confirm in ("two", "", "ONE"):
        with pytest.raises(InvalidArgument, match="confirm must be 'one'"):
            tenants.drop("one", confirm=confirm)
    tenants.drop("one", confirm="one")
    assert tenants.names() == ["two"]
    with pytest.raises(InvalidArgument, match="there is no tenant 'one'"):
        tenants.drop("one", confirm="one")
    assert tenants.create("one").read("s") == []


def test_no_statement_of_a_tenant_names_another_schema(tenants: Tenants, pool: ConnectionPool, prefix: str) -> None:
    tenants.create("one")
    statements = Statements(f"{prefix}one")
    for each in (statements, statements.in_transaction):
        for variants in each._statements.values():
            for statement in variants:
                text = statement.text.decode().replace(f'"{prefix}one"', "")
                assert prefix not in text
                assert "{" not in text
    with pool.connection() as connection:
        bodies = connection.execute(
            "SELECT proname, coalesce(pg_get_function_sqlbody(oid), prosrc), proconfig FROM pg_proc"
            " WHERE pronamespace = %s::regnamespace",
            (f"{prefix}one",),
        ).fetchall()
    assert bodies
    for _, body, _ in bodies:
        assert prefix not in body.replace(f'"{prefix}one"', "")


def test_a_tenant_with_a_pool_of_its_own_can_not_reach_another_one(tenants: Tenants, dsn: str, prefix: str) -> None:
    tenants.create("one")
    tenants.create("two").append("s", event(), 0)
    roles = apply_roles(dsn, f"{prefix}one")
    try:
        login = make_conninfo(dsn, options=f"-c role={roles.writer}")
        with PostgresEventStore.connect(login, f"{prefix}one") as own:
            own.append("s", event(), 0)
        with PostgresEventStore.connect(login, f"{prefix}two") as other, pytest.raises(AccessDenied):
            other.read("s")
    finally:
        with psycopg.connect(dsn) as connection:
            for role in roles:
                connection.execute(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_command_runs_for_each_schema_that_fits(
    tenants: Tenants, dsn: str, prefix: str, pool: ConnectionPool, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        tenants.create(name).append("s", event(), 0)
    for command in ("migrate", "status", "verify"):
        assert main([command, "--dsn", dsn, "--schema", f"{prefix}*"]) == 0
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("==")] == [
            f"== {prefix}one",
            f"== {prefix}two",
        ]
    with pool.connection() as connection:
        connection.execute(f"SELECT setval('{prefix}one.event_positions', 1, false)")
    assert main(["verify", "--dsn", dsn, "--schema", f"{prefix}*"]) == 1
    shown = capsys.readouterr()
    assert "1 events, up to position 1: 0 finding(s)" in shown.out.partition(f"== {prefix}two")[2]
    assert "1 of 2 schemas: see above" in shown.err


@pytest.mark.parametrize(
    ("command", "pattern", "message"),
    [
        (["streams"], "tenant_*", "`eventstore streams` is for one schema"),
        (["migrate"], "nobody_*", "there is no store in a schema like 'nobody_*'"),
    ],
)
def test_a_pattern_that_can_not_be_used_is_refused(
    dsn: str, capsys: pytest.CaptureFixture[str], command: list[str], pattern: str, message: str
) -> None:
    assert main([*command, "--dsn", dsn, "--schema", pattern]) == 1
    assert message in capsys.readouterr().err
