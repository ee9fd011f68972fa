"""Who causes what: metadata that recorded events get by themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import flask
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fronts import Front

from eventstore import (
    Aggregate,
    AsyncInMemoryEventStore,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    Projection,
    Repository,
    SerializationError,
    handles,
    inline,
)
from eventstore.context import causing
from eventstore.contrib import asgi, wsgi
from eventstore.contrib.correlation import correlation_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ANY = ExpectedVersion.ANY


class ContextNoted(Event):
    text: str = ""


class ContextBook(Aggregate["ContextBook"]):
    users: list[Any] = []  # noqa: RUF012 each instance has its own

    def note(self, **metadata: Any) -> None:
        self._record(ContextNoted(metadata=metadata))

    @handles(ContextNoted)
    def _noted(self, event: ContextNoted) -> None:
        self.users = [*self.users, event.metadata.get("user")]


@pytest.fixture
def store() -> EventStore:
    return InMemoryEventStore()


def noted(**metadata: Any) -> Event:
    return Event(event_type="Noted", metadata=metadata)


def append(store: EventStore, event: Event | None = None, stream_id: str = "Note-1") -> None:
    store.append(stream_id, [event or noted()], ANY)


def last(store: EventStore, stream_id: str = "Note-1") -> dict[str, Any]:
    """The metadata of the last event of a stream."""
    return store.read(stream_id, backwards=True, limit=1)[0].metadata


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_events_appended_inside_a_block_get_its_metadata(front: Front) -> None:
    with causing(correlation_id="c", causation_id=UUID(int=1), user="ann"):
        append(front.store)
    assert last(front.store) == {"correlation_id": "c", "causation_id": UUID(int=1), "user": "ann"}
    append(front.store)
    assert last(front.store) == {}


def test_events_appended_in_a_transaction_get_the_metadata_of_the_block(front: Front) -> None:
    with causing(user="ann"), front.store.transaction() as transaction:
        append(transaction)
    assert last(front.store) == {"user": "ann"}


def test_an_event_in_the_program_is_not_changed_by_an_append(store: EventStore) -> None:
    event = noted(own=1)
    with causing(user="ann"):
        append(store, event)
    assert event.metadata == {"own": 1}
    assert last(store) == {"own": 1, "user": "ann"}


def test_the_innermost_block_wins(store: EventStore) -> None:
    with causing(user="ann", tenant="a"), causing(user="bob"):
        append(store)
    assert last(store) == {"user": "bob", "tenant": "a"}


def test_the_metadata_of_the_event_wins_then_that_of_save_then_the_block_it_was_recorded_in(store: EventStore) -> None:
    book = ContextBook("1")
    with causing(user="block", tenant="block", shift="block"):
        book.note(user="event")
    with causing(user="later", shift="later", late="later"):
        Repository(store, ContextBook).save(book, metadata={"user": "save", "tenant": "save"})
    assert last(store, "ContextBook-1") == {"user": "event", "tenant": "save", "shift": "block"}


def test_an_aggregate_sees_the_metadata_that_it_will_see_when_it_is_loaded(store: EventStore) -> None:
    books, book = Repository(store, ContextBook), ContextBook("1")
    with causing(user="ann"):
        book.note()
        books.save(book)
    assert book.users == ["ann"]
    assert books.load("1").users == ["ann"]


def test_pending_events_show_the_metadata_of_the_block() -> None:
    book = ContextBook("1")
    with causing(user="ann"):
        book.note()
    assert book.pending[0].metadata == {"user": "ann"}


def test_what_a_block_was_given_can_be_changed_afterwards_without_effect(store: EventStore) -> None:
    tags = ["a"]
    with causing(tags=tags):
        tags.append("b")
        append(store)
    assert last(store) == {"tags": ["a"]}


def test_a_block_ends_when_it_raises(store: EventStore) -> None:
    with pytest.raises(ZeroDivisionError), causing(user="ann"):
        raise ZeroDivisionError
    append(store)
    assert last(store) == {}


def test_a_block_can_decorate_a_function(store: EventStore) -> None:
    @causing(user="ann")
    def work() -> None:
        append(store)

    work()
    work()
    assert last(store) == {"user": "ann"}


def test_other_threads_are_outside_of_a_block(store: EventStore) -> None:
    with causing(user="ann"):
        thread = threading.Thread(target=append, args=(store,))
        thread.start()
        thread.join()
    assert last(store) == {}


def test_each_task_has_its_own_block() -> None:
    async def main() -> list[Any]:
        store = AsyncInMemoryEventStore()
        both = asyncio.Barrier(2)

        async def work(user: str) -> None:
            with causing(user=user):
                await both.wait()
                await store.append(f"Note-{user}", [noted()], ANY)

        await asyncio.gather(work("ann"), work("bob"))
        return [(await store.read(f"Note-{user}"))[0].metadata for user in ("ann", "bob")]

    assert asyncio.run(main()) == [{"user": "ann"}, {"user": "bob"}]


@pytest.mark.parametrize(
    ("arguments", "expected", "says"),
    [
        ({"correlation_id": 7}, InvalidArgument, "correlation_id must be a str"),
        ({"causation_id": ""}, InvalidArgument, "causation_id must not be empty"),
        ({"user": object()}, SerializationError, "user"),
    ],
)
def test_a_block_refuses_what_no_event_could_have(
    arguments: dict[str, Any], expected: type[Exception], says: str
) -> None:
    with pytest.raises(expected, match=says), causing(**arguments):
        pytest.fail("the block was entered")


def test_a_block_takes_an_event_and_nothing_else_by_place() -> None:
    wrong: Any = {"user": "ann"}
    with pytest.raises(InvalidArgument, match="by name"), causing(wrong):
        pytest.fail("the block was entered")


# --- causes -----------------------------------------------------------------------------------------------------------


def test_an_event_causes_others_of_its_correlation(store: EventStore) -> None:
    cause = noted(correlation_id="c", user="ann")
    with causing(cause):
        append(store)
    assert last(store) == {"correlation_id": "c", "causation_id": cause.event_id}


def test_an_event_without_a_correlation_begins_one(store: EventStore) -> None:
    cause = noted()
    with causing(cause):
        append(store)
    assert last(store) == {"correlation_id": cause.event_id, "causation_id": cause.event_id}


def test_what_a_handler_appends_is_caused_by_its_event(front: Front) -> None:
    projection = front.projection("copies")
    with causing(correlation_id="c"):
        append(front.store)
    append(front.store)
    projection.run_until_caught_up()
    first, second = (event.event_id for event in front.store.read("Note-1"))
    assert [event.metadata for event in front.store.read("copies")][:2] == [
        {"correlation_id": "c", "causation_id": first},
        {"correlation_id": second, "causation_id": second},
    ]


def test_what_a_handler_without_a_transaction_records_is_caused_by_its_event(store: EventStore) -> None:
    seen: list[Any] = []

    def handle(event: Event, _: Any) -> None:
        book = ContextBook("1")
        book.note()
        seen.append((book.pending[0].metadata["causation_id"], event.event_id))

    append(store)
    Projection(store, "notes", handle).run_until_caught_up()
    ((caused_by, event_id),) = seen
    assert caused_by == event_id


def test_what_an_inline_handler_appends_is_caused_by_its_event(front: Front) -> None:
    store = front.inline(front.copy, event_types=["Noted"])
    with causing(correlation_id="c", user="ann"):
        append(store)
    (event,) = store.read("Note-1")
    assert last(store, "copies") == {"correlation_id": "c", "causation_id": event.event_id, "user": "ann"}
    append(store, stream_id="Note-2")
    assert last(store, "Note-2") == {}


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traceparent", "request_id", "expected"),
    [
        (TRACEPARENT, "request-1", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", None, TRACE),
        (None, "request-1", "request-1"),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", "request-1", "request-1"),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", "request-1", "request-1"),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", "request-1", "request-1"),
        (f"00-{TRACE}-{'0' * 16}-01", "request-1", "request-1"),
        (TRACEPARENT.upper(), "request-1", "request-1"),
    ],
)
def test_a_request_is_correlated_by_its_trace_or_by_its_id(
    traceparent: str | None, request_id: str | None, expected: str
) -> None:
    assert correlation_id(traceparent, request_id) == expected


@pytest.mark.parametrize("request_id", [None, "", "a b", "a\nb", "é", "x" * 201])
def test_a_request_without_a_usable_id_gets_a_new_one(request_id: str | None) -> None:
    found = correlation_id(None, request_id)
    assert UUID(found).version == 7
    assert found != correlation_id(None, request_id)


def test_flask_correlates_the_events_of_a_request_and_of_its_streamed_response(store: EventStore) -> None:
    app = flask.Flask("shop")
    app.wsgi_app = wsgi.CausingMiddleware(app.wsgi_app)  # type: ignore[method-assign]

    @app.get("/")
    def view() -> flask.Response:
        append(store)

        def parts() -> Iterator[str]:
            append(store)
            yield flask.request.path

        return flask.Response(flask.stream_with_context(parts()))

    for number in (1, 2):
        assert app.test_client().get("/", headers={"X-Request-ID": f"request-{number}"}).text == "/"
    append(store)
    found = [event.metadata.get("correlation_id") for event in store.read("Note-1")]
    assert found == ["request-1", "request-1", "request-2", "request-2", None]


def test_a_wsgi_response_is_closed_once_it_is_sent() -> None:
    closed: list[bool] = []

    class Parts(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def app(_: Any, __: Any) -> Iterable[bytes]:
        return Parts([b"a", b"b"])

    response: Any = wsgi.CausingMiddleware(app)({}, lambda *_: lambda _: None)
    assert list(response) == [b"a", b"b"]
    response.close()
    assert closed == [True]


def test_asgi_correlates_the_events_of_a_request() -> None:
    store = InMemoryEventStore()
    app = FastAPI()
    app.add_middleware(asgi.CausingMiddleware)

    @app.get("/blocking")
    def blocking() -> None:
        append(store)

    @app.get("/async")
    async def asynchronous() -> None:
        append(store)

    with TestClient(app) as client:
        client.get("/blocking", headers={"traceparent": TRACEPARENT})
        client.get("/async", headers={"X-Request-ID": "request-2"})
    assert [event.metadata["correlation_id"] for event in store.read("Note-1")] == [TRACE, "request-2"]


def test_inline_projections_leave_no_block_behind_when_a_handler_raises(store: EventStore) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        append(inline(store, Projection(store, "inline", fail)))
    append(store)
    assert last(store) == {}
