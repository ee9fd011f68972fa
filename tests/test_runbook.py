"""docs/runbook.md: each case is made here, and the commands of the page are run and print what it shows."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from standbys import *  # noqa: F403 fixtures
from waiting import eventually

from eventstore import (
    Event,
    ExpectedVersion,
    PostgresEventStore,
    StoreUnavailable,
    Subscription,
    SubscriptionFailed,
    cli,
)
from eventstore.cli.parser import DATABASE_COMMANDS
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.migrations import _migrated, migrations

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "runbook.md"
PRODUCTION = DOCS / "production.md"
ANY = ExpectedVersion.ANY

SHOP = """
import os
from eventstore import PostgresEventStore, Projection, Subscription

store = PostgresEventStore.connect(os.environ["EVENTSTORE_DSN"], os.environ["SHOP_SCHEMA"])

def mail(event):
    if event.data.get("bad") and not os.environ.get("MENDED"):
        raise ValueError("no such customer")

def count(event, transaction):
    transaction.connection.execute("INSERT INTO orders_per_day (position) VALUES (%s)", (event.position,))

mails = Subscription(store, "mails", mail, attempts=1)
orders_per_day = Projection(store, "orders-per-day", count, tables=["orders_per_day"])
"""


def sections() -> dict[str, list[str]]:
    """The console blocks of the page, by the headings above them."""
    _, *found = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return {
        title: re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for title, text in zip(found[::2], found[1::2], strict=True)
    }


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, with what it prints."""
    _, *found = re.split(r"^\$ (.+)$", block, flags=re.MULTILINE)
    return zip(found[::2], found[1::2], strict=True)


def matches(shown: str, printed: str) -> bool:
    """Whether the page shows what was printed: … stands for anything, and a number of blanks for another one."""
    lines = [re.sub(r"(\\ )+", r"\\s+", re.escape(line)).replace("…", ".*") for line in shown.strip().splitlines()]
    return re.fullmatch(r"\s*\n\s*".join(lines), printed.strip(), re.DOTALL) is not None


class Book:
    """The page, and a store whose commands it shows."""

    def __init__(
        self, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.schema = schema
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.use(dsn)

    def use(self, dsn: str) -> None:
        """Run the commands that follow on this database."""
        self.dsn = dsn
        self._monkeypatch.setenv("EVENTSTORE_DSN", dsn)

    def follow(self, title: str, number: int = 0) -> None:
        """Run the commands of a block, and compare what they print."""
        for command, shown in commands(sections()[title][number]):
            printed = self._run(command).replace(self.schema, "eventstore")
            assert matches(shown, printed), f"$ {command}\n{printed}"

    def _run(self, command: str) -> str:
        program, *arguments = shlex.split(command)
        if program == "psql":
            assert arguments[0] == "-Atc"
            return self._sql(arguments[1].replace("eventstore.", f'"{self.schema}".'))
        assert program == "eventstore"
        if arguments[0] in DATABASE_COMMANDS or arguments[:2] == ["events", "verify"]:
            arguments += ["--schema", self.schema]
        self._capsys.readouterr()
        code = cli.main(arguments)
        captured = self._capsys.readouterr()
        return captured.out + captured.err + (f"(exit status {code})" if code else "")

    def _sql(self, statement: str) -> str:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            try:
                cursor = connection.execute(statement.encode())
            except psycopg.Error as error:
                return f"ERROR: {error}"
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join("t" if value is True else str(value) for value in row) for row in rows)


