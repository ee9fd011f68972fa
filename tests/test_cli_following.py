"""Subscriptions on the command line, run as a user runs them: a module of one's own, signals, two processes."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import PATIENCE

import eventstore
from eventstore import Event, PostgresEventStore, Subscription
from eventstore.subscriptions import statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

PACKAGE_ROOT = Path(eventstore.__file__).parents[1]

SHOP = """
import os
from eventstore import Event, PostgresEventStore, Projection, Subscription

class Numbered(Event):
    number: int
    bad: bool

store = PostgresEventStore.connect(os.environ["EVENTSTORE_DSN"], os.environ["SHOP_SCHEMA"])
mails = []

def count(event, transaction):
    transaction.connection.execute("INSERT INTO counted (position) VALUES (%s)", (event.position,))

def mail(event):
    if event.data.get("bad") and not os.environ.get("MENDED"):
        raise ValueError("no such customer")

counts = Projection(store, "counts", count, tables=["counted"])
mails = Subscription(store, "mails", mail, attempts=1)
parking = Subscription(store, "parking", mail, attempts=1, on_failure="park")
number = 7
"""


class Shop:
    """A user's directory, with a module ``shop``."""

    def __init__(self, directory: Path, dsn: str, schema: str) -> None:
        self.directory = directory
        self.schema = schema
        self.arguments = ["--dsn", dsn, "--schema", schema]
        (directory / "shop.py").write_text(SHOP)
        self.environment = os.environ | {
            "EVENTSTORE_DSN": dsn,
            "PGOPTIONS": f"-c search_path={schema}",
            "SHOP_SCHEMA": schema,
            "PYTHONPATH": str(PACKAGE_ROOT),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "eventstore", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        self.environment |= environment
        process = self.start(*arguments)
        output, complaint = process.communicate(timeout=PATIENCE)
        return process.returncode, output, complaint


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def shop(tmp_path: Path, dsn: str, schema: str, pool: ConnectionPool) -> Shop:
    with pool.connection() as connection:
        connection.execute(f'CREATE TABLE "{schema}".counted (position bigint)')
    return Shop(tmp_path, dsn, schema)


@pytest.fixture
def counted(pool: ConnectionPool, schema: str) -> Callable[[], int]:
    def counted() -> int:
        with pool.connection() as connection:
            row = connection.execute(f'SELECT count(*) FROM "{schema}".counted').fetchone()
        assert row is not None
        return int(row[0])

    return counted


def events(count: int, *, bad: bool = False) -> list[Event]:
    return [Event(event_type="Numbered", data={"number": number, "bad": bad}) for number in range(count)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_runs_until_a_signal_comes(
    shop: Shop, store: PostgresEventStore, counted: Callable[[], int], number: signal.Signals
) -> None:
    store.append("a", events(5), 0)
    worker = shop.start("run", "shop:counts", "shop:mails")
    try:
        for name in ("counts", "mails"):
            Subscription(store, name, print).wait_until_processed(timeout=PATIENCE)
        _, printed, _ = shop.run("status", *shop.arguments)
        assert [line.split()[1] for line in printed.splitlines()] == ["STATE", "live", "live"]
        worker.send_signal(number)
        output, complaint = worker.communicate(timeout=PATIENCE)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0
    assert (output, complaint) == ("", "eventstore: running counts, mails; Ctrl-C ends it\n")
    assert counted() == 5
    _, printed, _ = shop.run("status", *shop.arguments)
    assert [line.split()[1] for line in printed.splitlines()] == ["STATE", "stopped", "stopped"]


def test_one_that_fails_ends_the_others_and_says_why(shop: Shop, store: PostgresEventStore) -> None:
    store.append("a", events(1, bad=True), 0)
    code, _, complaint = shop.run("run", "shop:counts", "shop:mails")
    assert code == 1
    assert (
        "mails: subscription 'mails' has stopped at the event at position 1: ValueError: no such customer" in complaint
    )
    traceback = complaint[complaint.index("    Traceback (most recent call last)") :]
    assert '    raise ValueError("no such customer")' in traceback  # the log has what the handler raised
    code, printed, _ = shop.run("status", *shop.arguments)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "POSITION", "BEHIND", "SECONDS", "PARKED", "PARTITIONS"]
    assert [line.split()[:2] for line in lines[1:3]] == [["counts", "stopped"], ["mails", "failed"]]
    assert lines[3] == "    at position 1: ValueError: no such customer"
    code, printed, _ = shop.run("status", "--json", *shop.arguments)
    assert [json.loads(line).get("state") for line in printed.splitlines()] == ["stopped", "failed", None]


def test_a_rebuild_says_how_much_it_did(shop: Shop, store: PostgresEventStore, counted: Callable[[], int]) -> None:
    store.append("a", events(50), 0)
    code, printed, complaint = shop.run("rebuild", "shop:counts")
    assert (code, complaint) == (0, "")
    assert printed.startswith("rebuilt counts: 50 events, ")
    assert printed.endswith("/s, up to position 50\n")
    assert counted() == 50


def test_parked_events_are_shown_retried_and_dropped(shop: Shop, store: PostgresEventStore) -> None:
    store.append("a", events(2, bad=True), 0)
    store.append("b", events(2, bad=True), 0)
    worker = shop.start("run", "shop:parking")
    try:
        Subscription(store, "parking", print).wait_until_processed(timeout=PATIENCE)
    finally:
        worker.terminate()
        worker.communicate(timeout=PATIENCE)
    code, printed, _ = shop.run("parked", "parking", *shop.arguments)
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == ["1", "2", "3", "4"]
    assert printed.splitlines()[2].endswith("Numbered  b version 1  after 1 attempt(s): ValueError: no such customer")
    assert shop.run("parked", "parking", "--drop", "2", *shop.arguments) == (0, "", "")
    code, _, complaint = shop.run("parked", "parking", "--drop", "2", *shop.arguments)
    assert code == 1
    assert complaint == (
        "eventstore: subscription 'parking' has no event parked at position 2, or somebody is just retrying it\n"
    )
    code, printed, complaint = shop.run("retry", "shop:parking", "3")
    assert code == 1
    assert printed == "parking: the event at position 3 failed again: ValueError: no such customer\n"
    assert '    raise ValueError("no such customer")' in complaint
    code, printed, _ = shop.run("retry", "shop:parking", "3", MENDED="1")
    assert (code, printed) == (0, "parking: handled the event at position 3\n")
    code, printed, _ = shop.run("retry", "shop:parking")
    assert printed.splitlines() == [f"parking: handled the event at position {position}" for position in (1, 4)]
    assert shop.run("parked", "parking", *shop.arguments) == (0, "", "")


def parked(shop: Shop, store: PostgresEventStore) -> None:
    """Let ``parking`` come to the end of the log."""
    worker = shop.start("run", "shop:parking")
    try:
        Subscription(store, "parking", print).wait_until_processed(timeout=PATIENCE)
    finally:
        worker.terminate()
        worker.communicate(timeout=PATIENCE)


def test_retry_tries_every_event_and_says_what_became_of_each(shop: Shop, store: PostgresEventStore) -> None:
    store.append("a", [Event(event_type="E", data={"bad": True, "heals": number == 1}) for number in range(3)], 0)
    parked(shop, store)
    (shop.directory / "shop.py").write_text(SHOP.replace('not os.environ.get("MENDED")', 'not event.data["heals"]'))
    code, printed, _ = shop.run("retry", "shop:parking")
    assert code == 1
    assert printed.splitlines() == [
        "parking: the event at position 1 failed again: ValueError: no such customer",
        "parking: handled the event at position 2",
        "parking: the event at position 3 failed again: ValueError: no such customer",
    ]
    code, printed, _ = shop.run("retry", "shop:parking", "2", "1")
    assert code == 1
    assert printed.startswith("parking: the event at position 2 was not handled: ")
    code, printed, _ = shop.run("parked", "parking", "--json", *shop.arguments)
    assert [json.loads(line)["position"] for line in printed.splitlines()] == [1, 3]


def test_an_unknown_subscription_is_an_error_that_lists_those_there_are(shop: Shop, store: PostgresEventStore) -> None:
    for command in (["parked", "parkin"], ["remove", "parkin", "--yes"], ["parked", "parkin", "--drop", "1"]):
        code, _, complaint = shop.run(*command, *shop.arguments)
        assert code == 1
        assert "there is no subscription 'parkin': there are none" in complaint
    parked(shop, store)
    code, printed, complaint = shop.run("parked", "parkin", *shop.arguments)
    assert (code, printed) == (1, "")
    assert complaint == "eventstore: there is no subscription 'parkin': there are 'parking'\n"


def test_remove_never_removes_without_a_yes(shop: Shop, store: PostgresEventStore) -> None:
    store.append("a", events(2, bad=True), 0)
    parked(shop, store)
    what = "subscription 'parking' at position 2, with 2 parked event(s)"
    code, printed, complaint = shop.run("remove", "parking", *shop.arguments)
    assert (code, printed, complaint) == (1, "", f"eventstore: this would remove {what}: say --yes\n")
    assert len(Subscription(store, "parking", print).parked()) == 2
    assert shop.run("remove", "parking", "--yes", *shop.arguments) == (0, f"removed {what}\n", "")
    assert statuses(store) == []


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("no", 1, 1), ("", 1, 1)])
def test_on_a_terminal_remove_asks(shop: Shop, store: PostgresEventStore, answer: str, code: int, left: int) -> None:
    parked(shop, store)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "remove", "parking", *shop.arguments],
        stdin=theirs,
        stdout=subprocess.PIPE,
        env=shop.environment,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    printed, _ = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert process.returncode == code
    assert "Remove subscription 'parking' at position 0" in printed
    assert len(statuses(store)) == left


