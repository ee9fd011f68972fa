"""``eventstore server DIRECTORY``, run as a user runs it: in a process of its own, ended by signals."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import wanted_binaries
from waiting import PATIENCE

import eventstore
from eventstore import Event, PostgresEventStore
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [sys.executable, "-m", "eventstore", "server"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(eventstore.__file__).parents[1]), os.getenv("PYTHONPATH"))))
}
if binaries := wanted_binaries():
    ENVIRONMENT["EVENTSTORE_PG_BIN"] = str(binaries)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of a server started by root can enter, as pytest's own can't be."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o711)
        yield Path(path)


@contextmanager
def served(directory: Path, ended_by: int = signal.SIGTERM) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command, and the DSN in what it prints; at the end it gets the signal, and must end well."""
    with subprocess.Popen(
        [*PROGRAM, directory], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        try:
            (assignment,) = shlex.split(line.removeprefix("export "))
            yield process, assignment.removeprefix("EVENTSTORE_DSN=")
        finally:
            process.send_signal(ended_by)
            code, complaint = process.wait(PATIENCE), process.stderr.read()
        assert (code, re.sub(r" [0-9.]+ ", " ", complaint)) == (
            0,
            f"PostgreSQL runs on {directory}; Ctrl-C ends it\n",
        )


def refused(directory: Path) -> str:
    done = subprocess.run([*PROGRAM, directory], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_server_prints_a_dsn_and_finds_its_data_when_started_again(place: Path) -> None:
    with served(place / "data") as (_, dsn):
        migrate(dsn)
        with PostgresEventStore.connect(dsn) as store:
            store.append("Order-1", [Event(event_type="Created")], 0)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)
    with served(place / "data", signal.SIGINT) as (_, dsn), PostgresEventStore.connect(dsn) as store:
        assert [event.event_type for event in store.read("Order-1")] == ["Created"]


def test_a_directory_in_use_is_refused_in_one_line(place: Path) -> None:
    with served(place / "data"):
        assert re.search(r"/data is in use by another server \(process \d+\): stop that", refused(place / "data"))


def test_data_of_another_major_version_is_refused_in_one_line(place: Path) -> None:
    with EmbeddedServer(place / "data", durable=False, bin_directory=wanted_binaries()):
        pass
    (place / "data" / "data" / "PG_VERSION").write_text("9\n")
    assert "holds data of PostgreSQL 9" in refused(place / "data")


def test_a_directory_that_can_not_be_made_or_entered_is_refused_in_one_line(place: Path) -> None:
    (place / "file").touch()
    assert "Not a directory" in refused(place / "file" / "data")
    locked = place / "locked"
    locked.mkdir(0o700 if os.geteuid() == 0 else 0o500)
    complaint = refused(locked / "data")
    assert "Permission denied" in complaint
    assert os.geteuid() != 0 or "Started by root, it runs as uid" in complaint


def test_a_server_that_ends_by_itself_ends_the_command(place: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, place / "data"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        postmaster = int((place / "data" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        assert process.wait(PATIENCE) == 1
        assert f"PostgreSQL (process {postmaster}) has ended by itself" in process.stderr.read()
