"""The commands that show events of all streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from eventstore import Event, ExpectedVersion, PostgresEventStore
from eventstore.cli import main, watching
from eventstore.context import causing
from eventstore.core import places

ANY = ExpectedVersion.ANY
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        return main([command, *arguments, "--dsn", dsn, "--schema", schema]), *capsys.readouterr()

    return run


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


def ago(**parts: float) -> datetime:
    return datetime.now(UTC) - timedelta(**parts)


def event(number: int, event_type: str = "Numbered", **changes: Any) -> Event:
    return Event(event_type=event_type, data={"number": number}, **changes)


def numbers(printed: str) -> list[int]:
    return [json.loads(line)["data"]["number"] for line in printed.splitlines()]


# --- tail -------------------------------------------------------------------------------------------------------------


def test_tail_prints_columns(store: PostgresEventStore, run: Run) -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    store.append("Order-1", [event(7, "a\x1b]0;t\x07", timestamp=moment)], 0)
    assert run("tail") == (
        0,
        f"{1:>10}  2024-05-01 12:00:00.000+00:00  Order-1 1  a\\x1b]0;t\\x07  " + '{"number": 7}\n',
        "",
    )


def test_tail_prints_the_newest_events_in_their_order(store: PostgresEventStore, run: Run) -> None:
    for number in range(30):
        store.append(f"{'Order' if number % 2 else 'Mail'}-{number}", [event(number, f"T{number % 3}")], 0)
    assert numbers(run("tail", "--json")[1]) == list(range(10, 30))
    assert numbers(run("tail", "--json", "--limit", "3")[1]) == [27, 28, 29]
    assert numbers(run("tail", "--json", "--limit", "0")[1]) == []
    assert numbers(run("tail", "--json", "--limit=2", "--category=Order")[1]) == [27, 29]
    assert numbers(run("tail", "--json", "--limit=2", "--type=T0", "--category=Order")[1]) == [21, 27]
    assert numbers(run("tail", "--json", "--limit=3", "--type=T0", "--type=T1")[1]) == [25, 27, 28]
    assert numbers(run("tail", "--json", "--from-position", "25")[1]) == [25, 26, 27, 28, 29]
    assert run("tail", "--category=None") == (0, "", "")


def test_tail_begins_where_times_say(store: PostgresEventStore, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MARGIN", 2)
    for number in range(40):
        store.append("Order-1", [event(number, timestamp=ago(minutes=40 - number))], number)
    assert numbers(run("tail", "--json", "--since", "270s")[1]) == [36, 37, 38, 39]
    assert numbers(run("tail", "--json", "--since", ago(minutes=2.5).isoformat())[1]) == [38, 39]
    assert numbers(run("tail", "--json", "--since", "1m", "--limit", "5")[1]) == []
    assert len(numbers(run("tail", "--json", "--since", "999999999w")[1])) == 40


def test_tail_shows_what_can_not_be_read(store: PostgresEventStore, run: Run, dsn: str, schema: str) -> None:
    store.append("Order-1", [event(1)], 0)
    with psycopg.connect(dsn) as connection:
        table = sql.Identifier(schema, "events")
        connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
        connection.execute(sql.SQL("UPDATE {} SET data = %s").format(table), [b"\xc1"])
    assert "<1 bytes that can't be read: " in run("tail")[1]
    assert json.loads(run("tail", "--json")[1])["data"] == {"$undecodable": "wQ=="}


def test_tail_follows_until_ctrl_c(store: PostgresEventStore, dsn: str, schema: str) -> None:
    store.append("Order-1", [event(1), event(2)], 0)
    command = [
        sys.executable,
        "-m",
        "eventstore",
        "tail",
        "-f",
        "--json",
        "--limit=1",
        "--dsn",
        dsn,
        "--schema",
        schema,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert numbers(process.stdout.readline()) == [2]
        for number in (3, 4):
            store.append("Order-1", [event(number)], ANY)
            assert numbers(process.stdout.readline()) == [number]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.parametrize("since", ["2x", "", "yesterday", "-2h", "²h"])
def test_an_invalid_time_is_refused(since: str, run: Run) -> None:
    code, _, complaint = run("tail", f"--since={since}")
    assert code == 2
    assert "is neither like 30s" in complaint


# --- find -------------------------------------------------------------------------------------------------------------


def test_find_compares_metadata_and_data(store: PostgresEventStore, run: Run) -> None:
    user = uuid4()
    store.append("Order-1", [event(1, metadata={"user": "ann", "n": 1}), event(2, metadata={"user": "bob"})], 0)
    store.append(
        "Order-2", [event(3, metadata={"user": {"id": user}}), event(4, metadata={"a.b": True, "user": None})], 0
    )
    found = {
        arguments: numbers(run("find", "--json", *arguments)[1])
        for arguments in (
            ("--metadata", "user=ann"),
            ("--metadata", "user=ann", "--metadata", "n=1"),
            ("--metadata", "user=ann", "--metadata", "n=2"),
            ("--metadata", f"user.id={user}"),
            ("--metadata", "a.b=true"),
            ("--metadata", "a.b=True"),
            ("--metadata", "user=null"),
            ("--metadata", "user="),
            ("--data", "number=3"),
            ("--data", "number=1", "--metadata", "user=ann"),
            ("--type", "Numbered", "--limit", "2"),
        )
    }
    assert list(found.values()) == [[1], [1], [], [3], [4], [4], [4], [], [3], [1], [1, 2]]


def test_find_ends_with_1_if_there_is_nothing(store: PostgresEventStore, run: Run) -> None:
    store.append("Order-1", [event(1)], 0)
    assert run("find", "--metadata", "user=ann") == (1, "", "")


def test_find_looks_at_so_many_positions_and_says_so(
    store: PostgresEventStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LOOKED_AT", 3)
    store.append("Order-1", [event(number) for number in range(1, 6)], 0)
    code, printed, complaint = run("find", "--json")
    assert (code, numbers(printed)) == (0, [3, 4, 5])
    assert complaint == "eventstore: looking at positions above 2 only: --from-position 0 looks at all of them\n"
    assert numbers(run("find", "--json", "--from-position", "0")[1]) == [1, 2, 3, 4, 5]


def test_find_needs_a_name_and_a_value(run: Run) -> None:
    for wrong in ("user", "=ann"):
        code, _, complaint = run("find", f"--metadata={wrong}")
        assert code == 2
        assert "is not like user=ann" in complaint


# --- trace ------------------------------------------------------------------------------------------------------------


def test_trace_prints_each_event_below_its_cause(store: PostgresEventStore, run: Run) -> None:
    store.append("Order-1", [event(1, "Ordered", metadata={"correlation_id": "request-1"})], 0)
    (cause,) = store.read("Order-1")
    with causing(cause):
        store.append("Mail-1", [event(2, "Mailed")], 0)
    (mailed,) = store.read("Mail-1")
    code, printed, _ = run("trace", str(mailed.event_id))
    first, second = printed.splitlines()
    assert code == 0
    assert first.endswith(f"  Ordered  Order-1 1  {cause.event_id}")
    assert second.endswith(f"    Mailed  Mail-1 1  {mailed.event_id} *")
    assert numbers(run("trace", "request-1", "--json")[1]) == [1, 2]


def test_trace_says_that_there_is_nothing(run: Run, schema: str) -> None:
    assert run("trace", "x") == (1, "", f"eventstore: nothing in schema {schema!r} is, or belongs to, 'x'\n")


def test_tail_says_that_the_log_was_restored_below_what_it_has_shown(
    store: PostgresEventStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append("Order-1", [event(number) for number in range(3)], 0)
    ends = iter([3, 3, 2])
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(watching, "_rows", lambda *_: [])
    monkeypatch.setattr(PostgresEventStore, "carry_out", lambda *_: next(ends))
    code, printed, complaint = run("tail", "--follow", "--limit", "0")
    assert (code, printed) == (1, "")
    assert "the log ends at 2, and was shown up to 3: it was restored, or created again" in complaint
