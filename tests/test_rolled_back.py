"""Units of work that are rolled back: aggregates that were saved in them can be saved again, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from baskets import Basket, SnapshotsAdded, fill

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncPostgresEventStore,
    AsyncRepository,
    ConcurrencyError,
    EventStore,
    ExpectedVersion,
    PostgresEventStore,
    Repository,
)
from eventstore.testing import EventLoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator


class Failed(Exception):
    """What goes wrong later in a unit of work."""


def numbers(store: EventStore, aggregate_id: str = "1") -> list[int]:
    return [event.data["number"] for event in store.read(f"Basket-{aggregate_id}")]


def save_and_roll_back(store: EventStore, basket: Basket) -> None:
    with pytest.raises(Failed), store.transaction() as transaction:
        Repository(transaction, Basket).save(basket)
        raise Failed


def test_an_aggregate_is_stored_by_the_next_save(store: EventStore) -> None:
    baskets = Repository(store, Basket)
    basket = Basket("1")
    basket.add(1, 2)
    save_and_roll_back(store, basket)
    assert not baskets.exists("1")
    baskets.save(basket)
    assert (numbers(store), basket.version) == ([1, 2], 2)
    baskets.save(basket)
    assert numbers(store) == [1, 2]


def test_what_was_decided_after_the_rollback_comes_after_it(store: EventStore) -> None:
    baskets = Repository(store, Basket)
    basket = fill(baskets, "1", 1)
    basket.add(10)
    save_and_roll_back(store, basket)
    basket.add(11)
    save_and_roll_back(store, basket)
    basket.add(12)
    baskets.save(basket)
    assert (numbers(store), basket.version, basket.pending) == ([0, 10, 11, 12], 4, ())
    assert baskets.load("1").__dict__ == basket.__dict__


def test_the_unit_of_work_can_be_tried_again_as_a_whole(store: EventStore) -> None:
    first, second = Basket("1"), Basket("2")
    first.add(1)
    second.add(2)
    for attempt in range(3):
        try:
            with store.transaction() as transaction:
                baskets = Repository(transaction, Basket)
                baskets.save(first)
                baskets.save(second)
                if attempt < 2:
                    raise Failed
        except Failed:
            continue
    assert (numbers(store, "1"), numbers(store, "2")) == ([1], [2])


def test_a_savepoint_that_is_rolled_back_loses_nothing_either(store: EventStore) -> None:
    basket = Basket("1")
    basket.add(1)
    with store.transaction() as transaction:
        baskets = Repository(transaction, Basket)
        baskets.save(basket)
        basket.add(2)
        with pytest.raises(Failed), transaction.transaction() as savepoint:
            Repository(savepoint, Basket).save(basket)
            raise Failed
        basket.add(3)
        baskets.save(basket)
    assert (numbers(store), basket.version) == ([1, 2, 3], 3)


def test_after_a_savepoint_is_rolled_back_the_commit_confirms_only_what_it_holds(store: EventStore) -> None:
    basket = Basket("1")
    basket.add(1)
    with store.transaction() as transaction:
        Repository(transaction, Basket).save(basket)
        basket.add(2)
        with pytest.raises(Failed), transaction.transaction() as savepoint:
            Repository(savepoint, Basket).save(basket)
            raise Failed
    assert numbers(store) == [1]
    Repository(store, Basket).save(basket)
    assert numbers(store) == [1, 2]


def test_somebody_who_was_faster_after_the_rollback_is_a_conflict(store: EventStore) -> None:
    basket = Basket("1")
    basket.add(1)
    save_and_roll_back(store, basket)
    store.append("Basket-1", [SnapshotsAdded(number=99)], ExpectedVersion.NO_STREAM)
    basket.add(2)
    before = dict(basket.__dict__)
    for _ in range(2):
        with pytest.raises(ConcurrencyError):
            Repository(store, Basket).save(basket)
        assert basket.__dict__ == before
    assert numbers(store) == [99]


def test_a_commit_that_was_seen_is_not_sent_again(store: EventStore) -> None:
    basket = Basket("1")
    basket.add(1)
    with store.transaction() as transaction:
        Repository(transaction, Basket).save(basket)
        assert basket._unconfirmed != []
    assert basket._unconfirmed == []
    ordinary = fill(Repository(store, Basket), "2", 3)
    assert ordinary._unconfirmed == []


def test_in_a_transaction_of_the_callers_saving_again_stores_it_once(
    postgres: PostgresEventStore, connection: psycopg.Connection[Any]
) -> None:
    """Whether the caller committed or rolled back is not seen: the next save is right in either case."""
    bound = Repository(postgres.bind(connection), Basket)
    basket = Basket("1")
    basket.add(1)
    bound.save(basket)
    connection.rollback()
    basket.add(2)
    bound.save(basket)
    connection.commit()
    assert numbers(postgres) == [1, 2]
    basket.add(3)
    Repository(postgres, Basket).save(basket)
    assert (numbers(postgres), basket._unconfirmed) == ([1, 2, 3], [])


def test_an_async_aggregate_is_stored_by_the_next_save_after_a_rollback(
    async_store: Any, loop_thread: EventLoopThread
) -> None:
    async def scene() -> None:
        basket = Basket("1")
        basket.add(1)
        with pytest.raises(Failed):
            async with async_store.transaction() as transaction:
                await AsyncRepository(transaction, Basket).save(basket)
                with pytest.raises(ZeroDivisionError):
                    async with transaction.transaction() as savepoint:
                        basket.add(2)
                        await AsyncRepository(savepoint, Basket).save(basket)
                        _ = 1 / 0
                raise Failed
        basket.add(3)
        async with async_store.transaction() as transaction:
            await AsyncRepository(transaction, Basket).save(basket)
        assert [event.data["number"] for event in await async_store.read("Basket-1")] == [1, 2, 3]
        assert (basket.version, basket.pending, basket._unconfirmed) == (3, (), [])

    loop_thread.run(scene())


@pytest.fixture
def postgres(pool: Any, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def loop_thread() -> Iterator[EventLoopThread]:
    with EventLoopThread() as thread:
        yield thread


@pytest.fixture(params=["memory", "postgres"])
def async_store(request: pytest.FixtureRequest, loop_thread: EventLoopThread) -> Iterator[Any]:
    if request.param == "memory":
        yield AsyncInMemoryEventStore()
        return
    dsn, schema = request.getfixturevalue("dsn"), request.getfixturevalue("schema")
    store = AsyncPostgresEventStore.connect(dsn, schema)
    yield store
    loop_thread.run(store.close())
