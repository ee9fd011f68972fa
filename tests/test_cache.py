"""A repository's cache: one request a command, and never a decision that an old state has the last word in."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from accounts import Account, AccountsDeposited, compete
from baskets import Basket, Watched, fill, warnings_in
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from eventstore import (
    Aggregate,
    AggregateNotFound,
    AppendOutcomeUnknown,
    AsyncInMemoryEventStore,
    AsyncRepository,
    ConcurrencyError,
    Event,
    EventStore,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Repository,
    SnapshotStore,
    StoreUnavailable,
    handles,
)
from eventstore.core import cache
from eventstore.core.cache import AggregateCache

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


@pytest.fixture
def accounts(store: EventStore) -> Repository[Account]:
    """A repository with a cache, which has an account with 5."""
    repository = Repository(store, Account, cache=10)
    account = Account("1")
    account.deposit(5)
    repository.save(account)
    return repository


def elsewhere(store: EventStore, *amounts: int) -> None:
    """Another process deposits, or withdraws, at the account."""
    for amount in amounts:
        Repository(store, Account).update(
            "1", lambda account, amount=amount: account.deposit(amount) if amount > 0 else account.withdraw(-amount)
        )


@pytest.mark.parametrize("size", [0, -1, 1.5, "10", True])
def test_an_invalid_cache_size_is_refused(size: Any) -> None:
    with pytest.raises(InvalidArgument, match="cache must be a number of aggregates, an int of at least 1"):
        Repository(InMemoryEventStore(), Account, cache=size)


def test_a_command_on_a_cached_aggregate_is_one_request(pool: ConnectionPool, schema: str, requests: list[str]) -> None:
    accounts = Repository(PostgresEventStore(pool, schema), Account, cache=10)
    account = Account("1")
    account.deposit(5)
    accounts.save(account)
    for _ in range(3):
        accounts.update("1", lambda account: account.withdraw(1))
    assert requests == ["Append"] * 4
    assert (accounts.load("1").balance, requests[4:]) == (2, ["ReadStream"])


def test_a_load_of_a_cached_aggregate_reads_what_happened_since(store: EventStore) -> None:
    watched = Watched(store)
    baskets = Repository(watched, Basket, cache=10)
    fill(baskets, "1", 25)
    Repository(store, Basket).update("1", lambda basket: basket.add(1, 2))
    loaded = baskets.load("1")
    assert loaded.__dict__ == Basket.from_events("1", store.read("Basket-1")).__dict__
    assert watched.read_count == 3  # The event that the cached state stands at shows that it is of this stream.


def test_a_conflict_is_tried_again_with_what_happened_since(store: EventStore, accounts: Repository[Account]) -> None:
    elsewhere(store, 10, -3)
    updated = accounts.update("1", lambda account: account.withdraw(1), attempts=1)
    assert (updated.balance, updated.version) == (11, 4)


def test_a_refusal_is_tried_again_with_what_happened_since(store: EventStore, accounts: Repository[Account]) -> None:
    elsewhere(store, 10)
    assert accounts.update("1", lambda account: account.withdraw(12), attempts=1).balance == 3


def test_a_change_that_records_nothing_is_tried_again_with_what_happened_since(
    store: EventStore, accounts: Repository[Account]
) -> None:
    elsewhere(store, 10)
    updated = accounts.update("1", lambda account: account.withdraw(12) if account.balance >= 12 else None, attempts=1)
    assert updated.balance == 3


def test_a_refusal_that_is_right_is_raised(store: EventStore, accounts: Repository[Account]) -> None:
    elsewhere(store, -5)
    with pytest.raises(InvalidOperation, match="the balance is 0"):
        accounts.update("1", lambda account: account.withdraw(1))


def test_an_event_id_that_only_the_old_state_would_record_again_is_no_error(
    store: EventStore, accounts: Repository[Account]
) -> None:
    """As a consumer does that takes its events' ids from messages, and looks at the state for what it has seen."""
    event = AccountsDeposited(amount=7, event_id=UUID("01890000-0000-7000-8000-000000000001"))

    def once(account: Account) -> None:
        if account.balance < 10:
            account._record(event)

    elsewhere(store, 1)
    Repository(store, Account).update("1", once)
    assert accounts.update("1", once).balance == 13


def test_what_an_update_returns_is_the_callers_own(accounts: Repository[Account]) -> None:
    for call in (lambda: accounts.update("1", lambda account: account.deposit(1)), lambda: accounts.load("1")):
        call().balance = 1_000
    assert accounts.load("1").balance == 6
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 7


class CacheListed(Event):
    names: list[str]


class CacheList(Aggregate["CacheList"]):
    names: list[str] = field(default_factory=list)

    @handles(CacheListed)
    def _listed(self, event: CacheListed) -> None:
        self.names = event.names  # Shared with the event.


