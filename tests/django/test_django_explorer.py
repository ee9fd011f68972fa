"""The explorer in Django's URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings
from django.urls import re_path
from parcels.models import Note  # noqa: F401 makes the project
from psycopg_pool import ConnectionPool

from eventstore import Event, PostgresEventStore
from eventstore.explorer import Explorer

pytest_plugins = ["parcels.fixtures"]


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


@pytest.fixture
def mounted(store: PostgresEventStore) -> Iterator[None]:
    """The explorer in a project's URLs, for its staff."""
    explorer = Explorer(store, allowed=lambda request: request.user.is_staff)
    urls = type("Urls", (), {"urlpatterns": [re_path(r"^events/(?P<path>.*)$", explorer.django_view)]})
    with override_settings(ROOT_URLCONF=urls):
        yield
    get_user_model().objects.all().delete()


@pytest.mark.usefixtures("django_database", "mounted")
def test_the_staff_of_a_project_sees_every_page_and_nobody_else_does() -> None:
    paths = ["", "live", "events", "events/1", "streams?type=Ordered", "stream?id=Order-1", "subscriptions"]
    paths.append("static/explorer.css")
    staff, user = Client(), Client()
    staff.force_login(get_user_model().objects.create_user("ann", is_staff=True))
    user.force_login(get_user_model().objects.create_user("bob"))
    for path in paths:
        assert staff.get(f"/events/{path}").status_code == 200
        assert user.get(f"/events/{path}").status_code == 403
        assert Client().get(f"/events/{path}").status_code == 403
    assert b'href="/events/static/explorer.css"' in staff.get("/events/").content
    for path in ("nothing", "%E2%82%AC", "%FF", "static/../app.py", "%00"):
        assert staff.get(f"/events/{path}").status_code == 404
