"""Accounts that two processes change at once, each with a cache: ``python tests/accounts.py DSN SCHEMA UPDATES``."""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eventstore import Aggregate, ConcurrencyError, Event, InvalidOperation, PostgresEventStore, Repository, handles
from eventstore.core.repositories import RepositoryOperations

THREADS = 10
PATIENCE = 60.0


class AccountsDeposited(Event):
    amount: int


class AccountsWithdrawn(Event):
    amount: int


class Account(Aggregate["Account"]):
    balance: int = 0

    def deposit(self, amount: int) -> None:
        self._record(AccountsDeposited(amount=amount))

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise InvalidOperation(f"the balance is {self.balance}: {amount} can't be withdrawn")
        self._record(AccountsWithdrawn(amount=amount))

    @handles(AccountsDeposited)
    def _deposited(self, event: AccountsDeposited) -> None:
        self.balance += event.amount

    @handles(AccountsWithdrawn)
    def _withdrawn(self, event: AccountsWithdrawn) -> None:
        self.balance -= event.amount


def believe_refusals(self: Any, aggregate: Any, change: Any, metadata: Any, command: Any) -> Any:
    """The bug: what the change of a cached aggregate raises is believed, without a second look."""
    change(aggregate)
    try:
        return (yield from self._store_decided(aggregate, metadata, command))
    except ConcurrencyError:
        return None


def work(dsn: str, schema: str, updates: int, seed: int, *, coins: Any, results: Any, planted: bool) -> None:
    """One process: so many updates. It deposits coins, and withdraws those that the other process has deposited."""
    if planted:
        RepositoryOperations._update_cached = believe_refusals  # type: ignore[method-assign]
    try:
        results.put(changes(dsn, schema, updates, seed, coins))
    except BaseException as error:
        results.put(Counter({repr(error): 1}))
        raise


def changes(dsn: str, schema: str, updates: int, seed: int, coins: Any) -> Counter[str]:
    with PostgresEventStore.connect(dsn, schema) as store, ThreadPoolExecutor(THREADS) as threads:
        accounts = Repository(store, Account, cache=1_000)

        def turns(thread: int) -> Counter[str]:
            found: Counter[str] = Counter()
            choose = random.Random(seed * THREADS + thread)  # noqa: S311 no secret
            for _ in range(updates // THREADS // 2):
                account = str(choose.randrange(3) * 2 + seed)
                accounts.update(account, lambda account: account.deposit(1))
                coins[1 - seed].put(account)
                try:
                    accounts.update(account, lambda account: account.withdraw(1_000_000))
                    found["taken from nobody"] += 1
                except InvalidOperation:
                    pass
                try:  # A coin that is known to be there: the other process has deposited it.
                    accounts.update(coins[seed].get(timeout=PATIENCE), lambda account: account.withdraw(1))
                except InvalidOperation:
                    found["refused, though the coin was there"] += 1
                found["updates"] += 2
            return found

        return sum(threads.map(turns, range(THREADS)), Counter[str]())


def compete(dsn: str, schema: str, updates: int, *, planted: bool = False) -> Counter[str]:
    """Two processes at once. Returns how many updates were made, and how often a rule was broken."""
    with PostgresEventStore.connect(dsn, schema) as store:
        for number in range(6):
            account = Account(str(number))
            account.deposit(1)
            account.withdraw(1)
            Repository(store, Account).save(account)
        context = multiprocessing.get_context("spawn")
        coins, results = [context.Queue(), context.Queue()], context.Queue()
        shared = {"coins": coins, "results": results, "planted": planted}
        processes = [
            context.Process(target=work, args=(dsn, schema, updates // 2, seed), kwargs=shared) for seed in range(2)
        ]
        for process in processes:
            process.start()
        found = sum((results.get(timeout=PATIENCE + updates / 50) for _ in processes), Counter[str]())
        for process in processes:
            process.join(PATIENCE)
        for number in range(6):
            account = Account(str(number))
            for event in store.read(f"Account-{number}"):
                account.replay([event])
                found["below zero"] += account.balance < 0
    return +found


if __name__ == "__main__":
    print(dict(compete(sys.argv[1], sys.argv[2], int(sys.argv[3]))))  # noqa: T201 a script
