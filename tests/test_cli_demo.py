"""``eventstore demo``, always in a process of its own: its classes of events claim names that other tests use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from waiting import PATIENCE

import eventstore
from eventstore import Event, PostgresEventStore
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE_ROOT = Path(eventstore.__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.getenv("PYTHONPATH")))),
    "EVENTSTORE_DSN": "postgresql://127.0.0.1:1/not_for_a_demo",
}
PROGRAM = [sys.executable, "-m", "eventstore", "demo"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of a server started by root can enter, as pytest's own can't be."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o711)
        yield Path(path)


def demo(*options: str | Path) -> str:
    done = subprocess.run([*PROGRAM, *options], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def counts(printed: str) -> dict[str, int]:
    """The events of each type, as the last step found them in the log."""
    found = re.findall(r"^ +([\d,]+)  (\w+)$", printed, re.MULTILINE)
    return {event_type: int(count.replace(",", "")) for count, event_type in found}


def check(printed: str, events: int) -> None:
    assert re.findall(r"^(\d)\. ", printed, re.MULTILINE) == list("1234567")
    for said in (
        "was expected at 1, but it is at version 2; nothing was stored",
        "shipped with chair, cushion",
        "moved: the first holds table; the second sofa, vase",
        "neither stream changed: the first still holds table",
        "from its snapshot: ",
        "the same state both ways: yes",
        "without a gap: yes",
        "eventstore --help",
    ):
        assert said in printed
    # What the threads appended, the long order, and what the first steps did.
    assert sum(counts(printed).values()) == events + 5001 + 10


def test_the_demo_runs_on_a_server_of_its_own_and_can_keep_its_data(place: Path) -> None:
    kept = place / "kept"
    with EmbeddedServer(kept, durable=False) as server:  # a new cluster that is on disk takes seconds
        migrate(server.dsn)
        with PostgresEventStore.connect(server.dsn) as store:
            store.append("Order-1", [Event(event_type="Earlier")], 0)
    printed = demo("--directory", kept, "--events", "12")
    check(printed, 12)
    assert "found to be up to date" in printed
    assert f"its data stays in {kept}" in printed
    with EmbeddedServer(kept, durable=False) as server, PostgresEventStore.connect(server.dsn) as store:
        assert sum(1 for _ in store.read_all()) == 1 + 12 + 5001 + 10


def test_the_demo_leaves_a_given_database_as_it_was(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'eventstore_demo%'"
        before = connection.execute(schemas).fetchall()
        printed = demo("--dsn", dsn, "--events", "1003")
        assert connection.execute(schemas).fetchall() == before
    check(printed, 1003)
    assert counts(printed)["ParcelScanned"] == 200 * 2 + 5000
    assert "was dropped again" in printed


def test_ctrl_c_leaves_no_server_and_no_directory(place: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "--events", "1000000"],
        env=ENVIRONMENT | {"TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("5. "):
            assert process.poll() is None
        assert any(place.iterdir())
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
        assert (process.returncode, complaint) == (130, "eventstore: interrupted\n")
        assert list(place.iterdir()) == []


def test_the_demo_without_a_server_says_how_to_get_one() -> None:
    program = (
        "import sys; from eventstore.cli import main; from eventstore.postgres.embedded import binaries;"
        "binaries._candidates = tuple; sys.exit(main(['demo']))"
    )
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "EVENTSTORE_PG_BIN"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'pip install "pg-eventstore[quickstart]"' in line
