"""Archiving and restoring, killed at every step: what was moved is whole somewhere, and the command can be repeated."""

from __future__ import annotations

import multiprocessing
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from archiving import fill, rows_of
from conftest import wanted_binaries
from killing import run_and_kill
from psycopg.conninfo import make_conninfo
from waiting import eventually

from eventstore import PostgresEventStore
from eventstore.archives.manifest import MANIFEST
from eventstore.archives.places import Directory
from eventstore.archives.reading import Archive
from eventstore.cli import main
from eventstore.cli.store_connection import StoreConnection
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiving import Run

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by POSIX signals"),
    pytest.mark.usefixtures("carts"),
]
ARCHIVE = ("archive", "--category", "Cart", "--retired-for", "0d", "--to")
STEPS = 200
"""More than there are."""
CONTEXT = multiprocessing.get_context("forkserver") if sys.platform != "win32" else multiprocessing


@pytest.fixture(scope="module", autouse=True)
def _fork_server() -> None:
    if sys.platform != "win32":
        CONTEXT.set_forkserver_preload(["killing"])


def killed(dsn: str, step: int, *arguments: object) -> bool:
    """Whether a command was killed at a step, and had not ended before."""
    process = CONTEXT.Process(target=run_and_kill, args=(step, [*map(str, arguments)]))
    process.start()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    with psycopg.connect(dsn, autocommit=True) as connection:

        def is_gone() -> bool:
            query = "SELECT FROM pg_stat_activity WHERE application_name = 'killed'"
            return connection.execute(query).fetchone() is None

        assert eventually(is_gone)
    return process.exitcode != 0


def held_in(place: Path) -> set[tuple[str, int, int]]:
    """The events of an archive, if there is one."""
    if not (place / MANIFEST).exists():
        return set()
    events = [each.record for part in Archive(Directory(str(place))).parts() for each in part]
    return {(each.stream_id, each.version, each.position) for each in events}


def places_of(rows: list[Any]) -> set[tuple[str, int, int]]:
    return {tuple(row[:3]) for row in rows}


def steps(every: int) -> Iterator[int]:
    yield from range(1, STEPS, every)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_an_archive_that_is_killed_at_any_step_can_be_repeated_and_loses_nothing(
    run: Run, dsn: str, schema: str, tmp_path: Path, every: int
) -> None:
    before = rows_of(dsn, schema)
    where = ["--dsn", make_conninfo(dsn, application_name="killed"), "--schema", schema]
    for step in steps(every):
        place = tmp_path / str(step)
        name, *options = ARCHIVE
        ended = not killed(dsn, step, name, *where, *options, place)
        assert places_of(rows_of(dsn, schema)) | held_in(place) == places_of(before)
        if not (place / MANIFEST).exists():
            assert rows_of(dsn, schema) == before
        assert run(*ARCHIVE, place)[0] == 0
        assert len(rows_of(dsn, schema)) == len(before) - 15
        assert all(each.name == MANIFEST or each.suffix == ".gz" for each in place.iterdir())
        assert run("restore", place)[0] == 0
        assert rows_of(dsn, schema) == before
        if ended:
            return
    pytest.fail("the command never came to its end")


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_restore_that_is_killed_at_any_step_can_be_repeated_and_loses_nothing(
    run: Run, dsn: str, schema: str, tmp_path: Path, every: int
) -> None:
    before, place = rows_of(dsn, schema), tmp_path / "a"
    where = ["--dsn", make_conninfo(dsn, application_name="killed"), "--schema", schema]
    for step in steps(every):
        assert run(*ARCHIVE, place)[0] == 0
        left = rows_of(dsn, schema)
        ended = not killed(dsn, step, "restore", *where, place)
        assert rows_of(dsn, schema) in (left, before)
        assert run("restore", place)[0] == 0
        assert rows_of(dsn, schema) == before
        if ended:
            return
    pytest.fail("the command never came to its end")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(bin_directory=wanted_binaries(), settings={"fsync": "off"}) as server:
        yield server


@pytest.mark.parametrize("moment", ["before the statement", "after the statement"])
@pytest.mark.parametrize("command", ["archive", "restore"])
@pytest.mark.usefixtures("small_parts")
def test_what_a_killed_server_interrupts_can_be_repeated_and_loses_nothing(
    *,
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
    command: str,
) -> None:
    schema = f"test_{secrets.token_hex(4)}"
    migrate(server.dsn, schema)
    with PostgresEventStore.connect(server.dsn, schema) as store:
        fill(store)
    before = rows_of(server.dsn, schema)
    where = ["--dsn", server.dsn, "--schema", schema]
    archive = ["archive", *where, *ARCHIVE[1:], str(tmp_path / "a")]
    restore = ["restore", *where, str(tmp_path / "a")]
    if command == "restore":
        assert main(archive) == 0
    rows, moves = StoreConnection.rows, list[object]()

    def and_kill_the_server(self: StoreConnection, statement: Any, parameters: Any = None) -> list[Any]:
        is_one = "streams(" in repr(statement)
        moves.append(is_one)
        second = is_one and sum(map(bool, moves)) == (2 if command == "archive" else 1)
        if second and moment == "before the statement":
            server.restart("immediate")
        found = rows(self, statement, parameters)
        if second and moment == "after the statement":
            server.restart("immediate")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(StoreConnection, "rows", and_kill_the_server)
        capsys.readouterr()
        assert main(archive if command == "archive" else restore) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("eventstore: the connection to the server was lost: ")
    assert said.err.count("\n") == 1
    assert places_of(rows_of(server.dsn, schema)) | held_in(tmp_path / "a") == places_of(before)
    assert main(archive if command == "archive" else restore) == 0
    if command == "archive":
        assert len(rows_of(server.dsn, schema)) == len(before) - 15
        assert main(restore) == 0
    assert rows_of(server.dsn, schema) == before
