"""``eventstore export`` and ``import --exact``: what comes out goes in again, with everything that its rows have."""

from __future__ import annotations

import gzip
import json
import re
import sys
import types
from base64 import b64decode
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import Event, ExpectedVersion, PostgresEventStore, Tombstone
from eventstore.codec.record import Record
from eventstore.core.exporting import Exported, event_of, line_of
from eventstore.privacy import InMemorySubjectKeys
from eventstore.testing.contract.personal import ContractMemberNamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiving import Run
    from psycopg_pool import ConnectionPool

FORMAT = Path(__file__).parents[1] / "docs" / "format.md"


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    store = PostgresEventStore(pool, schema)
    moment = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    store.append("Cart-1", [Event(event_type="Added", data={"at": moment, "n": n, 3: b"\0"}) for n in range(3)], 0)
    store.append("Cart-2", [Event(event_type="Added", timestamp=moment, metadata={"by": "ann"})], 0)
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:  # Positions that are missing for ever.
        transaction.append("Cart-2", [Event(event_type="Added")], 1)
        raise ZeroDivisionError
    store.append("Ärger-1", [Event(event_type="Line\nbreak", data={"text": "\u2028"})], 0)
    store.close_stream("Cart-1", Event(event_type="Carried"), 3)
    store.retire("Cart-2", reason="done")
    return store


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().split("\n") if line]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
@pytest.mark.usefixtures("store")
def test_export_import_export_is_byte_identical(
    run: Run, other_schema: str, tmp_path: Path, *, suffix: str, pool: ConnectionPool
) -> None:
    if suffix.endswith("zst") and sys.version_info < (3, 14):
        pytest.importorskip("zstandard")
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    assert run("export", first) == (0, f"{first}: 7 events, up to position 8\n", "")
    assert run("import", "--exact", first, where=other_schema) == (0, f"{first}: 7 events imported\n", "")
    assert run("export", second, where=other_schema)[0] == 0
    assert first.read_bytes() == second.read_bytes()
    assert not list(tmp_path.glob("*.part"))
    assert run("verify", where=other_schema)[0] == 0
    with pool.connection() as connection:
        columns = "version, position, timestamp, utc_offset, revision, closing, tombstone, event_id, stream_id, data"
        rows = [
            connection.execute(f"SELECT {columns}, metadata FROM {name}.events ORDER BY position".encode()).fetchall()
            for name in (other_schema.removesuffix("_other"), other_schema)
        ]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("store")
