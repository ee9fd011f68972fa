"""``eventstore archive``, ``restore`` and ``truncate``: what is moved is whole in one place or in both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from archiving import fill, rows_of
from baskets import Basket, SnapshotsAdded

from eventstore import (
    Event,
    ExpectedVersion,
    PostgresEventStore,
    PostgresSnapshotStore,
    Repository,
    StreamRetired,
    Subscription,
    Tombstone,
)
from eventstore.archives.manifest import parsed_manifest
from eventstore.archives.places import Directory
from eventstore.archives.reading import Archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiving import Run
    from psycopg_pool import ConnectionPool

ARCHIVE = ("archive", "--category", "Cart", "--retired-for", "0d", "--to")


def records(dsn: str, schema: str) -> list[tuple[str, int]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            f"SELECT stream_id, before FROM {schema}.archived_streams ORDER BY 1, 2".encode()
        ).fetchall()


@pytest.mark.usefixtures("small_parts", "carts")
def test_retired_streams_are_moved_but_for_their_tombstones(run: Run, dsn: str, schema: str, tmp_path: Path) -> None:
    before = rows_of(dsn, schema)
    place = tmp_path / "archive"
    code, out, err = run(*ARCHIVE, place)
    assert (code, err) == (0, "")
    assert out == f"{place}: 5 stream(s), 20 events in 5 part(s); 15 events deleted from schema {schema!r}\n"
    left = rows_of(dsn, schema)
    assert left == [row for row in before if not ("Cart-1" <= row[0] < "Cart-9") or row[-1]]
    assert records(dsn, schema) == [(f"Cart-{number}", 4) for number in range(1, 6)]
    held = [each.record for events in Archive(Directory(str(place))).parts() for each in events]
    assert [(each.position, each.stream_id, each.version) for each in held] == [
        (row[2], row[0], row[1]) for row in before if "Cart-1" <= row[0] < "Cart-9"
    ]
    assert run("verify")[:2] == (0, f"{len(left)} events, up to position {left[-1][2]}: 0 finding(s)\n")


def test_an_archived_stream_stays_retired_and_its_id_is_never_free(
    run: Run, carts: PostgresEventStore, tmp_path: Path
) -> None:
    end = carts.last_position()
    run(*ARCHIVE, tmp_path / "a")
    for expected in (0, 3, 4, ExpectedVersion.ANY, ExpectedVersion.NO_STREAM):
        with pytest.raises(StreamRetired):
            carts.append("Cart-1", [Event(event_type="Added")], expected)
    with pytest.raises(StreamRetired, match="checked out"):
        Repository(carts, Cart).load("1")
    assert [type(event) for event in carts.read("Cart-1")] == [Tombstone]
    assert carts.last_position() == end


class Cart(Basket):
    """Its streams are those of the fixture."""

    ignored = ("Added",)


@pytest.mark.usefixtures("small_parts")
def test_a_restored_store_is_what_it_was_to_the_byte(
    run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    before, place = rows_of(dsn, schema), tmp_path / "a"
    run(*ARCHIVE, place)
    code, out, err = run("restore", place)
    assert (code, out, err) == (0, f"{place}: 5 stream(s), 15 events restored to schema {schema!r}\n", "")
    assert rows_of(dsn, schema) == before
    assert records(dsn, schema) == []
    assert run("verify")[0] == 0
    assert carts.append("Order-1", [Event(event_type="Noted")], 3).position == before[-1][2] + 1
    # Both can be repeated, and the same archive serves again.
    assert run("restore", place)[:2] == (0, f"{place}: nothing to restore: its 20 events are in schema {schema!r}\n")
    assert run(*ARCHIVE, place)[0] == 0
    assert run("restore", place)[0] == 0
    assert rows_of(dsn, schema)[:-1] == before


def test_one_stream_is_restored_and_then_the_others(
    run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    before, place = rows_of(dsn, schema), tmp_path / "a"
    run(*ARCHIVE, place)
    assert run("restore", place, "--stream", "Cart-2")[1].endswith(
        f"1 stream(s), 3 events restored to schema {schema!r}\n"
    )
    assert len(carts.read("Cart-2")) == 4
    assert records(dsn, schema) == [(f"Cart-{number}", 4) for number in (1, 3, 4, 5)]
    assert run("verify")[0] == 0
    code, _, err = run("restore", place, "--stream", "Cart-0")
    assert (code, err) == (1, f"eventstore: archive {place}: it has no stream 'Cart-0'\n")
    assert run("restore", place)[0] == 0
    assert rows_of(dsn, schema) == before


@pytest.mark.usefixtures("carts")
def test_only_streams_that_were_retired_long_ago_are_archived(run: Run, dsn: str, schema: str, tmp_path: Path) -> None:
    before = rows_of(dsn, schema)
    code, out, err = run("archive", "--category", "Cart", "--retired-for", "1d", "--to", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "nothing to archive" in out
    assert rows_of(dsn, schema) == before
    assert not (tmp_path / "a").exists()
    assert run("archive", "--category", "Cart", "--retired-for", "long", "--to", tmp_path)[0] == 2


def test_a_repeated_archive_changes_nothing(
    run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    place = tmp_path / "a"
    run(*ARCHIVE, place)
    carts.retire("Cart-0", reason="late")
    left, files = rows_of(dsn, schema), {each.name: each.read_bytes() for each in place.iterdir()}
    code, out, err = run(*ARCHIVE, place)
    assert (code, err) == (0, "")
    assert "nothing of them was left to delete: choose another place for a new archive" in out
    assert rows_of(dsn, schema) == left
    assert {each.name: each.read_bytes() for each in place.iterdir()} == files
    assert run(*ARCHIVE, tmp_path / "b")[1].startswith(f"{tmp_path / 'b'}: 1 stream(s), 4 events")


@pytest.mark.usefixtures("carts")
def test_each_part_is_an_export_that_imports_elsewhere(
    run: Run, dsn: str, schema: str, other_schema: str, tmp_path: Path
) -> None:
    before = rows_of(dsn, schema)
    run(*ARCHIVE, tmp_path / "a")
    (part,) = (tmp_path / "a").glob("*.jsonl.gz")
    assert run("import", "--exact", part, where=other_schema)[0] == 0
    assert rows_of(dsn, other_schema) == [row for row in before if "Cart-1" <= row[0] < "Cart-9"]


def test_a_store_with_archived_streams_is_exported_and_imported(
    *, run: Run, carts: PostgresEventStore, dsn: str, schema: str, other_schema: str, tmp_path: Path
) -> None:
    assert carts.read("Cart-1")
    run(*ARCHIVE, tmp_path / "a")
    assert run("export", tmp_path / "e.jsonl")[0] == 0
    assert run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)[0] == 0
    assert rows_of(dsn, other_schema) == rows_of(dsn, schema)
    assert run("verify", where=other_schema)[0] == 0


@pytest.mark.usefixtures("carts")
def test_reading_an_archived_stream_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    run(*ARCHIVE, tmp_path / "a")
    code, out, err = run("read", "Cart-1")
    assert (code, err) == (0, "eventstore: the versions below 4 were moved into an archive: `eventstore restore`\n")
    assert out.count("\n") == 1
    assert run("read", "Cart-1", "--backwards")[2] == run("read", "Cart-0")[2] == ""


# What is in the way.


def test_a_checkpoint_below_the_events_is_in_the_way(
    run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    mails = Subscription(carts, "mails", lambda _: None, categories=["Order"], batch_size=2)
    Subscription(carts, "slow", lambda event: mails.stop() or 1 // (event.position < 3), attempts=1)
    late = Subscription(carts, "late", lambda event: 1 // (event.position < 3), attempts=1)
    with pytest.raises(Exception, match="late"):
        late.run_until_caught_up()
    before = rows_of(dsn, schema)
    code, out, err = run(*ARCHIVE, tmp_path / "a")
    assert (code, out) == (1, "")
    assert err == (
        "eventstore: the checkpoint of subscription 'late' is in the way: it is at position 2, and the events go up to "
        "20: let it catch up first, or remove it\n"
    )
    assert rows_of(dsn, schema) == before
    assert not (tmp_path / "a").exists()
    late.remove()
    assert run(*ARCHIVE, tmp_path / "a")[0] == 0


def test_a_checkpoint_that_gets_in_the_way_meanwhile_is_found_by_the_server(
    *, run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.cli import archiving  # noqa: PLC0415

    before, write = rows_of(dsn, schema), archiving._Move._write

    def and_register(self: Any) -> bool:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"SELECT {schema}.register_subscription('new', 1, 0, '{{}}')".encode())
        return write(self)

    monkeypatch.setattr(archiving._Move, "_write", and_register)
    code, out, err = run(*ARCHIVE, tmp_path / "a")
    assert (code, out) == (1, "")
    assert err == (
        "eventstore: the checkpoint of subscription 'new' is in the way: it is at position 0, and the events go up to "
        "20: Nothing of these streams was deleted.\n"
    )
    assert rows_of(dsn, schema) == before
    Subscription(carts, "new", lambda _: None).run_until_caught_up()
    assert run(*ARCHIVE, tmp_path / "a")[0] == 0


def test_a_parked_event_is_in_the_way_until_it_is_dropped(run: Run, carts: PostgresEventStore, tmp_path: Path) -> None:
    parking = Subscription(carts, "parking", lambda e: 1 // (e.position - 2), on_failure="park", attempts=1)
    parking.run_until_caught_up()
    code, _, err = run(*ARCHIVE, tmp_path / "a")
    assert code == 1
    assert "subscription 'parking' has parked the event at position 2: retry or drop it first" in err
    parking.drop_parked(2)
    assert run(*ARCHIVE, tmp_path / "a")[0] == 0
    assert run("verify")[0] == 0


@pytest.mark.usefixtures("carts")
@pytest.mark.parametrize(
    "command", [(*ARCHIVE, "{}/b"), ("restore", "{}/a"), ("truncate", "Cart-0", "--before", "2", "--archived", "{}/b")]
)
def test_two_at_once_are_refused(run: Run, dsn: str, schema: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    run(*ARCHIVE, tmp_path / "a")
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_advisory_lock(hashtextextended('eventstore.archiving', %s::regclass::oid::bigint))",
            (f"{schema}.event_positions",),
        )
        code, out, err = run(*(argument.format(tmp_path) for argument in command))
    assert (code, out) == (1, "")
    assert err == (
        "eventstore: another `eventstore archive`, `restore` or `truncate` of this store is running: wait for its end\n"
    )


@pytest.mark.usefixtures("carts")
def test_of_two_archives_of_other_stores_in_one_place_the_later_is_refused(
    *,
    run: Run,
    pool: ConnectionPool,
    dsn: str,
    other_schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(PostgresEventStore(pool, other_schema))
    before = rows_of(dsn, other_schema)
    create, place = Directory.create, tmp_path / "a"

    def create_second(self: Directory, name: str, content: bytes) -> bool:
        monkeypatch.setattr(Directory, "create", create)
        assert run(*ARCHIVE, place)[0] == 0
        return self.create(name, content)

    monkeypatch.setattr(Directory, "create", create_second)
    code, out, err = run(*ARCHIVE, place, where=other_schema)
    assert (code, out) == (1, "")
    assert (
        err
        == f"eventstore: archive {place}: another archive was written there at the same time: choose another place\n"
    )
    assert rows_of(dsn, other_schema) == before
    assert run("restore", place)[0] == 0
    assert len(list(place.iterdir())) == 2


@pytest.mark.usefixtures("carts")
@pytest.mark.parametrize("name", ["manifest.json.bak", "part.jsonl.gz"])
def test_files_of_others_are_not_removed(run: Run, tmp_path: Path, name: str) -> None:
    run(*ARCHIVE, tmp_path)
    (tmp_path / name).write_text("mine")
    assert run(*ARCHIVE, tmp_path)[0] == 0
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.usefixtures("carts")
def test_a_place_with_something_else_in_it_is_refused(run: Run, dsn: str, schema: str, tmp_path: Path) -> None:
    before = rows_of(dsn, schema)
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = run(*ARCHIVE, tmp_path)
    assert (code, err) == (
        1,
        f"eventstore: archive {tmp_path}: it holds other files, such as 'mine.txt': choose an empty place\n",
    )
    code, _, err = run(*ARCHIVE, tmp_path / "mine.txt")
    assert code == 1
    assert err.count("\n") == 1
    assert rows_of(dsn, schema) == before
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("carts")
def test_an_archive_of_something_else_is_not_continued(run: Run, tmp_path: Path) -> None:
    run(*ARCHIVE, tmp_path)
    code, _, err = run("archive", "--category", "Order", "--retired-for", "0d", "--to", tmp_path)
    assert code == 1
    assert "it holds retired streams of category 'Cart' of schema" in err


@pytest.mark.usefixtures("carts")
def test_an_archive_of_another_schema_is_refused(
    *, run: Run, pool: ConnectionPool, dsn: str, schema: str, other_schema: str, tmp_path: Path
) -> None:
    fill(PostgresEventStore(pool, other_schema))
    before = rows_of(dsn, other_schema)
    run(*ARCHIVE, tmp_path)
    code, out, err = run("restore", tmp_path, where=other_schema)
    assert (code, out) == (1, "")
    assert err == (
        f"eventstore: archive {tmp_path}: schema {other_schema!r} has no record of it: it belongs to another store, "
        f"whose schema was {schema!r}\n"
    )
    code, _, err = run(*ARCHIVE, tmp_path, where=other_schema)
    assert code == 1
    assert f"it holds retired streams of category 'Cart' of schema {schema!r} already" in err
    assert rows_of(dsn, other_schema) == before


# Archives that are not what they were.


def _manifest(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((place / "manifest.json").read_text())
    change(values)
    (place / "manifest.json").write_text(json.dumps(values))


def _first_part(place: Path) -> Path:
    return min(place.glob("*.jsonl.gz"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a part is cut off": lambda place: _first_part(place).write_bytes(_first_part(place).read_bytes()[:-9]),
    "a part is altered": lambda place: _first_part(place).write_bytes(b"x" + _first_part(place).read_bytes()[1:]),
    "a part has another byte that gzip passes over": lambda place: _first_part(place).write_bytes(
        _first_part(place).read_bytes()[:9] + b"\x07" + _first_part(place).read_bytes()[10:]
    ),
    "a part is missing": lambda place: _first_part(place).unlink(),
    "two parts are exchanged": lambda place: shutil.copy(sorted(place.glob("*.gz"))[1], _first_part(place)),
    "the manifest is cut off": lambda place: (place / "manifest.json").write_bytes(
        (place / "manifest.json").read_bytes()[:-9]
    ),
    "the manifest is another file": lambda place: (place / "manifest.json").write_text("[]"),
    "the manifest is missing": lambda place: (place / "manifest.json").unlink(),
    "of a newer format": lambda place: _manifest(place, lambda values: values.update(version=2)),
    "another number of events": lambda place: _manifest(place, lambda values: values.update(events=7)),
    "a part that leads elsewhere": lambda place: _manifest(
        place, lambda values: values["parts"][0].update(name="../secret.jsonl.gz")
    ),
    "a part less": lambda place: _manifest(
        place, lambda values: values.update(events=values["events"] - values["parts"].pop()["events"])
    ),
    "a field that is unknown": lambda place: _manifest(place, lambda values: values["parts"][0].update(more=1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("small_parts", "carts")
def test_a_damaged_archive_is_refused(run: Run, dsn: str, schema: str, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "a"
    run(*ARCHIVE, place)
    left = rows_of(dsn, schema)
    whole = tmp_path / "whole"
    shutil.copytree(place, whole)
    DAMAGES[damage](place)
    code, out, err = run("restore", place)
    assert (code, out) == (1, "")
    assert err.startswith(f"eventstore: archive {place}: ")
    assert err.count("\n") == 1
    assert rows_of(dsn, schema) == left
    assert run("restore", whole)[0] == 0


@pytest.mark.usefixtures("small_parts", "carts")
def test_nothing_is_deleted_that_can_not_be_read_back(
    run: Run, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, place, create = rows_of(dsn, schema), tmp_path / "a", Directory.create

    def create_and_damage(self: Directory, name: str, content: bytes) -> bool:
        created = create(self, name, content)
        part = _first_part(place)
        part.write_bytes(part.read_bytes()[:50])
        return created

    monkeypatch.setattr(Directory, "create", create_and_damage)
    code, out, err = run(*ARCHIVE, place)
    assert (code, out) == (1, "")
    assert "it was cut off or altered" in err
    assert rows_of(dsn, schema) == before


@pytest.mark.usefixtures("carts")
def test_nothing_is_deleted_that_the_store_has_otherwise(
    run: Run, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.cli import archiving  # noqa: PLC0415

    write = archiving._Move._write

    def and_change(self: Any) -> bool:
        written = write(self)
        with psycopg.connect(dsn) as connection:
            connection.execute(f"ALTER TABLE {schema}.events DISABLE TRIGGER append_only".encode())
            connection.execute(
                f"UPDATE {schema}.events SET utc_offset = 7 WHERE stream_id = 'Cart-3' AND version = 2".encode()
            )
            connection.execute(f"ALTER TABLE {schema}.events ENABLE TRIGGER append_only".encode())
        return written

    monkeypatch.setattr(archiving._Move, "_write", and_change)
    code, _, err = run(*ARCHIVE, tmp_path / "a")
    assert code == 1
    assert "the archive does not have the events that the store has below version 4 of stream 'Cart-3'" in err
    assert len(rows_of(dsn, schema)) == 26


@pytest.mark.usefixtures("carts")
def test_events_that_stand_where_others_belong_are_not_restored_over(
    run: Run, dsn: str, schema: str, tmp_path: Path
) -> None:
    place = tmp_path / "a"
    run(*ARCHIVE, place)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"INSERT INTO {schema}.events (version, position, timestamp, utc_offset, event_id, stream_id, event_type,"
            " data, metadata) VALUES (2, 3, now(), 0, gen_random_uuid(), 'Cart-4', 'T', '\\x80', '\\x80')".encode()
        )
    left = rows_of(dsn, schema)
    code, out, err = run("restore", place)
    assert (code, out) == (1, "")
    assert "the store holds other events where those of archive" in err
    assert "(stream_id, version)=(Cart-4, 2) already exists" in err
    assert err.count("\n") == 1
    assert rows_of(dsn, schema) == left


def test_a_forged_archive_is_not_restored(
    run: Run, carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    """An operator can call the functions of the database, but bring back only what was deleted."""
    assert carts.read("Cart-1")
    run(*ARCHIVE, tmp_path / "a")
    left = rows_of(dsn, schema)
    with psycopg.connect(dsn) as connection:
        (manifest,) = (
            connection.execute(f"SELECT DISTINCT manifest FROM {schema}.archived_streams".encode()).fetchone() or ()
        )
        connection.execute(
            f"INSERT INTO {schema}.restored_events (version, position, timestamp, utc_offset, revision, closing,"
            " tombstone, event_id, stream_id, event_type, data, metadata)"
            " SELECT n, n, now(), 0, 1, false, false, gen_random_uuid(), 'Cart-1', 'T', '\\x80', '\\x80'"
            " FROM generate_series(1, 3) AS n".encode()
        )
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="are not those that were archived"):
            connection.execute(f"SELECT {schema}.restore_streams(%s)".encode(), (manifest,))
    assert rows_of(dsn, schema) == left


def test_a_manifest_describes_itself_as_documented(run: Run, carts: PostgresEventStore, tmp_path: Path) -> None:
    assert carts.read("Cart-1")
    run(*ARCHIVE, tmp_path)
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert parsed_manifest((tmp_path / "manifest.json").read_bytes()).events == 20
    section = (
        (Path(__file__).parents[1] / "docs" / "format.md").read_text().partition("## Archives")[2].partition("\n## ")[0]
    )
    for name in [*written, *written["parts"][0]]:
        assert f"| `{name}` |" in section


# Truncating.


@pytest.fixture
def account(pool: ConnectionPool, schema: str) -> Repository[Basket]:
    store = PostgresEventStore(pool, schema)
    repository = Repository(store, Basket, PostgresSnapshotStore(pool, schema), snapshot_frequency=3)
    for year in range(3):
        basket = repository.load("7") if year else Basket("7")
        for number in range(4):
            basket.add(number)
            repository.save(basket)
        store.close_stream("Basket-7", SnapshotsAdded(number=100 + year), basket.version)
    basket = repository.load("7")
    basket.add(5)
    repository.save(basket)
    return repository


TRUNCATE = ("truncate", "Basket-7", "--before")


def test_a_stream_is_truncated_before_its_closing_event(
    run: Run, account: Repository[Basket], dsn: str, schema: str, tmp_path: Path
) -> None:
    whole, place = rows_of(dsn, schema), tmp_path / "a"
    loaded = account.load("7")
    code, out, err = run(*TRUNCATE, 10, "--archived", place)
    assert (code, err) == (0, "")
    assert out == f"{place}: 1 stream(s), 10 events in 1 part(s); 9 events deleted from schema {schema!r}\n"
    assert [row[1] for row in rows_of(dsn, schema)] == [10, 11, 12, 13, 14, 15, 16]
    again = account.load("7")
    assert (again.version, again.total, again.parts) == (loaded.version, loaded.total, loaded.parts)
    again.add(6)
    assert account.save(again) == 17
    assert run("verify", "--json")[0] == 0
    assert run(*TRUNCATE, 10, "--archived", tmp_path / "c")[:2] == (
        0,
        f"{tmp_path / 'c'}: nothing to archive: stream 'Basket-7' has no events below version 10 any more\n",
    )
    # And once more, up to the newest one; then back, the newest first.
    assert run(*TRUNCATE, 15, "--archived", tmp_path / "b")[0] == 0
    assert run("verify")[0] == 0
    assert [row[1] for row in rows_of(dsn, schema)] == [15, 16, 17]
    assert account.load("7").version == 17
    code, _, err = run("restore", place)
    assert code == 1
    assert "stream 'Basket-7' has no event of version 10 any more" in err
    assert run("restore", tmp_path / "b")[0] == 0
    assert run("restore", place)[0] == 0
    assert rows_of(dsn, schema)[:-1] == whole


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("before", "complaint"),
    [
        (
            9,
            "version 9 of stream 'Basket-7' is not a closing event, and a load that began there would be wrong: choose",
        ),
        (16, "version 16 of stream 'Basket-7' is not a closing event"),
        (17, "stream 'Basket-7' has no version 17"),
        (1, "version 1 of stream 'Basket-7' is not a closing event"),
    ],
)
def test_a_stream_is_not_truncated_where_a_load_would_be_wrong(
    *, run: Run, dsn: str, schema: str, tmp_path: Path, before: int, complaint: str
) -> None:
    whole = rows_of(dsn, schema)
    code, out, err = run(*TRUNCATE, before, "--archived", tmp_path / "a")
    assert (code, out) == (1, "")
    assert complaint in err
    assert rows_of(dsn, schema) == whole
    assert not (tmp_path / "a").exists()


def test_a_stream_without_a_closing_event_is_not_truncated(run: Run, carts: PostgresEventStore, tmp_path: Path) -> None:
    assert carts.read("Order-1")
    code, _, err = run("truncate", "Order-1", "--before", 2, "--archived", tmp_path)
    assert code == 1
    assert "close the stream first" in err


def test_a_stream_is_closed_truncated_retired_and_archived(
    *, run: Run, account: Repository[Basket], carts: PostgresEventStore, dsn: str, schema: str, tmp_path: Path
) -> None:
    whole = rows_of(dsn, schema)
    run(*TRUNCATE, 10, "--archived", tmp_path / "a")
    carts.retire("Basket-7", reason="moved")
    assert run("archive", "--category", "Basket", "--retired-for", "0s", "--to", tmp_path / "b")[0] == 0
    assert run("verify")[:1] == (0,)
    with pytest.raises(StreamRetired):
        account.load("7")
    assert run("restore", tmp_path / "b")[0] == 0
    assert run("restore", tmp_path / "a")[0] == 0
    assert rows_of(dsn, schema)[:-1] == whole


@pytest.mark.usefixtures("account")
def test_snapshots_of_archived_versions_go_with_them(run: Run, dsn: str, schema: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f"UPDATE {schema}.snapshots SET version = 3".encode())
    assert run(*TRUNCATE, 15, "--archived", tmp_path / "a")[0] == 0
    assert run("verify")[:1] == (0,)


# Full disks.

FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from eventstore.cli import main
sys.exit(main(sys.argv[2:]))
"""


