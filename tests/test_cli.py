"""The command line: what it prints, its exit codes, and how it ends when it is cut short."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

import eventstore
from eventstore import Event, PostgresEventStore
from eventstore.cli import main, progress, reading
from eventstore.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE_ROOT = Path(eventstore.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.getenv("PYTHONPATH"))))}
PROGRAM = [sys.executable, "-m", "eventstore"]
AMSTERDAM = timezone(timedelta(hours=2))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], dsn: str, schema: str) -> Callable[..., tuple[int, str, str]]:
    """A command on the test's schema: its exit code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--dsn", dsn, "--schema", schema])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(dsn, schema) as store:
        yield store


def events(count: int, **data: Any) -> list[Event]:
    return [Event(event_type="Counted", data={"number": number, **data}) for number in range(1, count + 1)]


def versions(printed: str) -> list[int]:
    return [int(line.split()[0]) for line in printed.splitlines()]


# --- the program ------------------------------------------------------------------------------------------------------


def test_the_program_without_a_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("demo", "migrate", "read", "import")
    assert main([]) == 2
    complaint = capsys.readouterr().err
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in complaint and command in printed for command in commands)


def test_the_module_is_the_program() -> None:
    done = subprocess.run([*PROGRAM, "--version"], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("eventstore ")
    assert done.stderr == ""


IMPORT = ["import", "a.csv", "--category=C", "--stream=s", "--type=t", "--timestamp=u"]


@pytest.mark.parametrize("arguments", [["read", "S"], ["migrate"], IMPORT])
def test_a_command_without_a_database_says_how_to_name_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENTSTORE_DSN", raising=False)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eventstore: ")
    assert all(hint in line for hint in ("--dsn", "EVENTSTORE_DSN", "eventstore demo"))


def test_the_database_may_be_named_by_the_environment(
    dsn: str, schema: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTSTORE_DSN", dsn)
    assert main(["migrate", "--schema", schema]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["read", "S"], ["migrate"]])
def test_a_missing_server_is_reported_in_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--dsn", "postgresql://127.0.0.1:1/nothing"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eventstore: no connection to the server: ")


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "²"])
def test_an_invalid_number_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", "S", f"--limit={number}"]) == 2
    assert "not a whole number" in capsys.readouterr().err


def test_the_names_of_the_demo_are_left_to_the_application() -> None:
    program = (
        "from eventstore.cli import main; from eventstore.event_types import event_class; main(['migrate', '--dsn=-']);"
        "assert event_class('OrderCreated') is None"
    )
    subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL)


# --- migrate ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def new_schema(dsn: str, schema: str) -> Iterator[str]:
    """The name of a schema that does not exist."""
    yield f"{schema}_new"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(f"{schema}_new")))


