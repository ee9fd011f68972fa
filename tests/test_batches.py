"""Batches: append_many beyond the contract, and save_all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from accounts import Account
from baskets import Basket, Watched, fill
from psycopg import sql

from eventstore import (
    AppendOutcomeUnknown,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Repository,
    SnapshotStore,
    StoreUnavailable,
)
from eventstore.core.appending import MOST_STREAMS
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


def event() -> Event:
    return Event(event_type="T")


@pytest.fixture
def postgres(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


def test_a_batch_is_one_request(postgres: PostgresEventStore, requests: list[str]) -> None:
    postgres.append_many([(f"s-{number}", [event(), event()], 0) for number in range(100)])
    with postgres.transaction() as transaction:
        transaction.append_many([(f"s-{number}", [event()], 2) for number in range(100)])
    assert requests == ["AppendMany"] * 2
    assert len(list(postgres.read_all())) == 300


def test_a_batch_of_too_many_streams_is_refused(store: EventStore) -> None:
    batch = [(f"s-{number}", [event()], 0) for number in range(MOST_STREAMS + 1)]
    with pytest.raises(InvalidArgument, match="257 streams, more than the limit of 256: split the list"):
        store.append_many(batch)
    assert list(store.read_all()) == []
    assert len(store.append_many(batch[1:])) == MOST_STREAMS


@pytest.mark.parametrize(
    "batch",
    [
        None,
        7,
        "abc",
        [1],
        [("s", [])],
        [("s", [], 0, 1)],
        {"s": []},
        [("s", 7, 0)],
        [("s", [Event(event_type="A")] * 2, 0)],
    ],
    ids=str,
)
def test_what_is_not_a_batch_is_refused(store: EventStore, batch: Any) -> None:
    with pytest.raises(InvalidArgument):
        store.append_many(batch)


@pytest.mark.parametrize(("first", "second"), [(0, 2), (0, 0), (ExpectedVersion.ANY, 1)])
def test_a_stream_that_comes_again_has_to_continue(store: EventStore, first: int, second: int) -> None:
    with pytest.raises(InvalidArgument, match="was given stream 's' again with the expected version"):
        store.append_many([("s", [event()], first), ("s", [event()], second)])


def test_a_batch_wakes_subscriptions(store: Any) -> None:
    woken: list[int] = []
    with store.wakeups.calling(lambda: woken.append(1)):
        store.append_many([("s", [event()], 0)])
    assert woken != []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_in_an_older_view_a_conflict_leaves_the_transaction_usable(
    postgres: PostgresEventStore, connection: psycopg.Connection, level: str
) -> None:
    connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
    connection.execute("SELECT 1")
    postgres.append("a", [event()], 0)
    bound = postgres.bind(connection)
    with pytest.raises(ConcurrencyError) as conflict:
        bound.append_many([("b", [event()], 0), ("a", [event()], 0)])
    assert conflict.value.actual_version is None
    bound.append_many([("b", [event()], 0)])
    connection.commit()
    assert len(postgres.read("b")) == 1


def test_a_transaction_of_many_batches_takes_no_more_locks_than_it_may(
    postgres: PostgresEventStore, connection: psycopg.Connection
) -> None:
    bound = postgres.bind(connection)
    for batch in range(4):
        bound.append_many([(f"s-{batch}-{number}", [event()], 0) for number in range(100)])
    held = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchone()
    assert held is not None
    assert held[0] <= MOST_STREAMS + 1
    with pytest.raises(ConcurrencyError):
        bound.append_many([("s-3-1", [event()], 0)])
    connection.commit()
    assert len(list(postgres.read_all())) == 400


def test_readers_wait_for_a_batch_that_is_open(postgres: PostgresEventStore) -> None:
    with postgres.transaction() as transaction:
        transaction.append_many([("a", [event()], 0), ("b", [event()], 0)])
        postgres.append("c", [event()], 0)
        assert [each.stream_id for each in postgres.read_all()] == []
    assert [each.stream_id for each in postgres.read_all()] == ["a", "b", "c"]


@pytest.mark.parametrize("delivered", [True, False])
def test_a_batch_whose_answer_is_lost_is_stored_once(dsn: str, schema: str, *, delivered: bool) -> None:
    with Proxy(dsn) as proxy, PostgresEventStore.connect(proxy.dsn, schema, max_size=1) as store:
        store.append("b", [event()], 0)
        proxy.lose("append_many", delivered=delivered)
        versions = store.append_many([("a", [event(), event()], 0), ("b", [event()], 1)])
        assert versions == {"a": 2, "b": 2}
        assert len(list(store.read_all())) == 4


# --- save_all ---------------------------------------------------------------------------------------------------------


def transfer(store: EventStore) -> tuple[Account, Account]:
    source, target = Account("source"), Account("target")
    source.deposit(10)
    Repository(store, Account).save(source)
    source.withdraw(3)
    target.deposit(3)
    return source, target


def test_several_aggregates_are_saved_at_once(store: EventStore) -> None:
    source, target = transfer(store)
    accounts = Repository(store, Account)
    saved = accounts.save_all([source, target, Account("nothing")], metadata={"by": "a transfer"})
    assert saved == [2, 1, 0]
    assert [account.version for account in (source, target)] == [2, 1]
    assert source.pending == target.pending == ()
    assert (accounts.load("source").balance, accounts.load("target").balance) == (7, 3)
    assert store.read("Account-target")[0].metadata == {"by": "a transfer"}
    assert saved[1].position == store.last_position()


def test_saving_several_aggregates_is_one_request(postgres: PostgresEventStore, requests: list[str]) -> None:
    pair = transfer(postgres)
    requests.clear()
    Repository(postgres, Account).save_all(pair)
    assert requests == ["AppendMany"]


def test_a_conflict_of_one_aggregate_saves_none_and_changes_none(store: EventStore) -> None:
    source, target = transfer(store)
    Repository(store, Account).update("source", lambda account: account.withdraw(9))
    with pytest.raises(ConcurrencyError) as conflict:
        Repository(store, Account).save_all([target, source])
    assert conflict.value.stream_id == "Account-source"
    assert (source.version, len(source.pending), target.version, len(target.pending)) == (1, 1, 0, 1)
    assert not Repository(store, Account).exists("target")


def test_one_aggregate_twice_is_refused(store: EventStore) -> None:
    source, _ = transfer(store)
    for several in ([source, source], [source, Account("source")]):
        with pytest.raises(InvalidArgument, match="the same aggregate twice"):
            Repository(store, Account).save_all(several)
    with pytest.raises(InvalidArgument, match="this repository is for Account"):
        Repository(store, Account).save_all([source, Basket("1")])  # type: ignore[list-item]


def test_aggregates_whose_transaction_was_rolled_back_are_saved_again(store: EventStore) -> None:
    source, target = transfer(store)
    with pytest.raises(InvalidOperation, match="again"), store.transaction() as transaction:
        Repository(transaction, Account).save_all([source, target])
        raise InvalidOperation("again")
    source.deposit(1)
    assert Repository(store, Account).save_all([source, target]) == [3, 1]
    assert [event.data["amount"] for event in store.read("Account-source")] == [10, 3, 1]
    assert Repository(store, Account).save_all([source, target]) == [3, 1]


def test_several_saves_bring_the_cache_up_to_date(store: EventStore) -> None:
    watched = Watched(store)
    accounts = Repository(watched, Account, cache=10)
    source, target = transfer(store)
    accounts.save_all([source, target])
    assert accounts.load("target").balance == 3
    accounts.load("source")
    source.deposit(1)
    accounts.save_all([source])
    watched.read_count = 0
    assert accounts.load("source").balance == 8
    assert watched.read_count == 1


def test_several_saves_take_snapshots(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, snapshot_frequency=10)
    several = [fill(repository, str(number), 5) for number in range(3)]
    for basket in several[1:]:
        basket.add(*range(5))
    repository.save_all(several)
    taken = [snapshots.load("Basket", str(number), Basket.class_schema()) for number in range(3)]
    assert [snapshot and snapshot.version for snapshot in taken] == [None, 10, 10]


class Down(Watched):
    def append_many(self, appends: Any) -> Any:
        super().append_many(appends)
        raise AppendOutcomeUnknown("s", []) if self.reads else StoreUnavailable("down")


def test_an_unknown_outcome_leaves_the_aggregates_to_be_saved_again(store: EventStore) -> None:
    source, target = transfer(store)
    down = Down(store)
    with pytest.raises(StoreUnavailable):
        Repository(down, Account).save_all([source, target])
    assert Repository(store, Account).save_all([source, target]) == [2, 1]
    assert len(store.read("Account-source")) == 2


def test_positions_of_a_batch_are_those_of_its_events(postgres: PostgresEventStore, schema: str) -> None:
    postgres.append("a", [event()], 0)
    versions = postgres.append_many([("b", [event()], 0), ("a", [event()], 1), ("b", [event()], 1)])
    with postgres.connections.pool().connection() as connection:
        rows = connection.execute(
            sql.SQL("SELECT stream_id, max(position) FROM {}.events GROUP BY 1").format(sql.Identifier(schema))
        ).fetchall()
    assert {name: version.position for name, version in versions.items()} == dict(rows)
