"""Rebuilding read models of several tables: what they refer to, and what a handler must not do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from eventstore import Event, ExpectedVersion, InvalidOperation, PostgresEventStore, PostgresTransaction, Projection
from eventstore.subscriptions import RebuildProgress

if TYPE_CHECKING:
    from collections.abc import Iterator


TABLES = """
    CREATE TABLE {0}parent (id text CONSTRAINT the_parents PRIMARY KEY, first_child integer);
    CREATE TABLE {0}child (
        number integer PRIMARY KEY, parent text NOT NULL REFERENCES {0}parent ON DELETE CASCADE
    );
    ALTER TABLE {0}parent ADD CONSTRAINT a_circle FOREIGN KEY (first_child) REFERENCES {0}child
        DEFERRABLE INITIALLY DEFERRED;
"""


@pytest.fixture
def connection(dsn: str, schema: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}_model")
        connection.execute(f"SET search_path = {schema}_model")
        connection.execute(TABLES.format(""))
        yield connection
        connection.execute(f"DROP SCHEMA {schema}_model CASCADE")


@pytest.fixture
def store(dsn: str, schema: str, connection: psycopg.Connection[Any]) -> Iterator[PostgresEventStore]:
    assert connection.autocommit
    options = f"-c search_path={schema}_model"
    with PostgresEventStore.connect(psycopg.conninfo.make_conninfo(dsn, options=options), schema) as store:
        for number in range(6):
            store.append(f"Family-{number % 2}", [Event(event_type="Born", data={})], ExpectedVersion.ANY)
        yield store


def born(event: Event, transaction: PostgresTransaction) -> None:
    execute = transaction.connection.execute
    execute("INSERT INTO parent VALUES (%s) ON CONFLICT ON CONSTRAINT the_parents DO NOTHING", [event.stream_id])
    execute("INSERT INTO child VALUES (%s, %s)", [event.position, event.stream_id])
    execute(
        "UPDATE parent SET first_child = %s WHERE id = %s AND first_child IS NULL", [event.position, event.stream_id]
    )


def contents(connection: psycopg.Connection[Any]) -> list[Any]:
    return [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("parent", "child")]


def leftovers(connection: psycopg.Connection[Any], schema: str) -> list[Any]:
    found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'eventstore_rebuild%'").fetchall()
    return found + connection.execute(f"SELECT name FROM {schema}.subscriptions WHERE partition = -1").fetchall()


@pytest.mark.parametrize("tables", [["parent", "child"], ["child", "parent"]])
def test_tables_that_refer_to_each_other_are_swapped_whatever_their_order(
    store: PostgresEventStore, connection: psycopg.Connection[Any], tables: list[str]
) -> None:
    projection = Projection(store, "families", born, tables=tables)
    projection.run_until_caught_up()
    expected = contents(connection)
    assert [len(rows) for rows in expected] == [2, 6]
    connection.execute("DELETE FROM child WHERE number = 6")
    projection.rebuild()
    assert contents(connection) == expected


def test_a_table_that_another_table_refers_to_is_refused_before_it_begins(
    store: PostgresEventStore, connection: psycopg.Connection[Any], schema: str
) -> None:
    projection = Projection(store, "families", born, tables=["parent"])
    projection.run_until_caught_up()
    expected = contents(connection)
    with pytest.raises(InvalidOperation, match=r"foreign key child_parent_fkey.*name it in tables too"):
        projection.rebuild()
    assert contents(connection) == expected
    assert leftovers(connection, schema) == []


def test_a_table_of_two_projections_is_refused(store: PostgresEventStore, connection: psycopg.Connection[Any]) -> None:
    def nothing(event: Event, transaction: PostgresTransaction) -> None: ...

    Projection(store, "others", nothing, tables=["child"]).run_until_caught_up()
    projection = Projection(store, "families", born, tables=["parent", "child"])
    projection.run_until_caught_up()
    with pytest.raises(InvalidOperation, match="belongs to the read model of 'others' as well"):
        projection.rebuild()
    assert len(contents(connection)[1]) == 6


def test_a_table_that_the_handler_writes_without_naming_it_is_found(
    store: PostgresEventStore, connection: psycopg.Connection[Any], schema: str
) -> None:
    connection.execute("CREATE TABLE audit (position bigint)")

    def both(event: Event, transaction: PostgresTransaction) -> None:
        born(event, transaction)
        transaction.connection.execute("INSERT INTO audit VALUES (%s)", [event.position])

    projection = Projection(store, "families", both, tables=["parent", "child"])
    projection.run_until_caught_up()
    with pytest.raises(InvalidOperation, match=r"_model\.audit in a rebuild"):
        projection.rebuild()
    assert connection.execute("SELECT count(*) FROM audit").fetchone() == (6,)
    assert leftovers(connection, schema) == []


def test_a_table_that_would_be_emptied_is_named_in_a_warning(
    store: PostgresEventStore, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute("CREATE TABLE totals (orders bigint)")
    connection.execute("INSERT INTO totals VALUES (0)")

    def count(_: Event, transaction: PostgresTransaction) -> None:
        transaction.connection.execute("UPDATE totals SET orders = orders + 1")

    projection = Projection(store, "totals", count, tables=["totals"])
    projection.run_until_caught_up()
    with caplog.at_level(logging.WARNING, "eventstore"):
        projection.rebuild()
    assert "leaves" in caplog.text
    assert "totals empty, which had rows" in caplog.text


def test_a_rebuild_parks_what_the_live_model_parks_and_leaves_out_what_was_dropped(
    store: PostgresEventStore, connection: psycopg.Connection[Any]
) -> None:
    def picky(event: Event, transaction: PostgresTransaction) -> None:
        if event.position in {2, 5}:
            raise ValueError("no such family")
        born(event, transaction)

    projection = Projection(
        store, "families", picky, tables=["parent", "child"], on_failure="park", attempts=1, batch_size=2
    )
    projection.run_until_caught_up()
    assert [event.position for event in projection.parked()] == [2, 5]
    projection.drop_parked(2)
    expected = contents(connection)
    tried: list[int] = []

    def watched(event: Event, transaction: PostgresTransaction) -> None:
        tried.append(event.position)
        picky(event, transaction)

    again = Projection(
        store, "families", watched, tables=["parent", "child"], on_failure="park", attempts=1, batch_size=2
    )
    again.rebuild()
    assert contents(connection) == expected
    assert [event.position for event in projection.parked()] == [5]
    assert 2 not in tried
    assert 5 in tried


def test_what_a_killed_rebuild_leaves_is_cleared_by_remove(
    store: PostgresEventStore, connection: psycopg.Connection[Any], schema: str
) -> None:
    projection = Projection(store, "families", born, tables=["parent", "child"])
    projection.run_until_caught_up()
    connection.execute(f"SELECT {schema}.begin_rebuild('families', ARRAY['parent', 'child'], 0)")
    assert len(leftovers(connection, schema)) == 2
    projection.remove()
    assert leftovers(connection, schema) == []


def test_another_role_that_took_the_name_of_the_last_rebuild_is_not_in_the_way_of_the_next(
    store: PostgresEventStore, connection: psycopg.Connection[Any], schema: str
) -> None:
    """The attack: a role that may create schemas occupies the name of the copies, so that no rebuild can begin."""
    projection = Projection(store, "families", born, tables=["parent", "child"])
    projection.run_until_caught_up()
    tables = [f"{schema}_model.parent", f"{schema}_model.child"]
    connection.execute(f"SELECT {schema}.begin_rebuild('families', %s, 0)", (tables,))
    ((taken,),) = connection.execute(f"SELECT {schema}.shadow_of('families')").fetchall()
    connection.execute(f"SELECT {schema}.abandon_rebuild('families')")
    connection.execute(f"CREATE ROLE squatter_{schema}; CREATE SCHEMA {taken} AUTHORIZATION squatter_{schema}")
    try:
        projection.rebuild()
        projection.remove()
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (taken,)).rowcount == 1
    finally:
        connection.execute(f"DROP SCHEMA {taken} CASCADE; DROP ROLE squatter_{schema}")


def test_whoever_may_write_checkpoints_can_not_have_another_schema_dropped(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    """The attack: a follower points a rebuild at another schema, and an operator removes the subscription."""
    rebuild = (
        f"INSERT INTO {schema}.subscriptions (name, partition, partitions, position, shadow) VALUES ('x', -1, 1, 0, %s)"
    )
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute(rebuild, (f"{schema}_model",))
    connection.execute(rebuild, (str(uuid4()),))
    ((shadow,),) = connection.execute(f"SELECT {schema}.shadow_of('x')").fetchall()
    assert shadow.startswith("eventstore_rebuild_")
    connection.execute(f"SELECT {schema}.remove_subscription('x')")


def test_a_rebuild_whose_subscription_is_removed_meanwhile_ends_in_words(
    store: PostgresEventStore, connection: psycopg.Connection[Any]
) -> None:
    projection = Projection(store, "families", born, tables=["parent", "child"], batch_size=1)

    def remove(_: RebuildProgress) -> None:
        projection.remove()

    with pytest.raises(InvalidOperation, match="no rebuild of families is under way: it was abandoned"):
        projection.rebuild(progress=remove)
    assert contents(connection) == [[], []]