def test_migrate_says_what_it_applied(dsn: str, new_schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["migrate", "--dsn", dsn, "--schema", new_schema]
    assert main(command) == 0
    assert f"schema '{new_schema}': applied 0001_events, 0002_append" in capsys.readouterr().out
    assert main(command) == 0
    assert capsys.readouterr().out == f"schema '{new_schema}' is up to date\n"


def test_a_dry_run_prints_the_sql_and_runs_none(dsn: str, new_schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["migrate", "--dsn", dsn, "--schema", new_schema]
    assert main([*command, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f'SET LOCAL search_path = pg_catalog, pg_temp;\nCREATE SCHEMA "{new_schema}"')
    with psycopg.connect(dsn) as connection:
        assert not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [new_schema]).fetchall()
        connection.execute(printed)
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"-- schema '{new_schema}' is up to date\n"


def test_triggers_can_be_left_out(dsn: str, new_schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--dsn", dsn, "--schema", new_schema, "--without-triggers"]) == 0
    assert "append_only" not in capsys.readouterr().out


# --- read -------------------------------------------------------------------------------------------------------------


def test_an_event_is_a_line(store: PostgresEventStore, run: Callable[..., tuple[int, str, str]]) -> None:
    moment = datetime(2011, 10, 11, 13, 45, 40, 276000, AMSTERDAM)
    store.append("Order-1", [Event(event_type="Order shipped", data={"to": "Zoë", "paid": True}, timestamp=moment)], 0)
    assert run("read", "Order-1") == (
        0,
        '     1  2011-10-11 13:45:40.276000+02:00  Order shipped  {"to": "Zoë", "paid": true}\n',
        "",
    )


def test_what_a_terminal_would_obey_is_spelled_out(
    store: PostgresEventStore, run: Callable[..., tuple[int, str, str]]
) -> None:
    data = {"text": "one\ntwo\x1b[2J \x9b2J\u2028", "file": b"\x00\x1b"}
    store.append("Order-1", [Event(event_type="a\x1b]0;title\x07\nb", data=data)], 0)
    _, printed, _ = run("read", "Order-1")
    assert printed.rstrip("\n").isprintable()
    assert r"a\x1b]0;title\x07\nb" in printed
    assert r"one\ntwo\u001b[2J \u009b2J\u2028" in printed
    assert "<2 bytes>" in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], range(1, 21)),
        (["--backwards"], range(20, 0, -1)),
        (["--limit", "15"], range(1, 16)),
        (["--limit", "14", "--backwards"], range(20, 6, -1)),
        (["--from-version", "3", "--to-version", "18"], range(4, 19)),
        (["--from-version", "3", "--to-version", "18", "--backwards", "--limit", "9"], range(18, 9, -1)),
        (["--limit", "0"], ()),
        (["--from-version", "20"], ()),
    ],
)
def test_read_fetches_what_it_is_asked_for_page_by_page(
    options: list[str],
    expected: range,
    store: PostgresEventStore,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 7)
    store.append("Order-1", events(20), 0)
    code, printed, complaint = run("read", "Order-1", *options)
    assert (code, versions(printed), complaint) == (0, list(expected), "")


def test_a_stream_that_does_not_exist(run: Callable[..., tuple[int, str, str]], schema: str) -> None:
    expected = f"eventstore: there is no stream 'Order-1' in schema '{schema}'\n"
    assert run("read", "Order-1") == (1, "", expected)
    assert run("read", "Order-1", "--json") == (1, "", expected)


def test_read_as_json_shows_every_part_of_an_event(
    store: PostgresEventStore, run: Callable[..., tuple[int, str, str]]
) -> None:
    event = Event(
        event_type="Tried",
        data={"price": Decimal("12.50"), "more": (1,)},
        metadata={"user": UUID(int=3)},
        timestamp=datetime(2024, 5, 1, tzinfo=UTC),
    )
    store.append("Order-1", [event], 0)
    _, printed, _ = run("read", "Order-1", "--json")
    (line,) = printed.splitlines()
    (stored,) = store.read("Order-1")
    assert json.loads(line, parse_constant=pytest.fail) == {
        "event_id": str(event.event_id),
        "stream_id": "Order-1",
        "version": 1,
        "position": stored.position,
        "event_type": "Tried",
        "revision": 1,
        "timestamp": "2024-05-01T00:00:00+00:00",
        "data": {"price": {"$decimal": "12.50"}, "more": {"$tuple": [1]}},
        "metadata": {"user": {"$uuid": str(UUID(int=3))}},
    }


