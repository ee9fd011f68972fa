"""Rebuilding a read model from the log and the archives of what has left it."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from eventstore import (
    ArchiveError,
    AsyncPostgresEventStore,
    AsyncProjection,
    Event,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    PostgresTransaction,
    Projection,
    SubscriptionFailed,
    batched,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from archiving import Run

pytestmark = pytest.mark.usefixtures("small_parts")
ARCHIVE = ("archive", "--category", "Cart", "--retired-for", "0d", "--to")


@pytest.fixture
def model(dsn: str, schema: str, carts: PostgresEventStore) -> Iterator[PostgresEventStore]:
    """The store, on connections that find the table of a read model: which events it was given, in which order."""
    assert carts.read("Cart-1")
    options = f"-c search_path={schema}_model"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}_model".encode())
        connection.execute(
            f"CREATE TABLE {schema}_model.seen (number serial, position bigint, stream_id text)".encode()
        )
        with PostgresEventStore.connect(make_conninfo(dsn, options=options), schema) as store:
            yield store
        connection.execute(f"DROP SCHEMA {schema}_model CASCADE".encode())


def note(event: Event, transaction: PostgresTransaction) -> None:
    transaction.connection.execute(
        "INSERT INTO seen (position, stream_id) VALUES (%s, %s)", [event.position, event.stream_id]
    )


@batched
def note_many(events: Sequence[Event], transaction: PostgresTransaction) -> None:
    for event in events:
        note(event, transaction)


def seen(dsn: str, schema: str) -> list[tuple[int, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            f"SELECT position, stream_id FROM {schema}_model.seen ORDER BY number".encode()
        ).fetchall()


def projection(store: PostgresEventStore, handler: Any = note, **options: Any) -> Projection[Any]:
    return Projection(store, "seen", handler, tables=["seen"], **{"batch_size": 3, **options})


@pytest.mark.parametrize("handler", [note, note_many])
def test_a_rebuild_reads_archives_beside_the_log_in_the_order_of_positions(
    *, run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path, handler: Any
) -> None:
    projection(model, handler).run_until_caught_up()
    before = seen(dsn, schema)
    assert len(before) == 26
    assert run(*ARCHIVE, tmp_path / "a")[0] == 0
    model.retire("Cart-0", reason="done")
    projection(model, handler).run_until_caught_up()
    assert run(*ARCHIVE, tmp_path / "b")[0] == 0
    projection(model, handler).rebuild(archives=[str(tmp_path / "b"), str(tmp_path / "a")])
    assert seen(dsn, schema) == [*before, (27, "Cart-0")]
    assert projection(model).status().position == 27
    # What was restored is read once.
    assert run("restore", tmp_path / "a", "--stream", "Cart-2")[0] == 0
    projection(model, handler).rebuild(archives=[str(tmp_path / "a"), str(tmp_path / "b")])
    assert seen(dsn, schema) == [*before, (27, "Cart-0")]


def test_a_rebuild_from_archives_filters_as_the_log_does(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"categories": "Cart", "event_types": "Added"}
    projection(model, **options).run_until_caught_up()
    before = seen(dsn, schema)
    assert len(before) == 18
    run(*ARCHIVE, tmp_path / "a")
    projection(model, **options).rebuild(archives=[str(tmp_path / "a")])
    assert seen(dsn, schema) == before
    projection(model, **options).rebuild(from_position=before[4][0], archives=[str(tmp_path / "a")])
    assert seen(dsn, schema) == before[5:]


def test_an_async_rebuild_reads_archives(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path / "a")

    async def rebuild() -> None:
        async def anote(event: Event, transaction: Any) -> None:
            await transaction.connection.execute(
                "INSERT INTO seen (position, stream_id) VALUES (%s, %s)", [event.position, event.stream_id]
            )

        options = f"-c search_path={schema}_model"
        async with AsyncPostgresEventStore.connect(make_conninfo(dsn, options=options), schema) as store:
            await AsyncProjection(store, "seen", anote, tables=["seen"], batch_size=3).rebuild(
                archives=[str(tmp_path / "a")]
            )

    asyncio.run(rebuild())
    assert seen(dsn, schema) == before


def test_a_rebuild_that_needs_an_archive_is_refused_without_it(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path / "a")
    with pytest.raises(InvalidOperation, match=r"needs events that were moved into 1 archive\(s\), .*/a: name them in"):
        projection(model).rebuild()
    assert seen(dsn, schema) == before
    # Not where its filter leaves them out, they are below its beginning, or somebody wants to do without them.
    projection(model, categories="Order").rebuild()
    assert [stream_id for _, stream_id in seen(dsn, schema)] == ["Order-1"] * 3
    projection(model).rebuild(from_position=26)
    assert seen(dsn, schema) == []
    projection(model).rebuild(archives=None)
    assert len(seen(dsn, schema)) == 11


def test_a_rebuild_refuses_what_is_no_archive_of_its_store(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path / "a")
    run("restore", tmp_path / "a")
    with pytest.raises(ArchiveError, match="has no record of events that are there"):
        projection(model).rebuild(archives=[str(tmp_path / "a")])
    with pytest.raises(ArchiveError, match="there is no archive"):
        projection(model).rebuild(archives=[str(tmp_path / "none")])
    with pytest.raises(InvalidArgument, match="archives must be a list of places"):
        projection(model).rebuild(archives=str(tmp_path / "a"))
    projection(model).rebuild()
    assert seen(dsn, schema) == before


def test_a_rebuild_stops_at_a_part_that_was_altered_and_changes_nothing(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path)
    part = sorted(tmp_path.glob("*.jsonl.gz"))[3]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="it was cut off or altered"):
        projection(model).rebuild(archives=[str(tmp_path)])
    assert seen(dsn, schema) == before
    assert projection(model).status().rebuilt_to is None


def test_a_rebuild_in_which_events_fail_goes_back_in_the_archive(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    tries: list[int] = []

    def fail_once(event: Event, transaction: PostgresTransaction) -> None:
        tries.append(event.position)
        if event.position in {5, 9} and tries.count(event.position) == 1:
            raise ValueError
        note(event, transaction)

    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path)
    projection(model, fail_once, on_failure="park").rebuild(archives=[str(tmp_path)])
    assert seen(dsn, schema) == before


def test_an_event_in_an_archive_is_not_parked(
    run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    def fail(event: Event, transaction: PostgresTransaction) -> None:
        if event.position in {5, 7}:
            raise ValueError
        note(event, transaction)

    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path)
    with pytest.raises(SubscriptionFailed, match=r"at position 5: .*it is in an archive, and can only be parked once"):
        projection(model, fail, on_failure="park", attempts=1).rebuild(archives=[str(tmp_path)])
    assert seen(dsn, schema) == before
    run("restore", tmp_path, "--stream", "Cart-4")
    rebuilt = projection(model, fail, on_failure="park", attempts=1)
    rebuilt.rebuild(archives=[str(tmp_path)])
    assert [position for position, _ in seen(dsn, schema)] == [p for p, _ in before if p not in {5, 7}]
    assert [event.position for event in rebuilt.parked()] == [5, 7]


def test_a_running_rebuild_keeps_events_from_being_archived(
    run: Run, model: PostgresEventStore, tmp_path: Path
) -> None:
    said: list[str] = []

    def and_archive(event: Event, transaction: PostgresTransaction) -> None:
        if event.position == 3:
            said.append(run(*ARCHIVE, tmp_path / "a")[2])
        note(event, transaction)

    projection(model).run_until_caught_up()
    projection(model, and_archive).rebuild()
    (complaint,) = said
    assert "the checkpoint of subscription 'seen' is in the way: it is at position 0" in complaint


def test_the_command_rebuilds_from_an_archive(
    *, run: Run, model: PostgresEventStore, dsn: str, schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from eventstore.cli import main  # noqa: PLC0415

    projection(model).run_until_caught_up()
    before = seen(dsn, schema)
    run(*ARCHIVE, tmp_path)
    module = types.ModuleType("archivedshop")
    module.__dict__["seen"] = projection(model)
    sys.modules["archivedshop"] = module
    try:
        assert main(["rebuild", "archivedshop:seen"]) == 1
        assert "1 archive(s)" in capsys.readouterr().err
        assert main(["rebuild", "archivedshop:seen", "--archive", str(tmp_path)]) == 0
        assert seen(dsn, schema) == before
        assert main(["rebuild", "archivedshop:seen", "--without-archives"]) == 0
        assert len(seen(dsn, schema)) == 11
        assert main(["rebuild", "archivedshop:seen", "--without-archives", "--archive", "a"]) == 2
    finally:
        del sys.modules["archivedshop"]