def test_nothing_that_a_program_holds_is_shared_with_the_cache(store: EventStore) -> None:
    lists = Repository(store, CacheList, cache=10)
    made, event = CacheList("1"), CacheListed(names=["a"])
    made._record(event)
    held: list[Any] = [made, event, *made.pending]
    lists.save(made)

    def change(found: CacheList) -> None:
        found._record(CacheListed(names=["b"]))
        held.extend([found, *found.pending])

    for expected in ("a", "b"):
        held.append(lists.load("1"))
        for each in held:
            each.names.append("not an event")
        assert lists.load("1").names == [expected]
        held.append(lists.update("1", change))


def test_what_a_change_has_done_before_it_raised_is_gone(accounts: Repository[Account]) -> None:
    def change(account: Account) -> None:
        account.balance = 1_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        accounts.update("1", change)
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 6


def test_a_transaction_that_is_rolled_back_leaves_nothing_in_the_cache(
    store: EventStore, accounts: Repository[Account]
) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        within = Repository(transaction, Account, cache=10)
        within.update("1", lambda account: account.deposit(100))
        within.update("1", lambda account: account.deposit(100))
        assert within.load("1").balance == 205
        created = Account("2")
        created.deposit(1)
        within.save(created)
        raise ZeroDivisionError
    with pytest.raises(InvalidOperation):
        within.load("1")
    assert [within._operations._from_cache(each) for each in ("1", "2")] == [None, None]
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        within = Repository(transaction, Account, cache=10)
        within.load("1")
        with transaction.transaction():
            within.update("1", lambda account: account.deposit(100))
            raise ZeroDivisionError
    assert within._operations._from_cache("1") is None
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 6


def test_a_transaction_fills_the_cache_once_it_has_committed(store: EventStore, accounts: Repository[Account]) -> None:
    with store.transaction() as transaction:
        within = Repository(transaction, Account, cache=10)
        within.load("1")
        assert within._operations._from_cache("1") is None
    cached = within._operations._from_cache("1")
    assert cached is not None
    assert cached.__dict__ == accounts.load("1").__dict__


class Losing(Watched):
    """A store whose appends are stored, or not, before they fail."""

    error: Exception | None = None
    stores = True

    def append(self, stream_id: str, events: Any, expected_version: int) -> int:
        if self.error is None:
            return super().append(stream_id, events, expected_version)
        if self.stores:
            super().append(stream_id, events, expected_version)
        raise self.error


