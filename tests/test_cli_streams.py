"""``eventstore streams``: which streams there are, in the order of their ids, however many."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from eventstore import Event, PostgresEventStore
from eventstore.cli import main, streams

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["streams", *arguments, "--dsn", dsn, "--schema", schema])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(dsn: str, schema: str) -> PostgresEventStore:
    store = PostgresEventStore.connect(dsn, schema)
    for stream, count in {"Order-1": 3, "Order-2": 1, "OrderLine-1": 1, "Zoo": 2, "Ä-1": 1}.items():
        store.append(stream, [Event(event_type="E") for _ in range(count)], 0)
    store.close()
    return store


def ids(printed: str) -> list[str]:
    return [line.split()[2] for line in printed.splitlines()]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("page", [1, 2, 1000])
def test_streams_are_listed_in_the_order_of_their_ids(run: Run, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(streams, "_PAGE", page)
    assert ids(run()[1]) == ["Order-1", "Order-2", "OrderLine-1", "Zoo", "Ä-1"]
    assert ids(run("--category", "Order")[1]) == ["Order-1", "Order-2"]
    assert ids(run("--prefix", "Order")[1]) == ["Order-1", "Order-2", "OrderLine-1"]
    assert ids(run("--prefix", "Order", "--after", "Order-1")[1]) == ["Order-2", "OrderLine-1"]
    assert ids(run("--after", "Order-1", "--limit", "2")[1]) == ["Order-2", "OrderLine-1"]
    assert run("--limit", "0") == (0, "", "")


@pytest.mark.usefixtures("store")
def test_each_has_its_version_and_the_time_of_its_last_event(run: Run, dsn: str, schema: str) -> None:
    with PostgresEventStore.connect(dsn, schema) as store:
        last = store.read("Order-1")[-1].timestamp.isoformat().replace("+00:00", "Z")
    code, printed, _ = run("--category", "Order", "--limit", "1", "--json")
    assert code == 0
    assert json.loads(printed) == {"stream_id": "Order-1", "version": 3, "last_event": last}
    assert run("--category", "Order", "--limit", "1")[1] == f"       3  {last}  Order-1\n"


def test_streams_says_that_there_is_none(run: Run, schema: str) -> None:
    assert run() == (1, "", f"eventstore: there is no stream in schema {schema!r}\n")
    assert "no stream that begins with 'a'" in run("--prefix", "a")[2]


def test_a_missing_schema_is_reported(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["streams", "--dsn", dsn, "--schema", "nowhere"]) == 1
    assert "eventstore migrate --schema nowhere" in capsys.readouterr().err