@pytest.mark.parametrize(
    ("options", "expected"), [([], rb'{"name": "Zo\xeb \u20ac"}'), (["--json"], '"Zoë €"'.encode())]
)
def test_an_output_that_lacks_a_letter(
    options: list[str], expected: bytes, store: PostgresEventStore, dsn: str, schema: str
) -> None:
    store.append("Order-1", [Event(event_type="Named", data={"name": "Zoë €"})], 0)
    done = subprocess.run(
        [*PROGRAM, "read", "Order-1", "--dsn", dsn, "--schema", schema, *options],
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert expected in done.stdout


def test_read_ends_quietly_when_the_reader_of_its_pipe_goes(store: PostgresEventStore, dsn: str, schema: str) -> None:
    store.append("Order-1", events(2_000, text="x" * 500), 0)  # more than a pipe holds
    with subprocess.Popen(
        [*PROGRAM, "read", "Order-1", "--dsn", dsn, "--schema", schema],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().split()[0] == b"1"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_the_last_lines_may_meet_a_closed_pipe_as_well(store: PostgresEventStore, dsn: str, schema: str) -> None:
    store.append("Order-1", events(1), 0)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*PROGRAM, "read", "Order-1", "--dsn", dsn, "--schema", schema],
            env=ENVIRONMENT,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_unwritable_output_is_reported(store: PostgresEventStore, dsn: str, schema: str) -> None:
    store.append("Order-1", events(1), 0)
    with Path("/dev/full").open("w") as full:
        command = [*PROGRAM, "read", "Order-1", "--dsn", dsn, "--schema", schema]
        done = subprocess.run(command, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "eventstore: [Errno 28] No space left on device\n")


# --- progress ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> str:
        """What stands on its line."""
        line: list[str] = []
        column = 0
        for character in self.getvalue():
            if character == "\r":
                column = 0
            else:
                line[column : column + 1] = character
                column += 1
        return "".join(line).rstrip()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that progress sees, to be set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_a_bar_and_is_left_clean(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress("orders", total=1000, stream=terminal) as shown:
        clock[0] += 10
        shown.advance(250)
        assert terminal.screen() == "orders: [======                  ]  25%  250 events  25/s  00:30 left"
        clock[0] += 10
        shown.advance(750)
        assert terminal.screen() == "orders: [========================] 100%  1,000 events  50/s  00:00 left"
    assert terminal.screen() == ""
    assert "\n" not in terminal.getvalue()


def test_the_total_may_be_of_something_else(clock: list[float]) -> None:
    terminal = Terminal()
    shown = Progress("file", total=1_000_000, unit="rows", stream=terminal)
    clock[0] += 3600
    shown.advance(10, done=250_000)
    assert terminal.screen() == "file: [======                  ]  25%  10 rows  0/s  3:00:00 left"


def test_progress_without_a_total_counts(clock: list[float]) -> None:
    terminal = Terminal()
    shown = Progress("log", stream=terminal)
    clock[0] += 2
    shown.advance(5000)
    assert terminal.screen() == "log: 5,000 events  2,500/s"


def test_a_bar_is_not_drawn_more_often_than_it_can_be_seen(clock: list[float]) -> None:
    terminal = Terminal()
    shown = Progress("log", stream=terminal)
    for _ in range(1000):
        clock[0] += 0.001
        shown.advance()
    assert terminal.getvalue().count("\r") == pytest.approx(10, abs=1)


def test_progress_elsewhere_than_on_a_terminal_is_a_line_now_and_then(clock: list[float]) -> None:
    log = io.StringIO()
    with Progress("orders", total=100, stream=log) as shown:
        for _ in range(100):
            clock[0] += 0.25
            shown.advance()
    assert log.getvalue().splitlines() == [
        "orders:  40%  40 events  4/s  00:15 left",
        "orders:  80%  80 events  4/s  00:05 left",
    ]


def test_a_narrow_terminal_is_not_broken(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_columns", lambda _stream: 20)
    terminal = Terminal()
    shown = Progress("orders", total=100, stream=terminal)
    clock[0] += 1
    shown.advance()
    assert len(terminal.screen()) <= 19


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes the streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_whose_output_is_closed_does_its_work(dsn: str, schema: str, closed: str) -> None:
    command = f'exec "{sys.executable}" -m eventstore verify --dsn "$1" --schema "$2" {closed}'
    done = subprocess.run(["sh", "-c", command, "sh", dsn, schema], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