@pytest.mark.parametrize("stores", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("error", [AppendOutcomeUnknown("Account-1", []), StoreUnavailable("down")], ids=repr)
def test_after_an_append_that_failed_the_next_command_starts_from_what_is_stored(
    store: EventStore, error: Exception, *, stores: bool
) -> None:
    losing = Losing(store)
    accounts = Repository(losing, Account, cache=10)
    account = Account("1")
    account.deposit(5)
    accounts.save(account)
    losing.error, losing.stores = error, stores
    with pytest.raises(type(error)):
        accounts.update("1", lambda account: account.deposit(1))
    losing.error = None
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 6 + stores


def test_another_history_at_the_same_version_is_noticed_by_a_load(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a restore of the database."""
    switched = Watched(store)
    accounts = Repository(switched, Account, cache=10)
    account = Account("1")
    account.deposit(5)
    accounts.save(account)
    switched._store = InMemoryEventStore()
    other = Account("1")
    other.deposit(7)
    Repository(switched, Account).save(other)
    assert accounts.load("1").balance == 7
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 8
    switched._store = InMemoryEventStore()
    with pytest.raises(AggregateNotFound):
        accounts.load("1")
    assert warnings_in(caplog) == []


def test_those_that_were_used_last_are_kept(store: EventStore) -> None:
    watched = Watched(store)
    baskets = Repository(watched, Basket, cache=2)
    for aggregate_id in ("1", "2", "3"):
        fill(baskets, aggregate_id, 10)
    baskets.update("2", lambda basket: basket.add(1))
    fill(baskets, "4", 10)
    assert watched.reads == []
    for aggregate_id, count in (("2", 1), ("4", 1), ("1", 10), ("3", 10)):
        watched.read_count = 0
        baskets.load(aggregate_id)
        assert watched.read_count == count


def test_a_cleared_cache_is_filled_again(store: EventStore) -> None:
    watched = Watched(store)
    baskets = Repository(watched, Basket, cache=10)
    fill(baskets, "1", 10)
    baskets.clear_cache()
    for count in (10, 1):
        watched.read_count = 0
        baskets.load("1")
        assert watched.read_count == count
    Repository(store, Basket).clear_cache()  # Of a repository without one: nothing happens.


def test_one_that_somebody_has_taken_out_is_loaded(accounts: Repository[Account]) -> None:
    kept = accounts._operations._cache
    assert kept is not None
    taken = kept.take("1")
    assert taken is not None
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 6
    kept.put(taken)  # Late, and older than the one that was loaded meanwhile.
    found = kept.take("1")
    assert found is not None
    assert found.balance == 6


def test_a_forked_process_starts_with_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: AggregateCache[Account] = AggregateCache(10)
    kept.put(Account("1"))
    kept._lock.acquire()  # Another thread of the parent's, at the moment of the fork.
    monkeypatch.setattr(cache.os, "getpid", lambda: -1)
    assert kept.take("1") is None
    kept.put(Account("2"))
    assert kept.take("2") is not None


class Uncopied(Basket):
    category = "Basket"

    def __init__(self, id: Any) -> None:  # noqa: A002 as the class above
        super().__init__(id)
        self.lock = threading.Lock()


def test_one_that_can_not_be_copied_is_not_cached(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    repository = Repository(store, Uncopied, cache=10)
    for number in range(3):
        basket = repository.load("1") if number else Uncopied("1")
        basket.add(number)
        repository.save(basket)
    assert repository.update("1", lambda basket: basket.add(3)).version == 4
    assert {message.split(",")[0] for message in warnings_in(caplog)} == {"Basket 1 can't be copied"}


def test_a_snapshot_is_taken_by_saves_of_cached_aggregates(store: EventStore, snapshots: SnapshotStore) -> None:
    repository = Repository(store, Basket, snapshots, 10, cache=10)
    fill(repository, "1", 5)
    for _ in range(8):
        repository.update("1", lambda basket: basket.add(1))
    taken = snapshots.load("Basket", "1", Basket.class_schema())
    assert taken is not None
    assert taken.version == 10


def test_a_command_is_carried_out_once_whatever_the_cache_holds(store: EventStore) -> None:
    first, second = (Repository(store, Account, cache=10) for _ in range(2))
    account = Account("1")
    account.deposit(5)
    first.save(account)
    second.load("1")
    for number in range(3):
        for repository in (first, second, first):
            updated = repository.update("1", lambda account: account.withdraw(1), command_id=f"command {number}")
            assert updated.balance == 4 - number
    with pytest.raises(InvalidOperation):
        first.update("1", lambda account: account.withdraw(3), command_id="too much")
    # Refused on the cached state, as it was carried out, and found by the second look.
    second.update("1", lambda account: account.withdraw(2), command_id="all")
    assert first.update("1", lambda account: account.withdraw(2), command_id="all").balance == 0


def test_an_async_repository_has_a_cache_too() -> None:
    async def commands() -> list[int]:
        store = AsyncInMemoryEventStore()
        accounts = AsyncRepository(store, Account, cache=10)
        account = Account("1")
        account.deposit(5)
        await accounts.save(account)

        async def withdraw(account: Account) -> None:
            await asyncio.sleep(0)
            account.withdraw(3)

        found = [(await accounts.update("1", withdraw)).balance]
        await AsyncRepository(store, Account).update("1", lambda account: account.deposit(1))
        found += [(await accounts.update("1", withdraw)).balance, (await accounts.load("1")).balance]
        accounts.clear_cache()
        return [*found, (await accounts.load("1")).balance]

    assert asyncio.run(commands()) == [2, 0, 0, 0]


class Programs:
    """Two programs, with caches smaller than what they use, on the same aggregates."""

    def __init__(self) -> None:
        self.store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
        self.repositories = [Repository(self.store, Basket, snapshots, 3, cache=2) for _ in range(2)]
        self._held: dict[tuple[Repository[Basket], str], Basket] = {}
        for aggregate_id in ("1", "2", "3"):
            fill(self.repositories[0], aggregate_id, 1)

    def update(self, repository: Repository[Basket], aggregate_id: str) -> None:
        repository.update(aggregate_id, _add)

    def nothing(self, repository: Repository[Basket], aggregate_id: str) -> None:
        repository.update(aggregate_id, lambda basket: basket.parts.clear())

    def refused(self, repository: Repository[Basket], aggregate_id: str) -> None:
        def refuse(basket: Basket) -> None:
            _add(basket)
            raise InvalidOperation

        with pytest.raises(InvalidOperation):
            repository.update(aggregate_id, refuse)

    def load(self, repository: Repository[Basket], aggregate_id: str) -> None:
        self._held[repository, aggregate_id] = repository.load(aggregate_id)

    def save(self, repository: Repository[Basket], aggregate_id: str) -> None:
        basket = self._held.pop((repository, aggregate_id), None)
        if basket is not None:
            _add(basket)
            with suppress(ConcurrencyError):
                repository.save(basket)

    def commit(self, _: Repository[Basket], aggregate_id: str) -> None:
        with self.store.transaction() as transaction:
            repository = Repository(transaction, Basket, cache=2)
            self.repositories[2:] = [repository]
            for _ in range(2):
                repository.update(aggregate_id, _add)

    def roll_back(self, _: Repository[Basket], aggregate_id: str) -> None:
        with suppress(ZeroDivisionError), self.store.transaction() as transaction:
            repository = Repository(transaction, Basket, cache=2)
            self.repositories[2:] = [repository]
            repository.update(aggregate_id, _add)
            raise ZeroDivisionError

    def clear(self, repository: Repository[Basket], _: str) -> None:
        repository.clear_cache()

    def check(self, aggregate_id: str) -> None:
        """What is cached is what the events up to its version lead to."""
        for each in self.repositories:
            kept = each._operations._from_cache(aggregate_id)
            if kept is not None:
                history = self.store.read(f"Basket-{aggregate_id}", to_version=kept.version)
                assert kept.__dict__ == Basket.from_events(aggregate_id, history).__dict__


def _add(basket: Basket) -> None:
    basket.add(basket.version)


STEPS = st.tuples(
    st.sampled_from([name for name in vars(Programs) if not name.startswith("_") and name != "check"]),
    st.integers(0, 1),
    st.sampled_from(["1", "2", "3"]),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_what_is_loaded_is_what_is_replayed(steps: list[tuple[str, int, str]]) -> None:
    programs = Programs()
    for step, number, aggregate_id in steps:
        getattr(programs, step)(programs.repositories[number], aggregate_id)
        programs.check(aggregate_id)
    for aggregate_id in ("1", "2", "3"):
        replayed = Basket.from_events(aggregate_id, programs.store.read(f"Basket-{aggregate_id}"))
        loaded = [each.load(aggregate_id).__dict__ for each in programs.repositories[:2]]
        assert loaded == [replayed.__dict__] * 2


def test_two_processes_with_caches_keep_a_rule(dsn: str, schema: str) -> None:
    assert compete(dsn, schema, 800) == {"updates": 800}


def test_a_cache_whose_refusals_are_believed_is_caught(dsn: str, schema: str) -> None:
    found = compete(dsn, schema, 800, planted=True)
    assert found["refused, though the coin was there"] > 0
    assert found["below zero"] == 0


def test_in_your_own_transaction_nothing_is_cached(
    pool: ConnectionPool, schema: str, connection: psycopg.Connection
) -> None:
    store = PostgresEventStore(pool, schema)
    account = Account("1")
    account.deposit(5)
    Repository(store, Account).save(account)
    accounts = Repository(store.bind(connection), Account, cache=10)
    connection.execute(sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    assert accounts.load("1").balance == 5
    assert accounts.update("1", lambda account: account.deposit(1)).balance == 6
    connection.rollback()
    assert accounts._operations._from_cache("1") is None
    assert accounts.load("1").balance == 5


class AccountsLedger:
    def __init__(self, account: Account) -> None:
        self.account = account


class WithLedger(Aggregate["WithLedger"]):
    balance: int = 0

    def __init__(self, id: UUID | str) -> None:  # noqa: A002 it is called that everywhere
        super().__init__(id)
        self.ledger = AccountsLedger(self)  # type: ignore[arg-type] any account

    @handles(AccountsDeposited)
    def _deposited(self, event: AccountsDeposited) -> None:
        self.ledger.account.balance += event.amount


def test_what_refers_to_its_aggregate_refers_to_the_copy_that_a_program_gets() -> None:
    accounts = Repository(InMemoryEventStore(), WithLedger, cache=10)
    account = WithLedger("1")
    account._record(AccountsDeposited(amount=5))
    accounts.save(account)
    for balance in (10, 15):
        updated = accounts.update("1", lambda account: account._record(AccountsDeposited(amount=5)))
        assert updated.ledger.account is updated
        assert updated.balance == balance
    loaded = accounts.load("1")
    assert loaded.ledger.account is loaded
    assert loaded.balance == 15


class AccountsPlaced(Aggregate["AccountsPlaced"]):
    last: tuple[str, int] = ("", 0)

    def apply(self, event: Event) -> None:
        self.last = (event.stream_id, event.version)


def test_a_handler_that_asks_for_an_events_place_never_sees_another_one_later(store: EventStore) -> None:
    accounts = Repository(store, AccountsPlaced, InMemorySnapshotStore(), snapshot_frequency=1, cache=10)
    plain = Repository(store, AccountsPlaced)
    account = AccountsPlaced("1")
    account._record(Event(event_type="T"))
    accounts.save(account)
    for _ in range(2):
        accounts.update("1", lambda account: account._record(Event(event_type="T")))
        assert accounts.load("1").last == plain.load("1").last == ("AccountsPlaced-1", plain.load("1").version)
        accounts.clear_cache()
        assert accounts.load("1").last == plain.load("1").last
