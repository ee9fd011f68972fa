"""What the library offers for tests of applications."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, TypeAlias

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eventstore import (
    Aggregate,
    Event,
    InMemoryEventStore,
    InvalidOperation,
    PostgresEventStore,
    PostgresTransaction,
    Projection,
    handles,
)
from eventstore.testing import given, given_log, plugin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from psycopg_pool import ConnectionPool


class ScenarioOpened(Event):
    owner: str
    limit: int = 0


class ScenarioDrawn(Event):
    amount: int


class ScenarioAccount(Aggregate["ScenarioAccount"]):
    drawn: int = 0
    limit: int = 0

    def open(self, owner: str, limit: int) -> None:
        self._record(ScenarioOpened(owner=owner, limit=limit))

    def draw(self, *amounts: int) -> None:
        for amount in amounts:
            if self.drawn + amount > self.limit:
                raise InvalidOperation(f"over the limit of {self.limit}")
            self._record(ScenarioDrawn(amount=amount))

    @handles(ScenarioOpened)
    def _opened(self, event: ScenarioOpened) -> None:
        self.limit = event.limit

    @handles(ScenarioDrawn)
    def _drawn(self, event: ScenarioDrawn) -> None:
        self.drawn += event.amount


OPENED = ScenarioOpened(owner="ann", limit=10)


def test_what_is_recorded_is_what_was_expected() -> None:
    account = given(ScenarioAccount, OPENED).when(lambda account: account.draw(3, 4))
    assert account.then(ScenarioDrawn(amount=3), ScenarioDrawn(amount=4)).drawn == 7
    given(ScenarioAccount, id="one").when(lambda account: account.open("bob", 1)).then(
        ScenarioOpened(owner="bob", limit=1)
    )
    given(ScenarioAccount, OPENED).when(lambda account: account.draw()).then()


def test_an_error_is_expected_as_a_class_or_with_its_text() -> None:
    asked = given(ScenarioAccount, OPENED).when(lambda account: account.draw(11))
    asked.then(InvalidOperation)
    asked.then(InvalidOperation("over the limit of 10"))
    with pytest.raises(AssertionError, match="expected the text 'other'"):
        asked.then(InvalidOperation("other"))
    with pytest.raises(AssertionError, match="but it raised InvalidOperation"):
        asked.then(KeyError)
    with pytest.raises(AssertionError, match="expected events, but it raised"):
        asked.then(ScenarioDrawn(amount=11))


def test_events_before_an_error_are_not_overlooked() -> None:
    with pytest.raises(AssertionError, match=r"expected 0 event\(s\), but 1 were recorded"):
        given(ScenarioAccount, OPENED).when(lambda account: account.draw(3, 11)).then(InvalidOperation)


def test_an_error_that_is_missing_is_said() -> None:
    with pytest.raises(AssertionError, match="nothing was raised; recorded: ScenarioDrawn"):
        given(ScenarioAccount, OPENED).when(lambda account: account.draw(3)).then(InvalidOperation)


def test_a_failure_shows_what_differs_field_by_field() -> None:
    asked = given(ScenarioAccount).when(lambda account: account.open("ann", 5))
    with pytest.raises(AssertionError) as caught:
        asked.then(ScenarioOpened(owner="bob", limit=5))
    assert "event 1: owner: expected 'bob', found 'ann'" in str(caught.value)
    assert "limit: expected" not in str(caught.value)
    with pytest.raises(AssertionError, match=r"expected ScenarioDrawn \(ScenarioDrawn\), found ScenarioOpened"):
        asked.then(ScenarioDrawn(amount=1))
    with pytest.raises(AssertionError, match=r"expected 2 event\(s\), but 1 were recorded"):
        asked.then(ScenarioOpened(owner="ann", limit=5), ScenarioDrawn(amount=1))


Accounts: TypeAlias = Projection[PostgresTransaction]


@pytest.fixture
def accounts(pool: ConnectionPool, schema: str) -> Accounts:
    """How much was drawn from each account, in a table of the test's own schema."""
    with pool.connection() as connection:
        connection.execute(f"CREATE TABLE {schema}.accounts (id text PRIMARY KEY, drawn int NOT NULL)")

    def keep(event: Event, transaction: PostgresTransaction) -> None:
        if isinstance(event, ScenarioDrawn) and event.amount > 10:
            raise InvalidOperation("too much at once")
        amount = event.amount if isinstance(event, ScenarioDrawn) else 0
        transaction.connection.execute(
            f"INSERT INTO {schema}.accounts AS old VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET drawn = old.drawn + EXCLUDED.drawn",
            [event.aggregate_id, amount],
        )

    return Projection(PostgresEventStore(pool, schema), "accounts", keep, categories="Account")