@pytest.fixture
def book(dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Book:
    return Book(dsn, schema, monkeypatch, capsys)


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(make_conninfo(dsn, application_name="shop"), schema) as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """The module ``shop``, imported again as by another program."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv("SHOP_SCHEMA", schema)
    monkeypatch.setenv("PGOPTIONS", f"-c search_path={schema}")
    opened: list[Any] = []

    def imported() -> Any:
        sys.modules.pop("shop", None)
        import shop  # type: ignore[import-not-found]  # noqa: PLC0415 written above

        opened.append(shop)
        return shop

    yield imported
    for each in opened:
        each.store.close()
    sys.modules.pop("shop", None)


def append(store: PostgresEventStore, stream_id: str = "Order-7", **data: Any) -> None:
    store.append(stream_id, [Event(event_type="OrderPlaced", data=data)], ANY)


def test_a_transaction_that_holds_readers_back(store: PostgresEventStore, book: Book) -> None:
    Subscription(store, "mails", lambda _: None).run_until_caught_up()
    with pytest.raises(StoreUnavailable), store.transaction() as transaction:
        append(transaction)
        append(store, "Order-8")
        book.follow("A read model lags: a transaction holds readers back")
        book.follow("A read model lags: a transaction holds readers back", 1)
        append(transaction)


def test_a_subscription_that_is_stuck(
    store: PostgresEventStore, book: Book, shop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "A subscription is stuck at an event"
    append(store)
    append(store, bad=True)
    with pytest.raises(SubscriptionFailed):
        shop().mails.run_until_caught_up()
    book.follow(title)
    monkeypatch.setenv("MENDED", "1")
    shop().mails.run_until_caught_up()
    book.follow(title, 1)


def test_events_that_are_parked(
    store: PostgresEventStore, book: Book, shop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "Events are parked"
    for _ in range(2):
        append(store, bad=True)
    mail = shop().mail
    Subscription(store, "mails", mail, attempts=1, on_failure="park").run_until_caught_up()
    book.follow(title)
    monkeypatch.setenv("MENDED", "1")
    shop()
    book.follow(title, 1)


def test_a_subscription_that_nobody_works_on(store: PostgresEventStore, book: Book) -> None:
    Subscription(store, "mails", lambda _: None).run_until_caught_up()
    append(store)
    book.follow("Nobody works on a subscription")


def test_a_read_model_that_is_wrong(
    store: PostgresEventStore, book: Book, shop: Callable[[], Any], schema: str
) -> None:
    title = "A read model is wrong"
    with psycopg.connect(book.dsn, autocommit=True) as connection:
        table = sql.Identifier(schema, "orders_per_day")
        connection.execute(sql.SQL("CREATE TABLE {} (position bigint)").format(table))
        for _ in range(3):
            append(store)
        shop().orders_per_day.run_until_caught_up()
        connection.execute(sql.SQL("DELETE FROM {} WHERE position = 2").format(table))
        book.follow(title)
        assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone() == (3,)


def test_an_event_that_is_wrong(store: PostgresEventStore, book: Book) -> None:
    store.append("Order-7", [Event(event_type="OrderPlaced", data={"total": 1200}, metadata={"user": "ann"})], 0)
    book.follow("Somebody appended a wrong event")
    book.follow("Somebody appended a wrong event", 1)


def test_an_event_that_can_not_be_read(store: PostgresEventStore, book: Book, schema: str) -> None:
    append(store)
    with psycopg.connect(book.dsn) as connection:
        table = sql.Identifier(schema, "events")
        connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
        connection.execute(sql.SQL("UPDATE {} SET data = '\\xc1'").format(table))
        connection.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(table))
    book.follow("An event can't be read")
    book.follow("An event can't be read", 1)


def test_a_schema_that_is_old(book: Book) -> None:
    book.schema += "_old"
    _migrated(book.dsn, book.schema, migrations()[:-1], triggers=True)
    book.follow("A deploy says that the schema is old")
    book.follow("A deploy says that the schema is old", 1)
    with psycopg.connect(book.dsn) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(book.schema)))


def test_a_server_that_can_not_be_reached(book: Book) -> None:
    book.use("postgresql://app@127.0.0.1:1/shop")
    book.follow("The server can't be reached")


def test_a_pool_of_which_all_connections_are_in_use(book: Book, schema: str) -> None:
    dsn = make_conninfo(book.dsn, application_name="shop")
    with PostgresEventStore.connect(dsn, schema, max_size=1, timeout=0.2) as small, small.transaction():
        with pytest.raises(StoreUnavailable, match="all connections of the pool are in use"):
            small.read("Order-7")
        book.follow("Calls fail because all connections are in use")


def test_a_table_that_is_locked(book: Book, schema: str) -> None:
    with psycopg.connect(book.dsn, application_name="admin") as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(schema, "events")))
        book.follow("Everything waits: the table of events is locked")


def test_a_checkpoint_above_the_log(store: PostgresEventStore, book: Book, schema: str) -> None:
    append(store)
    Subscription(store, "mails", lambda _: None).run_until_caught_up()
    with psycopg.connect(book.dsn) as connection:
        connection.execute(sql.SQL("UPDATE {} SET position = 900").format(sql.Identifier(schema, "subscriptions")))
    book.follow("A checkpoint is above the log")
    book.follow("A checkpoint is above the log", 1)


def test_a_replica_whose_sequence_is_behind(book: Book, store: PostgresEventStore, schema: str) -> None:
    append(store)
    with psycopg.connect(book.dsn) as connection:
        connection.execute(sql.SQL("SELECT setval({}, 1, false)").format(sql.Literal(f'"{schema}".event_positions')))
    book.follow("The sequence is behind the log")
    book.follow("The sequence is behind the log", 1)


def test_a_standby_on_which_nobody_marks_the_log(primary: EmbeddedServer, standby: EmbeddedServer, book: Book) -> None:
    migrate(primary.dsn, book.schema)
    with PostgresEventStore.connect(primary.dsn, book.schema) as store:
        append(store)
    title = "A standby says that nobody has marked the log"
    book.use(standby.dsn)
    with PostgresEventStore.connect(standby.dsn, book.schema) as replica:
        assert eventually(lambda: _has_events(replica))
        book.follow(title)


def _has_events(replica: PostgresEventStore) -> bool:
    try:
        return bool(replica.read("Order-7"))
    except Exception:  # noqa: BLE001 the schema is not there yet
        return False


def test_a_program_that_is_older_than_what_is_stored(
    store: PostgresEventStore, book: Book, shop: Callable[[], Any]
) -> None:
    append(store)
    shop()
    book.follow("A release was rolled back, and its events are stored")


def test_a_database_says_what_takes_its_space(book: Book) -> None:
    book.follow("The disk is full")


def test_every_case_of_the_page_has_commands() -> None:
    assert [title for title, blocks in sections().items() if not blocks] == []
    assert len(sections()) >= 15


def test_the_metrics_to_watch_are_those_that_status_prints(
    store: PostgresEventStore, book: Book, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    append(store)
    Subscription(store, "mails", lambda _: None).run_until_caught_up()
    capsys.readouterr()
    assert cli.main(["status", "--prometheus", "--dsn", book.dsn, "--schema", schema]) == 0
    printed = capsys.readouterr().out
    named = set(re.findall(r"eventstore_[a-z_]+", PRODUCTION.read_text()))
    assert len(named) > 5
    assert {name for name in named if not re.search(rf"^{name}\b", printed, re.MULTILINE)} == set()


def test_the_queries_to_watch_run(book: Book, store: PostgresEventStore) -> None:
    append(store)
    found = re.findall(r"[`\"](SELECT [^`\"]+)[`\"]", PRODUCTION.read_text())
    assert len(found) > 5
    for statement in found:
        assert not book._sql(statement.replace("eventstore.", f'"{book.schema}".')).startswith("ERROR"), statement
