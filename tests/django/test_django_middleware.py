"""The middleware that correlates the events of a request, before views of both kinds."""

from __future__ import annotations

import asyncio
from typing import Any

import parcels  # noqa: F401 makes the project
import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from eventstore import Event, ExpectedVersion, InMemoryEventStore
from eventstore.contrib.django.middleware import CausingMiddleware


@pytest.fixture
def store() -> InMemoryEventStore:
    return InMemoryEventStore()


def append(store: InMemoryEventStore) -> HttpResponse:
    store.append("Note-1", [Event(event_type="Noted")], ExpectedVersion.ANY)
    return HttpResponse("done")


def correlations(store: InMemoryEventStore) -> list[Any]:
    return [event.metadata.get("correlation_id") for event in store.read("Note-1")]


def test_the_events_of_a_view_have_the_id_of_its_request(store: InMemoryEventStore) -> None:
    middleware: Any = CausingMiddleware(lambda _: append(store))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    middleware(RequestFactory().get("/", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}))
    append(store)
    assert correlations(store) == [trace, None]


def test_the_events_of_an_async_view_have_the_id_of_its_request(store: InMemoryEventStore) -> None:
    async def view(_: Any) -> HttpResponse:
        await asyncio.sleep(0)
        return append(store)

    async def main() -> None:
        middleware: Any = CausingMiddleware(view)
        await middleware(RequestFactory().get("/", headers={"X-Request-ID": "request-1"}))
        append(store)

    asyncio.run(main())
    assert correlations(store) == ["request-1", None]
