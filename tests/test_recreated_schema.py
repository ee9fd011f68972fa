"""A schema that is dropped and created again while sessions have prepared statements for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from eventstore import Event, PostgresEventStore, StoreUnavailable
from eventstore.postgres import migrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from fronts import Front
    from psycopg_pool import ConnectionPool


@pytest.fixture
def recreate(dsn: str, schema: str) -> Callable[[], None]:
    """Another session drops the schema and creates one of the same name."""

    def drop_and_create() -> None:
        with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            migrate(connection, schema)

    return drop_and_create


def event() -> Event:
    return Event(event_type="T")


@pytest.mark.parametrize("front", ["postgres", "async postgres"], indirect=True)
def test_a_store_continues_in_a_schema_that_was_created_again(front: Front, recreate: Callable[[], None]) -> None:
    front.store.append("s", [event()], 0)
    assert [each.version for each in front.store.read("s")] == [1]
    for _ in range(2):
        recreate()
        assert front.store.read("s") == []
        assert front.store.append("s", [event(), event()], 0) == 2
        assert [each.version for each in front.store.read("s")] == [1, 2]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_bound_store_continues_after_the_callers_transaction_was_rolled_back(
    dsn: str, pool: ConnectionPool, schema: str, recreate: Callable[[], None], *, autocommit: bool
) -> None:
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        store = PostgresEventStore(pool, schema).bind(connection)
        with connection.transaction():
            store.append("s", [event()], 0)
        recreate()
        with pytest.raises(StoreUnavailable, match="cached plan"), connection.transaction():
            store.append("s", [event()], 0)
        with connection.transaction():
            assert store.append("s", [event()], 0) == 1
