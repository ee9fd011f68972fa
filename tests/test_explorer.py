"""The explorer's pages: what they show, and what nobody can make them do."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from explorers import LOCAL, words
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from waiting import PATIENCE
from werkzeug.serving import make_server
from werkzeug.test import Client, TestResponse

from eventstore import (
    Aggregate,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    PostgresEventStore,
    Subscription,
    handles,
)
from eventstore.cli import main
from eventstore.context import causing
from eventstore.explorer import Explorer
from eventstore.explorer import reading as explorer_reading

ANY = ExpectedVersion.ANY
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
Get = Callable[..., TestResponse]


class ExplorerAdded(Event):
    number: int


class ExplorerSum(Aggregate["ExplorerSum"]):
    total: int = 0
    first: int | None = None

    @handles(ExplorerAdded)
    def _added(self, event: ExplorerAdded) -> None:
        self.total += event.number
        if self.first is None:
            self.first = event.number


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    return PostgresEventStore(pool, schema)


@pytest.fixture
def get(store: PostgresEventStore) -> Get:
    client = Client(Explorer(store, aggregates=[ExplorerSum]))
    return lambda path, environ=None: client.get(path, environ_overrides={**LOCAL, **(environ or {})}, buffered=True)


PAGES = ["/", "/live", "/events", "/streams", "/trace", "/subscriptions"]


# --- what they show ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_store_has_pages(path: str, get: Get) -> None:
    assert get(path).status_code == 200


@pytest.mark.parametrize("of", ["hour", "day", "week"])
def test_the_overview_shows_what_happened_lately(of: str, store: PostgresEventStore, get: Get) -> None:
    for number in range(3):
        store.append(f"Order-{number}", [Event(event_type="Ordered", data={"number": number})], 0)
    text = words(get(f"/?range={of}"))
    assert f"The last {of}" in text
    assert "about 3 events" in text
    assert "Order 3" in text
    assert "Ordered 3" in text
    assert "Order-2" in text


def test_lists_turn_pages_by_position_and_miss_nothing(
    store: PostgresEventStore, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer_reading, "PAGE", 4)
    monkeypatch.setattr(explorer_reading, "LOOKED_AT", 3)
    for number in range(11):
        store.append(f"{'AB'[number % 2]}-{number}", [Event(event_type=f"T{number % 3}")], 0)

    def shown(path: str | None) -> list[int]:
        found: list[int] = []
        while path:
            text = get(path).text
            found += map(int, re.findall(r'href="/events/(\d+)"', text))
            following = re.search(r'rel="next" href="([^"]+)"', text)
            path = html.unescape(following[1]) if following else None
        return found

    assert shown("/events") == list(range(11, 0, -1))
    assert shown("/events?category=A") == [11, 9, 7, 5, 3, 1]
    assert shown("/events?type=T1&category=B") == [8, 2]
    assert shown("/events?since=1h") == list(range(11, 0, -1))


def test_streams_are_found_by_category_and_beginning(
    store: PostgresEventStore, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.explorer.pages.PAGE", 2)
    for name in ("Order-1", "Order-2", "Order-3", "Mail-1"):
        store.append(name, [Event(event_type="T")], 0)
    first = get("/streams?category=Order").text
    assert re.findall(r'/stream\?id=([\w-]+)"', first) == ["Order-1", "Order-2"]
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    assert re.findall(r'/stream\?id=([\w-]+)"', get(html.unescape(following[1])).text) == ["Order-3"]
    assert "Mail-1" in get("/streams?prefix=Ma").text


def test_an_event_is_a_tree_of_values_with_their_types(store: PostgresEventStore, get: Get) -> None:
    key = uuid4()
    store.append("Order-1", [Event(event_type="T", data={"of": key, "items": [{"n": 1.5}, (b"x",)], "none": None})], 0)
    text = words(get("/events/1"))
    values = ["items list 2 item(s)", "n float 1.5", "1 tuple 1 item(s)", "0 bytes eA==", "none nothing None"]
    assert [shown for shown in [f"of uuid {key}", *values] if shown not in text] == []


def test_a_stream_shows_the_state_at_a_version_and_what_its_event_changed(store: PostgresEventStore, get: Get) -> None:
    store.append("ExplorerSum-1", [ExplorerAdded(number=number) for number in (1, 2, 3)], 0)
    text = words(get("/stream?id=ExplorerSum-1&version=2"))
    assert "State at version 2" in text
    assert "total int 1 → 3 changed" in text
    assert "first int 1" in text
    assert "first int 1 changed" not in text
    assert "total int 3 → 6 changed" in words(get("/stream?id=ExplorerSum-1"))


def test_a_stream_with_archived_events_says_where_they_are(
    store: PostgresEventStore, get: Get, dsn: str, schema: str, tmp_path: Path
) -> None:
    for number in range(3):
        store.append("ExplorerSum-1", [ExplorerAdded(number=1)], number)
    store.close_stream("ExplorerSum-1", ExplorerAdded(number=3), 3)
    store.append("ExplorerSum-1", [ExplorerAdded(number=4), ExplorerAdded(number=5)], 4)
    place = str(tmp_path / "<b>")
    arguments = ["ExplorerSum-1", "--before", "4", "--archived", place]
    assert main(["truncate", "--dsn", dsn, "--schema", schema, *arguments]) == 0
    shown = words(get("/stream?id=ExplorerSum-1&version=5"))
    assert f"The events below version 4 were moved into the archive {place} on " in shown
    assert "Version 5 of 6" in shown
    assert "total int 3 → 7 changed" in shown
    assert get("/stream?id=ExplorerSum-1&version=2").status_code == 200


def test_a_state_that_can_not_be_made_says_why(store: PostgresEventStore, get: Get) -> None:
    store.append("ExplorerSum-1", [Event(event_type="explorer.unknown")], 0)
    answer = get("/stream?id=ExplorerSum-1")
    assert answer.status_code == 200
    assert "The state can't be shown: UnknownEventType" in words(answer)


def test_a_trace_leads_from_any_event_to_the_others(store: PostgresEventStore, get: Get) -> None:
    store.append("Order-1", [Event(event_type="Ordered", metadata={"correlation_id": "r"})], 0)
    with causing(store.read("Order-1")[0]):
        store.append("Mail-1", [Event(event_type="Mailed")], 0)
    (mailed,) = store.read("Mail-1")
    text = get(f"/trace?id={mailed.event_id}").text
    assert text.index("Ordered") < text.index("Mailed")
    assert 'class="depth-1"' in text
    assert get("/trace?id=r").status_code == 200


def test_subscriptions_show_their_condition_and_parked_events(store: PostgresEventStore, get: Get) -> None:
    def fail(_: Event) -> None:
        raise ValueError("no <b>such</b> order")

    store.append("Order-1", [Event(event_type="Ordered")], 0)
    Subscription(store, "mails & more", fail, attempts=1, on_failure="park").run_until_caught_up()
    store.append("Order-1", [Event(event_type="Ordered")], ANY)
    text = get("/subscriptions").text
    assert "unattended" in text
    link = re.search(r'href="(/subscription\?[^"]+)"', text)
    assert link
    assert "ValueError: no <b>such</b> order" in words(get(html.unescape(link[1])))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/events/7", 404),
        ("/events/0", 404),
        (f"/events/{10**30}", 404),
        ("/events/x", 404),
        ("/events?before=x", 400),
        ("/events?before=-1", 400),
        (f"/events?before={10**30}", 400),
        ("/events?category=a-b", 400),
        ("/events?type=" + "x" * 300, 400),
        ("/events?since=yesterday", 400),
        ("/?range=year", 400),
        ("/stream", 400),
        ("/stream?id=nothing", 404),
        ("/stream?id=%00", 400),
        ("/streams?after=%00", 400),
        ("/trace?id=nothing", 404),
        ("/trace?id=%00", 400),
        ("/subscription?name=nothing", 404),
        ("/static/../app.py", 404),
        ("/static/..%2f..%2f__init__.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/static//etc/passwd", 404),
    ],
)
def test_what_is_not_there_or_invalid_is_a_page_that_says_so(path: str, status: int, get: Get) -> None:
    answer = get(path)
    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert "Traceback" not in answer.text


def test_a_store_that_is_gone_is_a_503_and_no_password_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with PostgresEventStore.connect("postgresql://ann:s3cret@127.0.0.1:1/x", timeout=1) as store:
        client = Client(Explorer(store))
        for path in ("/", "/events", "/streams", "/trace?id=x", "/live"):
            answer = client.get(path, environ_overrides=LOCAL)
            assert answer.status_code == 503
            assert "no connection to the server" in answer.text
            assert "s3cret" not in answer.text
        assert client.get("/subscriptions", environ_overrides=LOCAL).status_code == 200
    assert caplog.records == []


HOSTILE: dict[str, Any] = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onmouseover=\"alert(1)' x='",
    "template": "{{ 7 * 7 }}{% raw %}",
    "right to left": "abc\u202egnp.exe",
    "controls": "a\x00b\x1b[2J\x9b",
    "long": "x" * 1_000_000,
    "many": {f"field {number}": number for number in range(1_000)},
    "deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]],
    "bytes": b"\xff\x00",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_data_is_shown_as_text(value: Any, store: PostgresEventStore, get: Get) -> None:
    names = value.replace("\0", "") if isinstance(value, str) and len(value) < 200 else "T"
    event = Event(event_type=names, data={"value": value, names: 1}, metadata={"correlation_id": names})
    store.append(f"C-{names}", [event], 0)
    for path in ("/", "/events", "/events/1", "/streams", f"/trace?id={event.event_id}"):
        answer = get(path)
        assert answer.status_code == 200
        for forbidden in ("<script>alert", "<img", '" onmouseover', "\u202e", "\x00", "\x1b", "\x9b", "{49}"):
            assert forbidden not in answer.text
        assert len(answer.text) < 800_000


def test_what_can_not_be_decoded_is_shown_as_bytes(store: PostgresEventStore, get: Get, dsn: str, schema: str) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    with psycopg.connect(dsn) as connection:
        table = sql.Identifier(schema, "events")
        connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
        connection.execute(sql.SQL("UPDATE {} SET data = %s, metadata = %s").format(table), [b"\xc1", b"\xc1"])
    assert "undecodable wQ==" in words(get("/events/1"))
    assert get("/").status_code == get("/events").status_code == 200


# --- who may look -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "10.0.0.1"},
        {"REMOTE_ADDR": ""},
        {"REMOTE_ADDR": "::ffff:10.0.0.1"},
        {"HTTP_HOST": "evil.example"},
        {"HTTP_HOST": "127.0.0.1.evil.example"},
        {"HTTP_HOST": "localhost@evil.example"},
        {"HTTP_X_FORWARDED_FOR": "10.0.0.1"},
        {"HTTP_FORWARDED": "for=10.0.0.1"},
    ],
)
def test_without_allowed_only_browsers_of_this_machine_are_answered(environ: dict[str, str], get: Get) -> None:
    for path in [*PAGES, "/static/explorer.css", "/nothing"]:
        assert get(path, environ=environ).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_has_several_names(host: str, get: Get) -> None:
    assert get("/", environ={"HTTP_HOST": host, "REMOTE_ADDR": "::1"}).status_code == 200


def refuse(_: Any) -> bool:
    raise ZeroDivisionError


@pytest.mark.parametrize("allowed", [lambda _: False, lambda _: None, refuse])
def test_no_page_is_shown_to_whom_it_is_not_allowed(allowed: Any, store: PostgresEventStore) -> None:
    client = Client(Explorer(store, allowed=allowed))
    for path in [*PAGES, "/static/explorer.css", "/nothing"]:
        assert client.get(path, environ_overrides=LOCAL).status_code == 403


def test_allowed_is_given_the_request(store: PostgresEventStore) -> None:
    client = Client(Explorer(store, allowed=lambda request: request.headers.get("X-User") == "ann"))
    assert client.get("/", headers={"X-User": "ann"}).status_code == 200
    assert client.get("/", headers={"X-User": "eve"}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(method: str, store: PostgresEventStore) -> None:
    client = Client(Explorer(store))
    for path in [*PAGES, "/events/1"]:
        assert client.open(path, method=method, environ_overrides=LOCAL).status_code == 405


def test_a_role_that_can_only_read_can_show_every_page(store: PostgresEventStore, dsn: str, schema: str) -> None:
    store.append("Order-1", [Event(event_type="T")], 0)
    read_only = make_conninfo(dsn, options="-c default_transaction_read_only=on")
    with PostgresEventStore.connect(read_only, schema) as reader:
        client = Client(Explorer(reader))
        for path in [*PAGES, "/events/1", "/stream?id=Order-1"]:
            assert client.get(path, environ_overrides=LOCAL).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/nothing", "/static/explorer.js"])
def test_every_answer_forbids_scripts_that_are_not_the_pages_own(path: str, get: Get) -> None:
    answer = get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if answer.mimetype == "text/html":
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:", answer.text)
        assert answer.headers["Cache-Control"] == "no-store"


def test_only_a_store_on_postgresql_can_be_shown() -> None:
    wrong: Any = InMemoryEventStore()
    with pytest.raises(InvalidArgument, match="not a InMemoryEventStore"):
        Explorer(wrong)


def test_allowed_must_be_a_function(store: PostgresEventStore) -> None:
    wrong: Any = True
    with pytest.raises(InvalidArgument, match="allowed must be a function"):
        Explorer(store, allowed=wrong)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def address(store: PostgresEventStore) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, Explorer(store, aggregates=[ExplorerSum]), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("width", [400, 1200, 2000])
def test_a_browser_draws_each_page_and_refuses_none_of_its_scripts_and_styles(
    width: int, scheme: int, store: PostgresEventStore, address: str, tmp_path: Path
) -> None:
    wide = {f"field {number}": "x" * 300 for number in range(50)}
    store.append("ExplorerSum-1", [ExplorerAdded(number=1), Event(event_type="T" * 200, data=wide)], 0)
    quiet = ["disable-background-networking", "disable-component-update", "disable-gpu", "disable-sync", "headless"]
    quiet += ["no-first-run", "no-sandbox", f"user-data-dir={tmp_path}", f"window-size={width},900"]
    quiet += [f"blink-settings=preferredColorScheme={scheme}", "virtual-time-budget=3000", "enable-logging=stderr"]
    for path in ("/", "/events/2", "/stream?id=ExplorerSum-1&version=1", "/subscriptions"):
        command = [str(BROWSER), *(f"--{option}" for option in quiet), f"--screenshot={tmp_path}/page.png"]
        done = subprocess.run([*command, address + path], check=True, capture_output=True, text=True, timeout=60)
        assert "Content Security Policy" not in done.stderr
        picture = (tmp_path / "page.png").read_bytes()
        assert int.from_bytes(picture[16:20]) == width
