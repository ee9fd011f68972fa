"""``eventstore import``: what becomes of rows, and that runs, however many and cut short, leave the same events."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from waiting import PATIENCE, eventually

import eventstore
from eventstore import Event, EventStoreError, PostgresEventStore
from eventstore.cli import arguments, importing, main, rows
from eventstore.cli.threads import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE_ROOT = Path(eventstore.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.getenv("PYTHONPATH"))))}
COLUMNS = ["--category", "Case", "--stream", "case", "--type", "did", "--timestamp", "at"]
HEADER = "case,did,at,who\n"
RECEIPT = Path(os.environ.get("EVENTSTORE_TEST_RECEIPT", Path(__file__).parents[2] / "shared" / "data" / "receipt.csv"))


def row(case: object, did: str, who: str = "ann", at: str = "2024-05-01T12:00:00+02:00") -> str:
    return f"{case},{did},{at},{who}\n"


class Result(NamedTuple):
    code: int
    printed: str
    complaint: str

    def counts(self) -> tuple[int, int, int, int]:
        """Events in the file, streams, events added, events that were there."""
        words = self.printed.replace(",", "").split(": ", 1)[1].split()
        return int(words[0]), int(words[3]), int(words[5]), int(words[7])


class Importer:
    """Imports files into the test's schema."""

    def __init__(self, dsn: str, schema: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._database = ["--dsn", dsn, "--schema", schema]
        self.directory = directory
        self._capsys = capsys

    def arguments(self, path: Path, *options: str) -> list[str]:
        return ["import", str(path), *(options if "--category" in options else [*COLUMNS, *options]), *self._database]

    def file(self, content: str | bytes, name: str = "cases.csv") -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, path: Path, *options: str) -> Result:
        code = main(self.arguments(path, *options))
        return Result(code, *self._capsys.readouterr())

    def start(self, path: Path, *options: str) -> subprocess.Popen[str]:
        """A process that imports it."""
        command = [sys.executable, "-m", "eventstore", *self.arguments(path, *options)]
        return subprocess.Popen(command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def importer(dsn: str, schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Importer:
    return Importer(dsn, schema, tmp_path, capsys)


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[PostgresEventStore]:
    with PostgresEventStore.connect(dsn, schema) as store:
        yield store


def content(store: PostgresEventStore) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """All that is stored, stream by stream."""
    streams: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for event in store.read_all():
        streams[event.stream_id].append((event.event_type, event.timestamp.isoformat(), event.data))
        assert event.version == len(streams[event.stream_id])
    return streams


def did(store: PostgresEventStore, case: str) -> list[str]:
    return [event.event_type for event in store.read(f"Case-{case}")]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_is_an_event(importer: Importer, store: PostgresEventStore) -> None:
    path = importer.file(HEADER + row(1, "opened", "", at="2011-10-11 13:45:40.276000+02:00"))
    assert importer.run(path).counts() == (1, 1, 1, 0)
    (event,) = store.read("Case-1")
    assert event.event_type == "opened"
    assert event.timestamp.isoformat() == "2011-10-11T13:45:40.276000+02:00"
    assert event.data == {"who": ""}
    assert event.metadata == {}


def test_the_order_within_a_stream_is_the_file_s(
    importer: Importer, store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BUFFER_ROWS", 7)
    text = HEADER + "".join(row(number % 3, f"step {number}") for number in range(100))
    assert importer.run(importer.file(text)).counts() == (100, 3, 100, 0)
    for case in range(3):
        assert did(store, str(case)) == [f"step {number}" for number in range(case, 100, 3)]


def test_import_reads_csv_as_common_programs_write_it(importer: Importer, store: PostgresEventStore) -> None:
    text = 'case,did,at,who\r\n1,"said ""no""",2024-05-01T12:00Z,"ann,\r\nbob"\r\n\r\n2,ended,2024-05-01T12:00Z,Zoë'
    importer.run(importer.file(text.encode("utf-8-sig")))
    (said,), (ended,) = store.read("Case-1"), store.read("Case-2")
    assert (said.event_type, said.data) == ('said "no"', {"who": "ann,\r\nbob"})
    assert (ended.event_type, ended.data) == ("ended", {"who": "Zoë"})


def test_json_lines_keep_their_values(importer: Importer, store: PostgresEventStore) -> None:
    values = {"n": 1, "big": 2**80, "x": 0.1, "none": None, "nested": {"list": [1, {"deep": [True, "ë"]}], "empty": {}}}
    line = json.dumps({"case": 17, "did": "opened", "at": "2024-05-01T12:00:00-05:30", **values})
    path = importer.file(f"{line}\n\n{line}\n", "cases.jsonl")
    assert importer.run(path).counts() == (2, 1, 2, 0)
    first, second = store.read("Case-17")
    assert first.data == second.data == values
    assert type(first.data["n"]) is int
    assert first.timestamp.isoformat() == "2024-05-01T12:00:00-05:30"
    assert first.event_id != second.event_id
    assert importer.run(path).counts() == (2, 1, 0, 2)


def test_a_time_without_an_offset_is_taken_in_the_zone_given(importer: Importer, store: PostgresEventStore) -> None:
    times = ["2024-01-15T12:00", "2024-07-15 12:00:00", "2024-07-15T12:00:00+00:00"]
    path = importer.file(HEADER + "".join(row(1, "noted", at=time) for time in times))
    assert importer.run(path, "--tz", "Europe/Amsterdam").code == 0
    assert [str(event.timestamp) for event in store.read("Case-1")] == [
        "2024-01-15 12:00:00+01:00",
        "2024-07-15 12:00:00+02:00",
        "2024-07-15 12:00:00+00:00",
    ]
    # Another zone is another time, not the same event.
    assert "holds another event" in importer.run(path, "--tz", "UTC").complaint


def test_a_zone_that_does_not_exist(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = importer.file(HEADER)
    assert importer.run(path, "--tz", "Europe/Atlantis").code == 2
    assert "'Europe/Atlantis' is not a time zone" in importer.run(path, "--tz", "Europe/Atlantis").complaint
    assert "'../secret' is not a time zone" in importer.run(path, "--tz", "../secret").complaint
    monkeypatch.setattr(arguments, "available_timezones", set)
    assert "pip install tzdata" in importer.run(path, "--tz", "Europe/Amsterdam?").complaint
    assert importer.run(path, "--tz", "UTC").code == 0


GOOD = row(1, "opened")
BAD_ROWS = {
    "no file": (None, "can't be read: No such file"),
    "empty": ("", "cases.csv:1: the file is empty: its first row names the columns"),
    "no column": ("case,done,at\n", "cases.csv:1: there is no column 'did'; the columns are 'case', 'done', 'at'"),
    "twice": ("case,did,at,at\n", "cases.csv:1: two columns have one name: 'at'"),
    "short": (HEADER + GOOD + "2,opened\n", "cases.csv:3: 2 fields, where the header has 4"),
    "long": (HEADER + GOOD + row(2, "opened", "a,b"), "cases.csv:3: 5 fields, where the header has 4"),
    "no stream": (HEADER + GOOD + row("", "opened"), "cases.csv:3: column 'case' is empty"),
    "no type": (HEADER + GOOD + row(2, " "), "cases.csv:3: column 'did' is empty"),
    "long stream": (HEADER + row("x" * 251, "opened"), "cases.csv:2: the stream id 'Case-xxx"),
    "no time": (
        HEADER + GOOD + row(2, "opened", at="noon"),
        "cases.csv:3: column 'at' has 'noon', which is not a time",
    ),
    "naive": (
        HEADER + row(2, "opened", at="2024-05-01T12:00"),
        "cases.csv:2: column 'at' has '2024-05-01T12:00', a time",
    ),
    "nanoseconds": (HEADER + row(2, "opened", at="2024-05-01T12:00:00.123456789Z"), "cases.csv:2: column 'at' has"),
    "after lines in quotes": (
        HEADER + row(1, "opened", '"a\nb\nc"') + row(2, "opened", at="noon"),
        "cases.csv:5: column 'at'",
    ),
    "open quote": (
        HEADER + GOOD + row(2, "opened", '"ann') + GOOD,
        "cases.csv:3: this is not CSV: unexpected end of data",
    ),
    "stray quote": (HEADER + GOOD + row(2, '"a" b'), "cases.csv:3: this is not CSV"),
    "not UTF-8": (HEADER.encode() + GOOD.encode() + b"2,\xff\n", "cases.csv:3: byte 3 is not UTF-8"),
    "too large": (HEADER + row(2, "opened", "x" * (16 * 1024 * 1024)), "cases.csv:2: "),
}


def complaint_about(path: Path) -> str:
    source = rows.Source(path, "Case", rows.Columns("case", "did", "at"), None)
    with pytest.raises(EventStoreError) as raised, source.open() as file:
        source.check(list(source.rows(file)))
    return str(raised.value)


@pytest.mark.parametrize(("text", "expected"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_an_invalid_row_is_named(text: str | bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    complaint = complaint_about(path)
    assert complaint.startswith(str(tmp_path))
    assert expected in complaint
    assert "\n" not in complaint


DEEP = f'{{"case": "1", "did": "a", "at": "2024-05-01T12:00Z", "x": {"[" * 100 + "]" * 100}}}'
BAD_LINES = {
    "no JSON": ('{"case": 1,}', "this is not JSON: "),
    "no object": ("[1]", "each line must be a JSON object"),
    "no column": ('{"case": "1", "at": "2024-05-01T12:00Z"}', "there is no column 'did'; the columns are 'case', 'at'"),
    "null": ('{"case": null, "did": "a", "at": "2024-05-01T12:00Z"}', "column 'case' must be text, not null"),
    "number as time": ('{"case": 1, "did": "a", "at": 20240501}', "column 'at' must be text, not 20240501"),
    "one name twice": ('{"case": 1, "x": {"y": 1, "y": 2}}', "an object has one name twice: 'y'"),
    "deep": (DEEP, "a: x[0][0]"),
    "very deep": (DEEP.replace("[", "[" * 1000).replace("]", "]" * 1000), "the row is nested too deeply"),
    "surrogate": ('{"case": 1, "did": "a", "at": "2024-05-01T12:00Z", "x": "\\ud800"}', "a: x can't be stored"),
}


@pytest.mark.parametrize(("line", "expected"), BAD_LINES.values(), ids=BAD_LINES)
def test_an_invalid_line_is_named(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"case": "1", "did": "opened", "at": "2024-05-01T12:00Z"}\n' + line)
    assert f"cases.jsonl:2: {expected}" in complaint_about(path)


def test_an_invalid_row_keeps_its_buffer_out(importer: Importer, store: PostgresEventStore) -> None:
    path = importer.file(HEADER + GOOD + "2,opened\n")
    assert importer.run(path) == (1, "", f"eventstore: {path}:3: 2 fields, where the header has 4\n")
    assert content(store) == {}


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ([], "cases.txt", "is called neither .csv nor .jsonl"),
        (["--category", "a-b", *COLUMNS[2:]], "cases.csv", "must not contain '-'"),
    ],
)
def test_an_invalid_argument_is_refused(options: list[str], name: str, expected: str, importer: Importer) -> None:
    code, _, complaint = importer.run(importer.file(HEADER, name), *options)
    assert code != 0
    assert expected in complaint


def test_a_file_without_rows_adds_nothing(importer: Importer) -> None:
    assert importer.run(importer.file(HEADER)).counts() == (0, 0, 0, 0)


def test_a_schema_that_is_missing_is_not_made(
    dsn: str, schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    importer = Importer(dsn, f"{schema}_new", tmp_path, capsys)
    code, _, complaint = importer.run(importer.file(HEADER + GOOD))
    assert code == 1
    assert f"eventstore migrate --schema {schema}_new" in complaint
    assert complaint.count("\n") == 1


# --- again ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [3, 1000])
def test_positions_follow_the_rows_of_the_whole_file(
    buffer: int, importer: Importer, store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BUFFER_ROWS", buffer)
    cases = [number * 7 % 20 for number in range(100)]
    path = importer.file(HEADER + "".join(row(case, f"step {number}") for number, case in enumerate(cases)))
    assert importer.run(path).counts() == (100, 20, 100, 0)
    assert [event.event_type for event in store.read_all()] == [f"step {number}" for number in range(100)]


def test_one_transaction_locks_a_bounded_number_of_streams(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[int] = []
    append = importing._Import._append

    def counting(self: importing._Import, rows: list[Any]) -> int:
        locked.append(len({row.stream_id for row in rows}))
        return append(self, rows)

    monkeypatch.setattr(importing._Import, "_append", counting)
    path = importer.file(HEADER + "".join(row(number, "opened") for number in range(600)))
    assert importer.run(path).counts() == (600, 600, 600, 0)
    assert locked == [256, 256, 88]


@pytest.mark.parametrize(("option", "delimiter"), [(";", ";"), ("tab", "\t"), ("\\t", "\t"), ("|", "|")])
def test_fields_may_be_delimited_otherwise(
    option: str, delimiter: str, importer: Importer, store: PostgresEventStore
) -> None:
    path = importer.file((HEADER + row(1, "opened", "a b")).replace(",", delimiter))
    result = importer.run(path)
    assert result.code == 1
    name = option if option != "\\t" else "tab"
    assert f"{path}:1: the header is one column, with a " in result.complaint
    assert f"say --delimiter {name}" in result.complaint.replace("'", "")
    assert importer.run(path, "--delimiter", option).counts() == (1, 1, 1, 0)
    assert store.read("Case-1")[0].data == {"who": "a b"}


def test_a_comma_that_is_not_the_delimiter_is_part_of_a_field(importer: Importer, store: PostgresEventStore) -> None:
    path = importer.file("case;did;at;who\n1;opened;2024-05-01T12:00Z;1,5\n")
    assert importer.run(path, "--delimiter", ";").code == 0
    assert store.read("Case-1")[0].data == {"who": "1,5"}


def test_json_lines_have_no_delimiter(importer: Importer) -> None:
    result = importer.run(importer.file("", "cases.jsonl"), "--delimiter", ";")
    assert (result.code, result.printed) == (2, "")
    assert "--delimiter is for .csv files" in result.complaint


@pytest.fixture
def three_cases(importer: Importer) -> Path:
    return importer.file(HEADER + "".join(row(number % 3, f"step {number}") for number in range(30)))


@pytest.mark.parametrize("buffer", [1, 4, 1000])
def test_a_second_run_adds_nothing(
    buffer: int, three_cases: Path, importer: Importer, store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BUFFER_ROWS", 7)
    assert importer.run(three_cases).counts() == (30, 3, 30, 0)
    before = content(store)
    monkeypatch.setattr(importing, "_BUFFER_ROWS", buffer)  # where a batch ends may be different each time
    assert importer.run(three_cases).counts() == (30, 3, 0, 30)
    assert content(store) == before


def test_a_file_that_has_grown_adds_what_is_new(
    three_cases: Path, importer: Importer, store: PostgresEventStore
) -> None:
    importer.run(three_cases)
    three_cases.write_text(three_cases.read_text() + row(1, "closed") + row(9, "opened"))
    assert importer.run(three_cases).counts() == (32, 4, 2, 30)
    assert did(store, "1")[-2:] == ["step 28", "closed"]


def test_what_was_appended_before_a_bad_row_stays(
    three_cases: Path, importer: Importer, store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BUFFER_ROWS", 10)
    whole = three_cases.read_text()
    three_cases.write_text(whole.replace(row(1, "step 25"), row(1, "step 25", at="noon")))
    code, _, complaint = importer.run(three_cases)
    assert code == 1
    added, error = complaint.splitlines()
    assert added.startswith(
        "eventstore: 20 events were added and stay, 0 were there already; the same command continues"
    )
    assert f"{three_cases}:27: " in error
    assert sum(map(len, content(store).values())) == 20
    three_cases.write_text(whole)
    assert importer.run(three_cases).counts() == (30, 3, 10, 20)
    assert did(store, "1") == [f"step {number}" for number in range(1, 30, 3)]


@pytest.mark.parametrize("count", [1, 4, 40])
def test_import_leaves_a_stream_with_other_events_alone(
    count: int, three_cases: Path, importer: Importer, store: PostgresEventStore
) -> None:
    store.append("Case-1", [Event(event_type="theirs", data={}) for _ in range(count)], 0)
    code, _, complaint = importer.run(three_cases)
    assert code == 1
    assert f"{three_cases}:3: stream 'Case-1' holds another event at version 1" in complaint
    assert did(store, "1") == ["theirs"] * count


def test_import_names_the_line_of_a_changed_row(
    three_cases: Path, importer: Importer, store: PostgresEventStore
) -> None:
    importer.run(three_cases)
    before = content(store)
    three_cases.write_text(three_cases.read_text().replace("step 22,2024-05-01T12", "step 22,2024-05-01T13"))
    code, _, complaint = importer.run(three_cases)
    assert code == 1
    assert f"{three_cases}:24: stream 'Case-1' holds another event at version 8" in complaint
    assert content(store) == before


def test_events_that_follow_the_file_s_are_no_conflict(
    three_cases: Path, importer: Importer, store: PostgresEventStore
) -> None:
    importer.run(three_cases)
    store.append("Case-1", [Event(event_type="theirs", data={})], 10)
    assert importer.run(three_cases).counts() == (30, 3, 0, 30)
    three_cases.write_text(three_cases.read_text() + row(1, "closed"))
    assert f"{three_cases}:32: stream 'Case-1' holds another event at version 11" in importer.run(three_cases).complaint


# --- cut short --------------------------------------------------------------------------------------------------------


class _Undone(Exception):
    pass


@contextmanager
def held(store: PostgresEventStore, stream_id: str) -> Iterator[None]:
    """A stream that someone else is about to write to, and then does not: whoever appends to it waits."""
    try:
        with store.transaction() as transaction:
            transaction.append(stream_id, [Event(event_type="theirs", data={})], 0)
            yield
            raise _Undone
    except _Undone:
        pass


def someone_waits(dsn: str) -> Callable[[], bool]:
    connection = psycopg.connect(dsn, autocommit=True)

    def waits() -> bool:
        waiting = connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
        if waiting:
            connection.close()
        return waiting is not None

    return waits


@pytest.fixture
def stored(dsn: str, schema: str) -> Callable[[], int]:
    """How many events there are; read_all would wait for the one who holds a stream."""

    def count() -> int:
        with psycopg.connect(dsn) as connection:
            found = connection.execute(sql.SQL("SELECT count(*) FROM {}.events").format(sql.Identifier(schema)))
            return int(found.fetchall()[0][0])

    return count


def test_an_import_that_was_killed_ends_the_same_when_run_again(
    importer: Importer, store: PostgresEventStore, stored: Callable[[], int], dsn: str
) -> None:
    path = importer.file(HEADER + "".join(row(number % 500, f"step {number}") for number in range(2000)))
    with held(store, "Case-400"), importer.start(path) as process:
        assert eventually(someone_waits(dsn))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before = stored()
    assert 0 < before < 2000
    events, streams, added, present = importer.run(path).counts()
    assert (events, streams, added + present) == (2000, 500, 2000)
    assert present >= before  # the server may have finished what was under way
    assert {stream: [event[0] for event in events] for stream, events in content(store).items()} == {
        f"Case-{case}": [f"step {number}" for number in range(case, 2000, 500)] for case in range(500)
    }


def test_ctrl_c_ends_an_import_at_once_and_quietly(
    importer: Importer, store: PostgresEventStore, stored: Callable[[], int], dsn: str
) -> None:
    path = importer.file(HEADER + "".join(row(number, "opened") for number in range(100)))
    with held(store, "Case-50"), importer.start(path) as process:
        assert eventually(someone_waits(dsn))
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=PATIENCE)  # though a thread still waits for the server
    assert process.returncode == 130
    assert printed == ""
    assert complaint.splitlines()[-1] == "eventstore: interrupted"
    assert "Traceback" not in complaint
    assert importer.run(path).code == 0
    assert stored() == 100


def has_gone_on(process: subprocess.Popen[str], before: int, stored: Callable[[], int]) -> bool:
    return stored() > before or process.poll() is not None


def test_ctrl_c_at_any_moment_ends_an_import(importer: Importer, stored: Callable[[], int]) -> None:
    path = importer.file(HEADER + "".join(row(number % 300, f"step {number}") for number in range(3000)))
    for round_ in range(12):
        with importer.start(path) as process:
            before = stored()
            assert eventually(partial(has_gone_on, process, before, stored))
            for _ in range(1 + round_ % 4):
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        assert process.returncode in {0, 130, -signal.SIGINT, 1}
        if stored() == 3000:
            break
    assert importer.run(path).code == 0
    assert stored() == 3000


def test_ctrl_c_at_any_moment_leaves_no_lock_that_workers_wait_for() -> None:
    """Many interrupts of one process, each while results come in: none may hang, and the threads must end."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    for delay in range(150):
        workers = Workers(4)
        enough = threading.Event()

        def interrupt(calls: int = delay * 1_000, enough: threading.Event = enough) -> None:
            for _ in range(calls):
                enough.is_set()
            signal.pthread_kill(main_thread, signal.SIGINT)

        killer = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt), workers:
            killer.start()
            for _ in workers.results([lambda: None] * 2_000):
                pass
            killer.join()
            signal.pause()
        killer.join()
        for thread in workers._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_two_imports_of_one_file_at_once(
    importer: Importer, store: PostgresEventStore, stored: Callable[[], int]
) -> None:
    path = importer.file(HEADER + "".join(row(number % 50, f"step {number}") for number in range(2000)))
    both = [importer.start(path), importer.start(path)]
    ended = [process.communicate() for process in both]
    assert [(process.returncode, complaint) for process, (_, complaint) in zip(both, ended, strict=True)] == [
        (0, "")
    ] * 2
    assert stored() == 2000
    added = [Result(0, printed, "").counts()[2] for printed, _ in ended]
    assert sum(added) == 2000  # each event was added by one of them
    assert did(store, "7") == [f"step {number}" for number in range(7, 2000, 50)]


def test_another_writer_between_two_buffers(
    importer: Importer, store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The importer believes that it wrote the stream's last event, and finds that it did not."""
    monkeypatch.setattr(importing, "_BUFFER_ROWS", 2)
    buffers = importing._Import._buffer
    calls: list[int] = []

    def interfere(self: importing._Import, rows: Iterator[Any]) -> list[Any]:
        calls.append(1)
        if len(calls) == 2:
            store.append("Case-1", [Event(event_type="theirs", data={})], 2)
        return buffers(self, rows)

    monkeypatch.setattr(importing._Import, "_buffer", interfere)
    path = importer.file(HEADER + "".join(row(1, f"step {number}") for number in range(4)))
    assert f"{path}:4: stream 'Case-1' holds another event at version 3" in importer.run(path).complaint
    assert did(store, "1") == ["step 0", "step 1", "theirs"]


# --- a real log -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not RECEIPT.exists(), reason=f"the event log receipt.csv is not at {RECEIPT}; EVENTSTORE_TEST_RECEIPT may name it"
)
def test_a_real_log_is_imported_whole(
    importer: Importer, store: PostgresEventStore, stored: Callable[[], int], dsn: str
) -> None:
    columns = ["--category", "Receipt", "--stream", "case:concept:name", "--type", "concept:name"]
    options = [*columns, "--timestamp", "time:timestamp"]
    with RECEIPT.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    expected: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for values in table:
        event = values.pop("concept:name"), values.pop("time:timestamp").replace(" ", "T")
        expected[f"Receipt-{values.pop('case:concept:name')}"].append((*event, values))

    held_stream = list(expected)[400]
    with held(store, held_stream), importer.start(RECEIPT, *options) as process:
        assert eventually(someone_waits(dsn))
        process.kill()
        process.wait()
        assert 0 < stored() < 8577
    assert importer.run(RECEIPT, *options).counts()[:2] == (8577, 1434)
    assert content(store) == expected
    assert importer.run(RECEIPT, *options).counts() == (8577, 1434, 0, 8577)
    assert content(store) == expected
