"""The explorer in Django's URLs."""

from __future__ import annotations

from typing import Any

import parcels  # noqa: F401 makes the project
import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from psycopg_pool import ConnectionPool

from eventstore import Event, PostgresEventStore
from eventstore.explorer import Explorer


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    found = PostgresEventStore(pool, schema)
    found.append("Order-1", [Event(event_type="Ordered")], 0)
    return found


def test_allowed_gets_djangos_request_and_links_stay_below_the_mount(store: PostgresEventStore) -> None:
    seen: list[Any] = []
    explorer = Explorer(store, allowed=lambda request: seen.append(request) or True)
    request = RequestFactory().get("/admin/events/events?category=Order")
    answer = explorer.django_view(request, "events")
    assert seen == [request]
    assert isinstance(seen[0], HttpRequest)
    assert answer.status_code == 200
    assert b'href="/admin/events/events/1"' in answer.content
    assert "default-src" in answer.headers["Content-Security-Policy"]
    assert explorer.django_view(RequestFactory().get("/admin/events/"), "").status_code == 200
    assert explorer.django_view(RequestFactory().post("/admin/events/"), "").status_code == 405


def test_no_page_is_shown_to_whom_it_is_not_allowed(store: PostgresEventStore) -> None:
    explorer = Explorer(store, allowed=lambda _: False)
    assert explorer.django_view(RequestFactory().get("/admin/events/events"), "events").status_code == 403
