"""The explorer below an ASGI application, as docs/seeing.md shows it. tests/django has the one below Django."""

from __future__ import annotations

from typing import Any

import pytest
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg_pool import ConnectionPool
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request

from eventstore import Event, PostgresEventStore
from eventstore.explorer import Explorer


class ByHeader(AuthenticationBackend):
    """Whoever says so is signed in."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("X-User")
        return None if name is None else (AuthCredentials([name]), SimpleUser(name))


def is_staff(request: Any) -> bool:
    return "staff" in Request(request.environ["asgi.scope"]).auth.scopes


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    found = PostgresEventStore(pool, schema)
    found.append("Order-1", [Event(event_type="Ordered")], 0)
    return found


@pytest.fixture
def client(store: PostgresEventStore) -> TestClient:
    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, backend=ByHeader())
    app.mount("/admin/events", WSGIMiddleware(Explorer(store, allowed=is_staff)))  # type: ignore[arg-type]
    return TestClient(app)


STAFF = {"X-User": "staff"}


@pytest.mark.parametrize("path", ["/", "/live", "/events", "/events/1", "/stream?id=Order-1", "/streams?type=Ordered"])
def test_links_stay_below_the_mount(path: str, client: TestClient) -> None:
    answer = client.get(f"/admin/events{path}", headers=STAFF)
    assert answer.status_code == 200
    assert 'href="/admin/events/' in answer.text
    assert "/admin/events/admin" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_allowed_sees_who_is_signed_in(client: TestClient) -> None:
    for headers in ({}, {"X-User": "ann"}):
        for path in ("/", "/events/1", "/static/explorer.css", "/nothing"):
            assert client.get(f"/admin/events{path}", headers=headers).status_code == 403
    assert client.get("/admin/events/static/explorer.css", headers=STAFF).status_code == 200
    assert client.get("/admin/events/nothing", headers=STAFF).status_code == 404


def test_nothing_but_reading_is_answered(client: TestClient) -> None:
    assert client.post("/admin/events/events", headers=STAFF, content=b"x" * 100_000).status_code == 405
    assert client.head("/admin/events/events", headers=STAFF).content == b""


def test_without_allowed_a_mounted_explorer_answers_only_browsers_of_its_own_machine(store: PostgresEventStore) -> None:
    app = FastAPI()
    app.mount("/events", WSGIMiddleware(Explorer(store)))  # type: ignore[arg-type]
    here, elsewhere = (
        TestClient(app, base_url="http://localhost", client=(host, 1)) for host in ("127.0.0.1", "10.0.0.1")
    )
    assert here.get("/events/").status_code == 200
    assert elsewhere.get("/events/").status_code == 403
    assert here.get("/events/", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 403