def rows(schema: str) -> Callable[[PostgresTransaction], object]:
    return lambda transaction: transaction.connection.execute(f"SELECT * FROM {schema}.accounts ORDER BY id").fetchall()


def test_a_read_model_is_compared_after_a_log_and_more_events(accounts: Accounts, schema: str) -> None:
    log = given_log(accounts, {"Account-7": [OPENED], "Other-8": [OPENED]})
    log.then(rows(schema), [("7", 0)])
    drawn = log.when({"Account-7": [ScenarioDrawn(amount=3), ScenarioDrawn(amount=4)], "Account-9": [OPENED]})
    drawn.then(rows(schema), [("7", 7), ("9", 0)])
    with pytest.raises(AssertionError, match=r"expected \[\], found \[\('7', 7\)"):
        drawn.then(rows(schema), [])
    with pytest.raises(AssertionError, match="nothing was raised"):
        drawn.then_raised(InvalidOperation)


def test_what_the_handler_of_a_projection_raises_is_compared(accounts: Accounts, schema: str) -> None:
    log = given_log(accounts, {"Account-7": [OPENED]})
    failed = log.when({"Account-7": [ScenarioDrawn(amount=1), ScenarioDrawn(amount=11)]})
    failed.then_raised(InvalidOperation)
    with pytest.raises(AssertionError, match="expected KeyError, but it raised InvalidOperation"):
        failed.then_raised(KeyError)
    with pytest.raises(AssertionError, match="but it raised InvalidOperation"):
        failed.then(rows(schema), [])
    log.then(rows(schema), [("7", 0)])


def test_given_log_tests_a_projection_in_memory() -> None:
    seen: list[str] = []
    projection = Projection(InMemoryEventStore(), "seen", lambda event, _: seen.append(event.event_type))
    given_log(projection).when({"Account-7": [OPENED]}).then(lambda _: seen, ["ScenarioOpened"])


def test_aggregates_and_projections_are_tried_without_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; from eventstore.testing import given, given_log"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_fixtures_give_empty_stores(tmp_path: Path, dsn: str) -> None:
    tmp_path.joinpath("conftest.py").write_text('pytest_plugins = ["eventstore.testing.plugin"]\n')
    tmp_path.joinpath("test_application.py").write_text(
        """
import pytest
from eventstore import Event

@pytest.mark.parametrize("time", [1, 2])
def test_empty(memory_event_store, postgres_event_store, memory_snapshot_store, postgres_snapshot_store, time):
    for store in (memory_event_store, postgres_event_store):
        assert store.append("s", [Event(event_type="T")], 0) == 1
    for snapshots in (memory_snapshot_store, postgres_snapshot_store):
        assert snapshots.load("a", "b", "c") is None
"""
    )
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "EVENTSTORE_TEST_DSN": dsn},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 passed" in found.stdout