def in_a_full_file_system(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where a directory is a file system of 16 KiB. Skips the test where nobody may mount one."""
    directory.mkdir()
    script = 'mount -t tmpfs -o size=16k full "$0" && exec "$@"'
    shell = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    if (
        sys.platform != "linux"
        or subprocess.run([*shell, script, str(directory), "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system does not let the tests mount a small file system")
    command = [*shell, script, str(directory), sys.executable, "-m", "eventstore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def incompressible(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    store = PostgresEventStore(pool, schema)
    for number in range(20):
        store.append(f"Cart-{number}", [Event(event_type="Added", data={"bytes": os.urandom(4096)})], 0)
        store.retire(f"Cart-{number}", reason="done")
    return store


@pytest.mark.usefixtures("incompressible")
@pytest.mark.parametrize("command", [["export"], ["archive", "--category", "Cart", "--retired-for", "0d", "--to"]])
def test_a_full_disk_is_said_and_loses_nothing(
    dsn: str, schema: str, tmp_path: Path, command: list[str], run: Run
) -> None:
    before, place = rows_of(dsn, schema), tmp_path / "full" / "out.jsonl"
    name, *options = command
    arguments = [name, "--dsn", dsn, "--schema", schema, *options, str(place)]
    done = in_a_full_file_system(arguments, tmp_path / "full")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1
    assert rows_of(dsn, schema) == before
    assert run(*command, place)[0] == 0


@pytest.mark.usefixtures("incompressible")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for the size of files")
@pytest.mark.parametrize("limit", [1024, 40_000])
@pytest.mark.parametrize("command", [["export"], ["archive", "--category", "Cart", "--retired-for", "0d", "--to"]])
def test_a_file_that_can_not_grow_is_said_and_loses_nothing(
    *, dsn: str, schema: str, tmp_path: Path, command: list[str], limit: int, run: Run
) -> None:
    before, place = rows_of(dsn, schema), tmp_path / "out.jsonl"
    name, *options = command
    arguments = [name, "--dsn", dsn, "--schema", schema, *options, str(place)]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "it can't be written: File too large" in done.stderr or "can't be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert rows_of(dsn, schema) == before
    assert run(*command, place)[0] == 0
