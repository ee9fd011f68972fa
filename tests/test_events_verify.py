"""``eventstore events verify``: whether the program reads what is stored, counted by type and revision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from eventstore import Event, ExpectedVersion, PostgresEventStore
from eventstore.cli import main
from eventstore.contrib import commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

NOW = """
    class Shipped(Event, revision=3, formerly=["Dispatched"]):
        tracking: str

    @upcasts(Shipped, from_revision=1)
    def _(data):
        return {"tracking": str(int(data["number"]))}

    @upcasts(Shipped, from_revision=2)
    def _(data):
        return data

    class Colour(enum.Enum):
        RED = 1

    class Painted(Event):
        colour: Colour

    class Order(Aggregate["Order"]):
        ignored = ["Abandoned"]
"""


@pytest.fixture
def run(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["events", "verify", "--dsn", dsn, "--schema", schema, "shopevents", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


def append(store: PostgresEventStore, *events: Event) -> list[int]:
    """Append events, and return their positions."""
    before = len(store.read("s"))
    store.append("s", events, ExpectedVersion.ANY)
    return [row.position for row in store.read("s", before)]


def plain(event_type: str, revision: int = 1, **data: Any) -> Event:
    return Event(event_type=event_type, data=data, revision=revision)


def stored_by_others(store: PostgresEventStore, release: Any) -> dict[str, int]:
    """A log that only partly can be read, and some positions in it."""
    older = release("""
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

        class Gone(enum.Enum):
            HERE = 1

        class Painted(Event):
            colour: Colour

        class Kept(Event):
            what: Gone
    """)
    positions = append(
        store,
        plain("Shipped", number="1"),
        plain("Dispatched", number="2"),
        plain("Shipped", number="x"),
        plain("Shipped", number="y"),
        plain("Shipped", 2, tracking="3"),
        plain("Shipped", 3, tracking="4"),
        plain("Shipped", 4, tracking="5"),
        plain("Abandoned"),
        older.Painted(colour=older.Colour.RED),
        older.Painted(colour=older.Colour.BLUE),
        older.Kept(what=older.Gone.HERE),
    )
    return dict(zip(["", "", "x", "", "", "", "newer", "", "", "blue", "gone"], positions, strict=True))


def test_verify_counts_what_can_and_what_can_t_be_read(
    store: PostgresEventStore, run: Callable[..., tuple[int, str, str]], release: Any
) -> None:
    at = stored_by_others(store, release)
    release(NOW)
    code, out, err = run("--json")
    found = json.loads(out)
    assert code == 1
    assert err == "eventstore: 4 events can't be read, and 1 type(s) have no class here\n"
    assert (found["events"], found["unreadable"], found["position"]) == (11, 4, at["gone"])
    counts = {(each["event_type"], each["revision"]): (each["events"], each["unreadable"]) for each in found["types"]}
    assert counts == {
        ("Abandoned", 1): (1, 0),
        ("Dispatched", 1): (1, 0),
        ("Kept", 1): (1, 0),
        ("Painted", 1): (2, 1),
        ("Shipped", 1): (3, 2),
        ("Shipped", 2): (1, 0),
        ("Shipped", 3): (1, 0),
        ("Shipped", 4): (1, 1),
    }
    assert [(e["event_type"], e["revision"], e["kind"], e["events"], e["first_position"]) for e in found["errors"]] == [
        ("Shipped", 1, "DeserializationError (ValueError)", 2, at["x"]),
        ("Shipped", 4, "NewerRevision", 1, at["newer"]),
        ("Painted", 1, "DeserializationError (ValueError)", 1, at["blue"]),
    ]
    assert "from revision 1 raised ValueError" in found["errors"][0]["first_error"]
    assert found["unknown_types"] == ["Kept"]
    assert found["missing_names"] == [{"name": "Gone", "first_position": at["gone"]}]
    assert {each["class"] for each in found["types"] if each["event_type"] in {"Shipped", "Dispatched"}} == {
        "shopevents.Shipped"
    }


def test_verify_prints_a_summary_for_people(
    store: PostgresEventStore, run: Callable[..., tuple[int, str, str]], release: Any
) -> None:
    stored_by_others(store, release)
    release(NOW)
    code, out, _ = run()
    assert code == 1
    lines = out.splitlines()
    assert lines[0].split() == ["EVENTS", "UNREADABLE", "REVISION", "TYPE"]
    for line in (
        ["1", "0", "1", "Abandoned", "(ignored)"],
        ["1", "0", "1", "Kept", "(no", "class", "here)"],
        ["3", "2", "1", "Shipped"],
    ):
        assert line in [each.split() for each in lines]
    assert lines[-1].endswith("; 4 can't be read")
    assert any(line.startswith("no class is registered as 'Gone'") for line in lines)


def test_a_log_that_can_be_read_is_exit_code_0(
    store: PostgresEventStore, run: Callable[..., tuple[int, str, str]], release: Any
) -> None:
    release(NOW)
    assert run()[0] == 0
    append(store, plain("Shipped", number="1"), plain("Abandoned"))
    assert run()[0] == 0
    (other,) = append(store, plain("Other"))
    assert run()[0] == 1
    assert run("--allow-unknown")[0] == 0
    assert run(f"--from-position={other}")[0] == 0


def test_damage_and_impossible_times_are_found(
    run: Callable[..., tuple[int, str, str]], release: Any, pool: ConnectionPool, schema: str
) -> None:
    release(NOW)
    with pool.connection() as connection:
        for version, (data, timestamp) in enumerate(
            [(b"\xc1", "2024-01-01"), (b"\x81\xa8tracking\xa1x", "294000-01-01")], 1
        ):
            connection.execute(
                f"INSERT INTO {schema}.events (version, timestamp, revision, utc_offset, event_id, stream_id,"
                " event_type, data, metadata)"
                " VALUES (%s, %s::timestamptz, 3, 0, gen_random_uuid(), 'd', 'Shipped', %s, '\\x80')",
                [version, timestamp, data],
            )
    found = json.loads(run("--json")[1])
    assert (found["events"], found["unreadable"]) == (2, 2)
    assert "date value out of range" in found["errors"][1]["first_error"]


def test_without_the_privilege_to_read_it_is_refused_and_nothing_is_written(
    dsn: str, schema: str, pool: ConnectionPool, release: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    release(NOW)
    with pool.connection() as connection:
        connection.execute("DROP ROLE IF EXISTS unprivileged")
        connection.execute("CREATE ROLE unprivileged LOGIN")
    try:
        other = psycopg.conninfo.make_conninfo(dsn, user="unprivileged")
        assert main(["events", "verify", "--dsn", other, "--schema", schema, "shopevents"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "GRANT" in err
        assert "Traceback" not in err
    finally:
        with pool.connection() as connection:
            connection.execute("DROP ROLE unprivileged")


def test_a_missing_module_is_reported(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "verify", "--dsn", dsn, "--schema", schema, "nowhere.events"]) == 1
    assert "there is no module 'nowhere'" in capsys.readouterr().err


def test_verify_needs_a_database_and_a_module(
    dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENTSTORE_DSN", raising=False)
    assert main(["events", "verify", "shopevents"]) == 2
    assert main(["events", "verify", "--dsn", dsn]) == 2
    assert main(["events"]) == 2
    capsys.readouterr()


def test_a_framework_s_command_names_its_database(
    dsn: str, schema: str, release: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    release(NOW)
    assert commands.run(["events", "verify", "shopevents", "--json"], lambda: dsn, schema, {}, lambda: None) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 0
