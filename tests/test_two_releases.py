"""Two releases of one program side by side, each a process of its own: both write and read."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from eventstore import PostgresEventStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg_pool import ConnectionPool

PROGRAM = """
import json
import sys
from decimal import Decimal
from typing import Any

from eventstore import *
from eventstore import PostgresEventStore, PostgresSnapshotStore, Subscription

{classes}

class Account(Aggregate["Account"]):
    cents: int = 0

    def deposit(self, cents: int) -> None:
        self._record(deposited(cents))

    @handles(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.cents += cents_of(event)

class Counted(PostgresEventStore):
    read_count = 0

    def _read_page(self, *arguments: Any, **options: Any) -> list[Event]:
        found = list(super()._read_page(*arguments, **options))
        Counted.read_count += len(found)
        return iter(found)

    def _read_from_snapshot(self, *arguments: Any, **options: Any) -> Any:
        found = super()._read_from_snapshot(*arguments, **options)
        events = list(found.events)
        Counted.read_count += len(events)
        return found._replace(events=iter(events))

dsn, schema = sys.argv[1:]
store = Counted.connect(dsn, schema, max_size=2)
accounts = Repository(store, Account, PostgresSnapshotStore.connect(dsn, schema, max_size=2), snapshot_frequency=5)
seen: list[int] = []
follower = Subscription(store, "totals", lambda event: seen.append(cents_of(event)), event_types=[Deposited])

def open_account(cents: int) -> int:
    account = Account("1")
    account.deposit(cents)
    accounts.save(account)
    return account.version

def deposit(cents: int) -> int:
    return accounts.update("1", lambda account: account.deposit(cents)).version

def load() -> list[int]:
    Counted.read_count = 0
    return [accounts.load("1").cents, Counted.read_count]

def read() -> list[list[int]]:
    return [[event.revision, cents_of(event)] for event in store.read("Account-1")]

def follow() -> list[int]:
    seen.clear()
    follower.run_until_caught_up()
    return seen

for line in sys.stdin:
    name, arguments = json.loads(line)
    try:
        reply = globals()[name](*arguments)
    except EventStoreError as error:
        reply = type(error).__name__
    print(json.dumps(reply), flush=True)
"""
FIRST = """
class Deposited(Event):
    amount: str

def deposited(cents: int) -> Deposited:
    return Deposited(amount=str(Decimal(cents) / 100))

def cents_of(event: Deposited) -> int:
    return int(Decimal(event.amount) * 100)
"""
READS_BOTH = """
class Deposited(Event):
    amount: str = ""
    cents: int | None = None

def deposited(cents: int) -> Deposited:
    return Deposited(amount=str(Decimal(cents) / 100), cents=cents)

def cents_of(event: Deposited) -> int:
    return int(Decimal(event.amount) * 100) if event.cents is None else event.cents
"""
SECOND = """
class Deposited(Event, revision=2):
    cents: int

@upcasts(Deposited, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"cents": int(Decimal(data["amount"]) * 100)}

def deposited(cents: int) -> Deposited:
    return Deposited(cents=cents)

def cents_of(event: Deposited) -> int:
    return event.cents
"""


class Release:
    """A process that runs one release of the program, and does what it is told."""

    def __init__(self, classes: str, dsn: str, schema: str) -> None:
        program = PROGRAM.replace("{classes}", dedent(classes))
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, dsn, schema],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(json.dumps([name, arguments]), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())

        return call

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def deploy(dsn: str, schema: str) -> Iterator[Any]:
    with ExitStack() as stack:

        def deploy(classes: str) -> Release:
            release = Release(classes, dsn, schema)
            stack.callback(release.end)
            return release

        yield deploy


def test_old_and_new_code_side_by_side(deploy: Any, pool: ConnectionPool, schema: str) -> None:
    """The old release refuses what the new one wrote, which waits for nobody, and loses nothing."""
    old, new = deploy(FIRST), deploy(SECOND)
    assert old.open_account(100) == 1
    assert new.deposit(50) == 2
    assert new.read() == [[1, 100], [2, 50]]
    assert old.read() == old.load() == old.deposit(1) == "NewerRevision"
    assert old.follow() == "NewerRevision"
    assert new.follow() == [50]  # The old release has handled the first event, and waited at the second.
    assert new.load()[0] == 150
    assert [event.version for event in PostgresEventStore(pool, schema).read("Account-1")] == [1, 2]


def test_a_change_in_two_steps_is_read_by_both_releases_all_the_time(deploy: Any) -> None:
    """First a release that can read the new field, and writes both; then one that has the new field alone."""
    old, between = deploy(FIRST), deploy(READS_BOTH)
    assert old.open_account(100) == 1
    assert between.deposit(50) == 2
    assert old.deposit(25) == 3
    for release in (old, between):
        assert [cents for _, cents in release.read()] == [100, 50, 25]
        assert release.load()[0] == 175
    old.end()
    new = deploy(SECOND)
    assert between.deposit(10) == 4
    assert new.read() == [[1, 100], [1, 50], [1, 25], [1, 10]]
    assert new.load()[0] == 185
    assert new.follow() == [100, 50, 25, 10]


def test_two_releases_keep_a_snapshot_each_and_neither_replays_for_the_other(
    deploy: Any, pool: ConnectionPool, schema: str
) -> None:
    old, new = deploy(READS_BOTH), deploy(SECOND)
    old.open_account(1)
    for _ in range(11):
        old.deposit(1)
    assert old.load() == [12, 3]  # The event that the snapshot of version 10 stands at, and two more.
    assert new.load() == [12, 12]  # That snapshot is of another revision: all are replayed, and a snapshot is taken.
    for _ in range(3):
        assert new.load() == [12, 1]
        assert old.load() == [12, 3]
    with pool.connection() as connection:
        found = connection.execute(f"SELECT version FROM {schema}.snapshots ORDER BY version").fetchall()
    assert found == [(10,), (12,)]
    newest = deploy(SECOND.replace("revision=2", "revision=3") + "upcasts(Deposited, from_revision=2)(dict)\n")
    assert newest.load() == [12, 12]
    with pool.connection() as connection:
        assert connection.execute(f"SELECT version FROM {schema}.snapshots").fetchall() == [(12,), (12,)]
    assert new.load() == [12, 1]
