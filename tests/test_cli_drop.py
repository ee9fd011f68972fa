"""``eventstore drop``: a store goes only after its name was typed, and nothing else ever does."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from waiting import PATIENCE, eventually

from eventstore import Event, InvalidArgument, PostgresEventStore
from eventstore.cli import main
from eventstore.postgres import Tenants
from eventstore.privacy import migrate_subject_keys

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


@pytest.fixture
def acme(tenants: Tenants) -> PostgresEventStore:
    store = tenants.create("acme")
    store.append("s", [Event(event_type="T"), Event(event_type="T")], 0)
    tenants.create("other").append("s", [Event(event_type="T")], 0)
    return store


def on_a_terminal(dsn: str, schema: str) -> tuple[subprocess.Popen[str], int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "drop", "--dsn", dsn, "--schema", schema],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    return process, ours


WHAT = "schema '{}acme' with all its events, up to position 2, and everything else in it"


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(("answer", "code"), [("{}acme", 0), ("acme", 1), ("y", 1), ("", 1)])
def test_on_a_terminal_the_name_has_to_be_typed(
    tenants: Tenants, dsn: str, prefix: str, answer: str, code: int
) -> None:
    process, ours = on_a_terminal(dsn, f"{prefix}acme")
    os.write(ours, f"{answer.format(prefix)}\n".encode())
    printed, _ = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert process.returncode == code
    assert f"This drops {WHAT.format(prefix)}, for ever. Type the name of the schema: " in printed
    assert ("Nothing was dropped." in printed) == bool(code)
    assert tenants.names() == (["acme", "other"] if code else ["other"])


@pytest.mark.usefixtures("acme")
def test_ctrl_c_instead_of_a_name_drops_nothing(tenants: Tenants, dsn: str, prefix: str) -> None:
    process, ours = on_a_terminal(dsn, f"{prefix}acme")
    assert process.stdout is not None
    while "Type the name" not in (shown := os.read(process.stdout.fileno(), 4096).decode()):
        assert shown
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert (process.returncode, complaint) == (130, "eventstore: interrupted\n")
    assert tenants.names() == ["acme", "other"]


@pytest.mark.usefixtures("acme")
def test_ctrl_c_while_somebody_works_in_the_schema_drops_nothing(tenants: Tenants, dsn: str, prefix: str) -> None:
    with psycopg.connect(dsn) as other:
        other.execute(f"SELECT * FROM {prefix}acme.events".encode())
        process = subprocess.Popen(
            [sys.executable, "-m", "eventstore", "drop", "--dsn", dsn, "--schema", f"{prefix}acme", "--yes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        assert eventually(lambda: other.execute(waiting).rowcount > 0)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "eventstore: interrupted\n")
    assert process.returncode == 130
    assert tenants.names() == ["acme", "other"]


@pytest.mark.usefixtures("acme")
def test_without_a_terminal_nothing_is_dropped_unless_with_yes(
    tenants: Tenants,
    dsn: str,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["drop", "--dsn", dsn, "--schema", f"{prefix}acme"]
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(command) == 1
    what = WHAT.format(prefix)
    assert capsys.readouterr().err == f"eventstore: this would drop {what}, for ever: say --yes\n"
    assert tenants.names() == ["acme", "other"]
    assert main([*command, "--yes"]) == 0
    assert capsys.readouterr().out == f"dropped {what}\n"
    assert tenants.names() == ["other"]
    assert main([*command, "--yes"]) == 1
    assert "there is no store in schema" in capsys.readouterr().err


def test_a_schema_that_is_not_named_or_holds_no_store_stays(
    dsn: str, schema: str, pool: ConnectionPool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drop", "--yes", "--dsn", dsn]) == 2
    assert "the following arguments are required: --schema" in capsys.readouterr().err
    migrate_subject_keys(dsn, f"{schema}_keys")
    with pool.connection() as connection:
        connection.execute(f'CREATE SCHEMA "{schema}_plain"')
        for name, said in (
            ("public", "there is no store in schema 'public'"),
            (f"{schema}_plain", "there is no store in schema"),
            (f"{schema}_keys", "eventstore migrate"),
            ("tenant_*", "`eventstore drop` is for one schema"),
            ('x"; DROP SCHEMA public CASCADE; --', "there is no store in schema"),
            ("", "schema"),
            ("pg_catalog", "PostgreSQL's own"),
        ):
            assert main(["drop", "--yes", "--dsn", dsn, "--schema", name]) == 1
            assert said in capsys.readouterr().err
        left = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname IN ('public', %s, %s)",
            (f"{schema}_plain", f"{schema}_keys"),
        ).fetchall()
        connection.execute(f'DROP SCHEMA "{schema}_plain"')
        connection.execute(
            f'SET client_min_messages = error; DROP SCHEMA "{schema}_keys" CASCADE; RESET client_min_messages'
        )
    assert left == [(3,)]


@pytest.mark.usefixtures("acme")
def test_of_two_that_drop_a_tenant_at_once_one_succeeds(tenants: Tenants, dsn: str, prefix: str) -> None:
    outcomes: list[str] = []

    def drop() -> None:
        try:
            tenants.drop("acme", confirm="acme")
            outcomes.append("dropped")
        except InvalidArgument as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=drop) for _ in range(2)]
    with psycopg.connect(dsn) as other:  # Both wait for this one.
        other.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('eventstore.migrate ' || %s, 0))", (f"{prefix}acme",)
        )
        for thread in threads:
            thread.start()
        waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert eventually(lambda: other.execute(waiting).rowcount >= 2)
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(outcomes) == ["dropped", "there is no tenant 'acme'"]
