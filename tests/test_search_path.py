"""Another role's functions and operators never run in the place of those that the library calls.

The attack: a schema on everybody's path, as `public` was before PostgreSQL 15, in which a role without privileges makes
overloads that fit a call better than those of pg_catalog do, or as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import eventstore.postgres
from eventstore import (
    Event,
    ExpectedVersion,
    PostgresEventStore,
    PostgresSnapshotStore,
    PostgresTransaction,
    Projection,
    Snapshot,
)
from eventstore.core.requests import ListBlockingSessions
from eventstore.postgres import migrate
from eventstore.postgres.migrations import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES = Path(eventstore.postgres.__file__).parent
CALLED = sorted(
    {
        name
        for text in [*(file.text for file in migrations()), *(path.read_text() for path in POSTGRES.rglob("*.py"))]
        for name in re.findall(r"\b([a-z_0-9]+) ?\(", text)
    }
)
"""Whatever looks like a call in the SQL of the package; that much of it is Python does no harm."""
TYPES = ["bigint", "integer", "text", "name", "oid", "boolean", "uuid", "bytea", "regclass", '"char"']
TYPES += ["timestamp with time zone", "double precision", "text[]", "uuid[]", "bytea[]", "integer[]", "bigint[]"]
TYPES += ["timestamp with time zone[]", "name[]", "oid[]", "regclass[]", "smallint", "interval", "numeric", "xid8"]

PLANT = """
    DO $plant$
    DECLARE
        _overload record;
        _attack text := 'LANGUAGE plpgsql AS $attack$ BEGIN RAISE EXCEPTION ''attacked''; END $attack$';
    BEGIN
        -- Each function of pg_catalog by that name, each of its parameters of each type: a better match, or as good.
        FOR _overload IN
            SELECT DISTINCT proname, list
            FROM pg_proc, unnest({types}) AS kind, generate_series(0, greatest(pronargs - 1, 0)) AS place, LATERAL (
                SELECT coalesce(string_agg(
                    CASE WHEN ordinal - 1 = place THEN kind ELSE format_type(argument, NULL) END, ', ' ORDER BY ordinal
                ), '') AS list
                FROM unnest(proargtypes) WITH ORDINALITY AS each (argument, ordinal)
            ) AS replaced
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ({names}) AND pronargs BETWEEN 1 AND 4
                AND provariadic = 0 AND list !~ '\\m(any|internal|cstring|record|trigger)'
        LOOP
            BEGIN
                EXECUTE format(
                    'CREATE FUNCTION public.%I(%s) RETURNS text %s', _overload.proname, _overload.list, _attack);
            EXCEPTION WHEN duplicate_function OR invalid_function_definition THEN
                NULL;
            END;
        END LOOP;
        FOR _overload IN
            SELECT oprname, result, 'attack_' || md5(oprname) AS function, l.kind AS left_type, r.kind AS right_type
            FROM (VALUES
                ('||', 'text'), ('=', 'boolean'), ('<>', 'boolean'), ('<', 'boolean'), ('>', 'boolean'),
                ('<=', 'boolean'), ('>=', 'boolean'), ('+', 'bigint'), ('-', 'bigint'), ('&', 'bigint'), ('%', 'bigint')
            ) AS operators (oprname, result), unnest({types}) AS l (kind), unnest({types}) AS r (kind)
        LOOP
            EXECUTE format(
                'CREATE FUNCTION public.%I(%s, %s) RETURNS %s %s', _overload.function, _overload.left_type,
                _overload.right_type, _overload.result, _attack);
            EXECUTE format(
                'CREATE OPERATOR public.%s (FUNCTION = public.%I, LEFTARG = %s, RIGHTARG = %s)', _overload.oprname,
                _overload.function, _overload.left_type, _overload.right_type);
        END LOOP;
    END
    $plant$
"""


@pytest.fixture(scope="module")
def attacked(dsn: str) -> Iterator[str]:
    """A database in which overloads of every name that the library calls stand in a schema on the path."""
    name = f"attacked_{uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(make_conninfo(dsn, dbname=name), autocommit=True) as inside:
            planted = PLANT.replace("{names}", literal(CALLED)).replace("{types}", literal(TYPES))
            inside.execute("SET search_path = pg_catalog")  # What plants them is not to run them.
            inside.execute(planted.encode())
        yield make_conninfo(dsn, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def literal(names: list[str]) -> str:
    return "ARRAY[" + ", ".join(f"'{name}'" for name in names) + "]::text[]"


def test_the_overloads_that_are_planted_would_be_called(attacked: str) -> None:
    """So that the tests below can fail: plain calls, as a program may make them, are taken over."""
    with psycopg.connect(attacked, autocommit=True) as connection:
        for call in ("hashtextextended('a'::text, 1)", "'a'::text || 1::oid", "unnest(ARRAY[1::bigint])"):
            with pytest.raises(psycopg.errors.RaiseException, match="attacked"):
                connection.execute(f"SELECT {call}".encode())


def count(_: Event, transaction: PostgresTransaction) -> None:
    transaction.connection.execute("INSERT INTO totals VALUES (1)")


def test_nothing_that_the_library_does_runs_planted_overloads(attacked: str) -> None:
    migrate(attacked)
    assert migrate(attacked) == []
    with (
        PostgresEventStore.connect(attacked, notify=True) as store,
        PostgresSnapshotStore.connect(attacked) as snapshots,
    ):
        for expected in (0, 1, ExpectedVersion.ANY, ExpectedVersion.STREAM_EXISTS):
            store.append("Order-1", [Event(event_type="T")], expected)
        with store.transaction() as transaction:
            transaction.append("Order-2", [Event(event_type="T")], 0)
            with transaction.transaction() as savepoint:
                savepoint.append("Order-1", [Event(event_type="T")], 4)
            assert len(list(transaction.read_all())) == 6
        with psycopg.connect(attacked) as connection:
            store.bind(connection).append("Order-3", [Event(event_type="T")], 0)
        assert len(store.read("Order-1")) == len(store.read("Order-1", backwards=True, limit=5)) == 5
        assert len(list(store.read_all())) == 7
        assert len(list(store.read_all(event_types=["T"], categories="Order"))) == 7
        snapshot = Snapshot("Order", "1", "schema", 2, uuid4(), b"state", b"checksum")
        snapshots.save(snapshot)
        assert snapshots.load("Order", "1", "schema") == snapshot
        snapshots.delete("Order", "1")
        assert store.execute(ListBlockingSessions("Order-1")) == []
        follow(store, attacked)


def follow(store: PostgresEventStore, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE totals (number bigint)")
    options: dict[str, Any] = {"partitions": 2, "on_failure": "park", "attempts": 1}
    projection = Projection(store, "totals", count, tables=["totals"], **options)
    projection.run_until_caught_up()
    assert projection.status().position == 7
    failing = Projection(store, "failing", lambda *_: 1 / 0, **options)
    failing.run_until_caught_up()
    first, *_ = failing.parked()
    failing.drop_parked(first.position)
    failing.remove()
    projection.rebuild()
    assert projection.status().position == 7