EVIL = "x\x1b]0;owned\x07\n2026-01-01 00:00:00,000 ERROR eventstore: forged\u202e\x9b31m"


def test_nothing_that_data_brings_reaches_the_terminal_or_the_log_raw(shop: Shop, store: PostgresEventStore) -> None:
    (shop.directory / "shop.py").write_text(SHOP.replace('"no such customer"', "event.event_type"))
    store.append(EVIL, [Event(event_type=EVIL, data={"bad": True})], 0)
    outputs = [shop.run("run", "shop:mails")]
    parked(shop, store)
    outputs += [shop.run("status", *shop.arguments), shop.run("status", "--json", *shop.arguments)]
    outputs += [shop.run("parked", "parking", *options, *shop.arguments) for options in ([], ["--json"])]
    outputs += [shop.run("retry", "shop:parking"), shop.run("streams", *shop.arguments)]
    outputs += [shop.run("streams", "--json", *shop.arguments), shop.run("read", EVIL + "!", *shop.arguments)]
    for code, printed, complaint in outputs:
        lines = (printed + complaint).splitlines()
        assert all(line.isprintable() for line in lines), lines
        assert not [line for line in lines if line.startswith("2026-01-01")]
        assert code in {0, 1}
    assert "owned" in outputs[0][2]


