"""A schema that is dropped and made again under sessions that have prepared statements for it."""

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
def make_again(dsn: str, schema: str) -> Callable[[], None]:
    """Another session drops the schema and makes a new one, of the same name."""

    def drop_and_make() -> None:
        with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            migrate(connection, schema)

    return drop_and_make


def event() -> Event:
    return Event(event_type="T")


@pytest.mark.parametrize("front", ["postgres", "async postgres"], indirect=True)
def test_a_store_goes_on_with_the_new_one(front: Front, make_again: Callable[[], None]) -> None:
    front.store.append("s", [event()], 0)
    assert [each.version for each in front.store.read("s")] == [1]
    for _ in range(2):
        make_again()
        assert front.store.read("s") == []
        assert front.store.append("s", [event(), event()], 0) == 2
        assert [each.version for each in front.store.read("s")] == [1, 2]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_bound_store_goes_on_once_the_callers_transaction_is_rolled_back(
    dsn: str, pool: ConnectionPool, schema: str, make_again: Callable[[], None], *, autocommit: bool
) -> None:
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        store = PostgresEventStore(pool, schema).bind(connection)
        with connection.transaction():
            store.append("s", [event()], 0)
        make_again()
        with pytest.raises(StoreUnavailable, match="cached plan"), connection.transaction():
            store.append("s", [event()], 0)
        with connection.transaction():
            assert store.append("s", [event()], 0) == 1