def test_a_store_goes_on_after_an_import(run: Run, other_schema: str, tmp_path: Path, pool: ConnectionPool) -> None:
    run("export", tmp_path / "e.jsonl")
    run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)
    copy = PostgresEventStore(pool, other_schema)
    assert copy.append("Cart-1", [Event(event_type="Added")], 4).position == 9
    assert isinstance(copy.read("Cart-2")[-1], Tombstone)
    assert [event.position for event in copy.read_all()] == [1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.usefixtures("store")
def test_an_import_that_was_interrupted_is_continued(
    run: Run, other_schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, again = tmp_path / "e.jsonl", tmp_path / "again.jsonl"
    run("export", path)
    monkeypatch.setattr("eventstore.cli.exact._BATCH", 2)
    from eventstore.cli import exact  # noqa: PLC0415

    batches: list[int] = []
    work = exact._Import._import

    def interrupted(self: Any, batch: list[Exported], **options: Any) -> None:
        batches.append(len(batch))
        if len(batches) == 3:
            raise KeyboardInterrupt
        work(self, batch, **options)

    monkeypatch.setattr(exact._Import, "_import", interrupted)
    assert run("import", "--exact", path, where=other_schema)[0] == 130
    assert run("import", "--exact", path, where=other_schema)[:2] == (
        0,
        f"{path}: 3 events imported; 4 were there already\n",
    )
    assert run("import", "--exact", path, where=other_schema)[:2] == (
        0,
        f"{path}: 0 events imported; 7 were there already\n",
    )
    run("export", again, where=other_schema)
    assert path.read_bytes() == again.read_bytes()


def test_an_import_beside_other_events_keeps_the_order_of_positions(
    run: Run, store: PostgresEventStore, other_schema: str, tmp_path: Path, pool: ConnectionPool
) -> None:
    path = tmp_path / "e.jsonl"
    run("export", path)
    target = PostgresEventStore(pool, other_schema)
    target.append("There-1", [Event(event_type="T")], 0)
    for count in ("7 events imported", "0 events imported; 7 were there already"):
        assert run("import", "--exact", path, where=other_schema)[:2] == (0, f"{path}: {count}\n")
    found = list(target.read_all())
    assert [event.event_id for event in found[1:]] == [event.event_id for event in store.read_all()]
    assert [event.position for event in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run("verify", where=other_schema)[0] == 0


@pytest.mark.usefixtures("store")
def test_an_import_over_other_events_at_the_same_places_is_refused(
    run: Run, other_schema: str, tmp_path: Path, pool: ConnectionPool
) -> None:
    run("export", tmp_path / "e.jsonl")
    target = PostgresEventStore(pool, other_schema)
    target.append("Cart-2", [Event(event_type="T")], 0)
    code, _, err = run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)
    assert code == 1
    assert "the store holds another event as version 1 of stream 'Cart-2'" in err
    assert len(list(target.read_all())) == 1


@pytest.mark.parametrize(
    ("arguments", "positions"),
    [
        (["--category", "Cart"], [1, 2, 3, 4, 7, 8]),
        (["--stream", "Cart-2"], [4, 8]),
        (["--type", "Carried"], [7]),
        (["--since-position", "3"], [4, 6, 7, 8]),
        (["--to-position", "3"], [1, 2, 3]),
        (["--until", "2024-03-01T00:00Z"], [4]),
        (["--since", "2024-03-01T00:00Z", "--category", "Cart"], [1, 2, 3, 7, 8]),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_part_of_the_log_is_exported(run: Run, tmp_path: Path, arguments: list[str], positions: list[int]) -> None:
    assert run("export", tmp_path / "e.jsonl", *arguments)[0] == 0
    _, *events, end = lines_of(tmp_path / "e.jsonl")
    assert [event["position"] for event in events] == positions
    assert end["end"]["events"] == len(positions)


@pytest.mark.usefixtures("store")
def test_an_import_of_a_part_of_a_stream_is_refused(run: Run, other_schema: str, tmp_path: Path) -> None:
    run("export", tmp_path / "e.jsonl", "--since-position", "2")
    code, _, err = run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)
    assert code == 1
    assert "version 2 of stream 'Cart-1' is neither in the export nor in the store" in err


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.usefixtures("store")
def test_an_export_that_was_interrupted_is_continued(run: Run, tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"e.{suffix}"
    run("export", whole)
    size = len(whole.read_bytes())
    for cut in range(0, size, 211):
        path.with_name(f"{path.name}.part").write_bytes(whole.read_bytes()[:cut])
        assert run("export", path)[0] == 0
        assert path.read_bytes() == whole.read_bytes()
        path.unlink()
    assert [each.name for each in tmp_path.iterdir()] == [whole.name]


@pytest.mark.usefixtures("store")
def test_an_interrupted_export_of_other_events_is_not_continued(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    run("export", tmp_path / "whole.jsonl")
    (tmp_path / "whole.jsonl").rename(tmp_path / "e.jsonl.part")
    code, _, err = run("export", path, "--category", "Cart")
    assert code == 1
    assert "an interrupted export of other events: remove it" in err


@pytest.mark.usefixtures("store")
def test_an_interrupted_export_of_another_store_or_of_other_data_is_not_continued(
    run: Run, other_schema: str, pool: ConnectionPool, tmp_path: Path, module: types.ModuleType
) -> None:
    module.__dict__["same"] = lambda event: event
    path = tmp_path / "e.jsonl"
    run("export", tmp_path / "whole.jsonl")
    begun = b"".join((tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)[:4])
    (tmp_path / "e.jsonl.part").write_bytes(begun)
    code, _, err = run("export", path, "--anonymize", "anonymousshop:same")
    assert code == 1
    assert "an interrupted export of other events: remove it" in err
    for path in (tmp_path / "e.jsonl", tmp_path / "other.jsonl"):
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)
        path.with_name(f"{path.name}.part").write_bytes(begun)
        code, _, err = run("export", path, where=other_schema)
        assert code == 1
        assert "an interrupted export of another store: remove it" in err
        PostgresEventStore(pool, other_schema).append("s", [Event(event_type="T")], ExpectedVersion.ANY)


@pytest.mark.usefixtures("store")
def test_an_export_is_continued_from_the_attempt_that_came_furthest(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.cli import exporting  # noqa: PLC0415

    whole, path = tmp_path / "whole.jsonl", tmp_path / "e.jsonl"
    run("export", whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    path.with_name("e.jsonl.old").write_bytes(b"".join(lines[:2]))
    path.with_name("e.jsonl.part").write_bytes(b"".join(lines[:5]))
    written: list[bytes] = []
    line_of = exporting.line_of
    monkeypatch.setattr(exporting, "line_of", lambda each: (written.append(b""), line_of(each))[1])
    assert run("export", path)[0] == 0
    assert len(written) == len(lines) - 1 - 5
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("store")
def test_a_file_that_exists_is_not_written_over(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text("mine")
    assert run("export", path)[0] == 1
    assert path.read_text() == "mine"


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    module = types.ModuleType("anonymousshop")
    sys.modules["anonymousshop"] = module
    yield module
    del sys.modules["anonymousshop"]


@pytest.mark.usefixtures("store")
def test_an_export_is_anonymized_by_a_function(
    run: Run, other_schema: str, tmp_path: Path, module: types.ModuleType, pool: ConnectionPool
) -> None:
    module.__dict__["hide"] = lambda event: (
        event if event.event_type.startswith("eventstore.") else Event(event_type=event.event_type, data={"hidden": 1})
    )
    assert run("export", tmp_path / "e.jsonl", "--anonymize", "anonymousshop:hide")[0] == 0
    assert run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)[0] == 0
    found = PostgresEventStore(pool, other_schema).read("Cart-1")
    assert [event.data for event in found] == [{"hidden": 1}] * 4
    assert [event.version for event in found] == [1, 2, 3, 4]


@pytest.mark.usefixtures("store")
def test_a_function_that_returns_another_event_is_refused(run: Run, tmp_path: Path, module: types.ModuleType) -> None:
    module.__dict__["hide"] = lambda _: Event(event_type="Other")
    code, _, err = run("export", tmp_path / "e.jsonl", "--anonymize", "anonymousshop:hide")
    assert code == 1
    assert "return such an event" in err


def changed(text: bytes, what: str) -> bytes:
    lines = text.splitlines(keepends=True)
    return {
        "cut off at a line": b"".join(lines[:-1]),
        "cut off in a line": text[:-30],
        "altered": text.replace(b'"version":2', b'"version":9', 1),
        "a line less": b"".join([*lines[:2], *lines[3:]]),
        "a line more behind the end": text + lines[1],
        "of a newer format": text.replace(b'"version":1', b'"version":2', 1),
        "of something else": b'{"a":1}\n',
        "not JSON": b"id,name\n1,ann\n",
        "empty": b"",
        "lines in another order": b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
    }[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cut off at a line", "the last line is missing: the file was cut off"),
        ("cut off in a line", "cut off"),
        ("altered", "the digest is not that of the lines: the file was altered"),
        ("a line less", "the file was altered"),
        ("a line more behind the end", "the file was altered"),
        ("of a newer format", "this export has version 2 of the format"),
        ("of something else", "this is not an export of `eventstore export`"),
        ("not JSON", "this line is not JSON"),
        ("empty", "the last line is missing"),
        ("lines in another order", "the file was altered"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.usefixtures("store")
def test_what_is_not_a_whole_export_is_refused_before_anything_is_stored(
    run: Run, other_schema: str, tmp_path: Path, *, suffix: str, what: str, message: str
) -> None:
    path = tmp_path / "e.jsonl"
    run("export", path)
    text = changed(path.read_bytes(), what)
    path = tmp_path / f"wrong.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    code, out, err = run("import", "--exact", path, where=other_schema)
    assert (code, out) == (1, "")
    assert message in err
    assert run("export", tmp_path / "after.jsonl", where=other_schema)[1].endswith(": 0 events, up to position 0\n")


@pytest.mark.usefixtures("store")
def test_a_compressed_export_that_was_cut_off_is_refused(run: Run, other_schema: str, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl.gz"
    run("export", path)
    path.write_bytes(path.read_bytes()[:-20])
    code, _, err = run("import", "--exact", path, where=other_schema)
    assert code == 1
    assert "the file was cut off" in err


def test_a_file_that_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run("import", "--exact", tmp_path / "none.jsonl")
    assert code == 1
    assert "No such file" in err


@pytest.mark.usefixtures("store")
def test_a_second_import_at_the_same_time_is_refused(run: Run, other_schema: str, tmp_path: Path, dsn: str) -> None:
    run("export", tmp_path / "e.jsonl")
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT pg_advisory_lock(hashtextextended('import', %s::regclass::oid::bigint))",
            (f"{other_schema}.event_positions",),
        )
        code, _, err = run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)
    assert code == 1
    assert "another import into this store is running" in err


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
records = st.builds(
    Record,
    stream_id=texts,
    version=st.integers(1, 2**63 - 1),
    position=st.integers(1, 2**63 - 1),
    event_id=st.binary(min_size=16, max_size=16),
    event_type=texts,
    data=st.binary(max_size=40),
    metadata=st.binary(max_size=40),
    timestamp=st.integers(-63_082_000_000_000_000, 252_455_000_000_000_000).map(
        lambda microseconds: microseconds.to_bytes(8, signed=True)
    ),
    utc_offset=st.integers(-86_399, 86_399),
    revision=st.integers(1, 2**15 - 1),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(records, st.booleans(), st.booleans())
def test_a_line_keeps_everything(record: Record, closing: bool, tombstone: bool) -> None:
    exported = Exported(record, closing, tombstone)
    line = line_of(exported)
    assert line.count(b"\n") == 1
    assert event_of(line) == exported


@pytest.mark.usefixtures("store")
def test_the_documentation_lists_the_fields_of_a_line(run: Run, tmp_path: Path) -> None:
    run("export", tmp_path / "e.jsonl")
    written = {name for line in lines_of(tmp_path / "e.jsonl")[1:-1] for name in line}
    section = FORMAT.read_text().partition("## Exports")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == written
    (schema,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert set(json.loads(schema)["properties"]) == written


def test_sealed_data_stays_sealed_and_the_copy_knows_whose_it_is(
    run: Run, store: PostgresEventStore, other_schema: str, tmp_path: Path, pool: ConnectionPool
) -> None:
    keys = InMemorySubjectKeys()
    keyed = PostgresEventStore(pool, store.statements.schema, subject_keys=keys)
    keyed.append("Member-1", [ContractMemberNamed(member="ann", name="Ann Personal")], 0)
    run("export", tmp_path / "e.jsonl")
    assert run("import", "--exact", tmp_path / "e.jsonl", where=other_schema)[0] == 0
    assert b"Personal" not in b"".join(b64decode(line.get("data", "")) for line in lines_of(tmp_path / "e.jsonl"))
    (found,) = PostgresEventStore(pool, other_schema, subject_keys=keys).read("Member-1")
    assert found.data == {"member": "ann", "name": "Ann Personal"}
    with pool.connection() as connection:
        rows = connection.execute(f"SELECT subject, stream_id FROM {other_schema}.subject_streams".encode()).fetchall()
    assert rows == [("ann", "Member-1")]
    assert run("verify", where=other_schema)[0] == 0