def test_the_librarys_log_lines_are_clean_whatever_formats_them(
    store: PostgresEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(event: Event) -> None:
        raise ValueError(event.event_type)

    store.append("a", [Event(event_type=EVIL)], 0)
    Subscription(store, "mails", refuse, attempts=1, on_failure="park").run_until_caught_up()
    unknown, record = caplog.records
    assert unknown.getMessage().isprintable()
    assert record.getMessage().isprintable()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    lines = logging.Formatter("%(message)s").format(record).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


def test_a_file_in_the_working_directory_stands_in_for_no_installed_module(
    shop: Shop, store: PostgresEventStore
) -> None:
    (shop.directory / "psycopg.py").write_text("raise SystemExit('taken over')")
    (shop.directory / "secrets.py").write_text("raise SystemExit('taken over')")
    store.append("a", events(1), 0)
    script = Path(sys.executable).parent / "eventstore"
    ended = subprocess.run(
        [script, "rebuild", "shop:counts"], cwd=shop.directory, env=shop.environment, check=False, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("shop", "'shop': name a subscription as package.module:name"),
        ("nowhere:counts", "there is no module 'nowhere'"),
        ("shop:nothing", "'shop:nothing' is not a Subscription or Projection"),
        ("shop:number", "'shop:number' is not a Subscription or Projection"),
    ],
)
def test_an_object_that_is_not_a_subscription_is_refused(shop: Shop, target: str, complaint: str) -> None:
    code, printed, error = shop.run("run", target)
    assert (code, printed) == (1, "")
    assert complaint in error
    assert len(error.splitlines()) == 1


def test_only_projections_can_be_rebuilt(shop: Shop) -> None:
    code, _, error = shop.run("rebuild", "shop:mails")
    assert code == 1
    assert "only a Projection can be rebuilt" in error


def test_a_store_without_subscriptions_has_only_the_heading(shop: Shop) -> None:
    code, printed, _ = shop.run("status", *shop.arguments)
    assert code == 0
    assert len(printed.splitlines()) == 1