LACKING = """
from contextlib import contextmanager
from datetime import UTC
import threading

import pytest
from eventstore import InMemoryEventStore
from eventstore.core.requests import Append, Conflict
from eventstore.testing import Capabilities, EventStoreContract


class Lacking(InMemoryEventStore):
    def __init__(self, what):
        super().__init__()
        self.what = what
        self.owner = threading.get_ident()
        self.open = 0
        if what == "idempotency":
            self.known = self._engine._append
            self._engine._answers[Append] = self.append_whatever_the_ids
            self._engine._with_ids = lambda *_: []

    def append_whatever_the_ids(self, request, transaction):
        stream = self._engine._stream(request.stream_id, transaction)
        retired = bool(stream) and stream[-1].event_type == "eventstore.Tombstone"
        if 0 <= request.expected_version != len(stream) and not retired:
            return Conflict(len(stream))
        return self.known(request, transaction)

    def append(self, stream_id, events, expected_version):
        if self.what == "concurrency" and (self.open or threading.get_ident() != self.owner):
            raise NotImplementedError("one writer at a time")
        return super().append(stream_id, events, expected_version)

    def read(self, *args, **options):
        events = super().read(*args, **options)
        for event in events:
            if self.what == "a_lost_offset":
                event.__dict__["timestamp"] = event.timestamp.astimezone(UTC)
            if self.what == "a_lost_revision":
                event.__dict__["revision"] = 1
            if self.what == "a_wrong_position":
                event.__dict__["position"] = event.position + 1
        return events

    def read_all(self, *args, **options):
        if self.what == "global_order":
            raise NotImplementedError("no order over streams")
        skipped = 1000 if self.what == "a_skip_at_1000" else 0
        return (event for number, event in enumerate(super().read_all(*args, **options), 1) if number != skipped)

    @contextmanager
    def transaction(self):
        if self.what == "transactions":
            raise NotImplementedError("one append at a time")
        with super().transaction() as transaction:
            self.open += 1
            try:
                yield transaction
            finally:
                self.open -= 1
"""
CLAIMS = """

class Test_{what}_{claim}(EventStoreContract):
    capabilities = Capabilities({declared})

    @pytest.fixture
    def store(self):
        return Lacking("{what}")
"""
CAPABILITIES = ["transactions", "global_order", "idempotency", "concurrency"]
SOME = "several_streams_together or positions_rise or the_same_success or on_one_version_one_wins"
BUGS = ["a_lost_offset", "a_lost_revision", "a_wrong_position", "a_skip_at_1000"]
SOME_MORE = "offset_from_utc or which_revision_stored_it or thousands_of_events"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of stores that lack something: of the whole contract if they say so, of some of it if not."""
    place = tmp_path_factory.mktemp("contract")
    claims = [CLAIMS.format(what=what, claim="admitted", declared=f"{what}=False") for what in CAPABILITIES]
    claims += [CLAIMS.format(what=what, claim="denied", declared="") for what in CAPABILITIES]
    claims += [CLAIMS.format(what=what, claim="planted", declared="") for what in BUGS]
    place.joinpath("test_store.py").write_text(LACKING + "".join(claims))
    chosen = f"admitted or (denied and ({SOME})) or (planted and ({SOME_MORE}))"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfEs", "--tb=line", "-p", "no:cacheprovider", "-k", chosen, "."],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("what", CAPABILITIES)
def test_the_contract_leaves_out_what_a_store_does_not_declare(verdicts: str, what: str) -> None:
    assert f"the store declares no {what}\n" in verdicts
    assert f"::Test_{what}_admitted::" not in verdicts  # Each that fails has such a line.


@pytest.mark.parametrize("what", CAPABILITIES)
def test_a_store_that_declares_what_it_lacks_fails(verdicts: str, what: str) -> None:
    assert f"FAILED test_store.py::Test_{what}_denied::" in verdicts


@pytest.mark.parametrize("bug", BUGS)
def test_the_contract_finds_a_bug_that_is_planted_in_a_store(verdicts: str, bug: str) -> None:
    assert f"FAILED test_store.py::Test_{bug}_planted::" in verdicts


# --- the fixtures' database -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "table", "is_refused"),
    [
        ("shop", "public.orders", True),
        ("shop", "eventstore.events", True),
        ("shop", None, False),
        ("shop", "test_7_1_abcd.events", False),
        ("shop_test", "public.orders", False),
        ("test2", "public.orders", False),
        ("latest", "public.orders", True),
        ("contest_entries", "public.orders", True),
    ],
)
def test_a_database_that_may_hold_real_data_is_refused(
    dsn: str, database: str, table: str | None, *, is_refused: bool
) -> None:
    other = make_conninfo(dsn, dbname=database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
        try:
            if table is not None:
                with psycopg.connect(other) as inside:
                    inside.execute(f"CREATE SCHEMA IF NOT EXISTS {table.partition('.')[0]}")
                    inside.execute(f"CREATE TABLE {table} ()")
            if is_refused:
                with pytest.raises(
                    pytest.fail.Exception, match=f"the database '{database}', which has the table {table}"
                ):
                    plugin.refuse_real_data(other)
            else:
                plugin.refuse_real_data(other)
        finally:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
