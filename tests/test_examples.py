"""The examples work: each is run as a user would, on PostgreSQL and in memory."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from eventstore import event as events_module

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(params=["memory", "postgres"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from fastapi.testclient import TestClient  # noqa: PLC0415 only here

    # The example is a program of its own: its event types are not those of other tests.
    monkeypatch.setattr(events_module, "_event_classes", {})
    monkeypatch.delenv("EVENTSTORE_DSN", raising=False)
    if request.param == "postgres":
        monkeypatch.setenv("EVENTSTORE_DSN", request.getfixturevalue("dsn"))
        monkeypatch.setenv("EVENTSTORE_SCHEMA", request.getfixturevalue("schema"))
    spec = importlib.util.spec_from_file_location("fastapi_orders", EXAMPLES / "fastapi_orders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        yield client


def test_an_order_is_placed_shown_and_shipped(client: Any) -> None:
    placed = client.post("/orders", json={"items": ["teapot"]})
    assert placed.status_code == 201
    order = placed.json()
    assert client.get(f"/orders/{order['id']}").json() == order
    shipped = client.post(f"/orders/{order['id']}/shipment", json={"tracking_number": "1Z"})
    assert shipped.json() == order | {"version": 2, "tracking_number": "1Z"}


def test_what_can_not_be_is_answered_with_the_right_status(client: Any) -> None:
    assert client.get(f"/orders/{uuid4()}").status_code == 404
    assert client.post("/orders", json={"items": []}).status_code == 422
    order = client.post("/orders", json={"items": ["teapot"]}).json()
    path = f"/orders/{order['id']}/shipment"
    stale = client.post(path, json={"tracking_number": "1Z", "expected_version": 7})
    assert stale.status_code == 409
    assert "expected at 7" in stale.json()["error"]
    assert client.post(path, json={"tracking_number": "1Z"}).status_code == 200
    assert client.post(path, json={"tracking_number": "2Z"}).status_code == 422


def test_of_concurrent_shipments_one_wins(client: Any) -> None:
    order = client.post("/orders", json={"items": ["teapot"]}).json()

    def ship(number: int) -> int:
        return client.post(f"/orders/{order['id']}/shipment", json={"tracking_number": str(number)}).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ship, range(8)))
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 422}
    assert client.get(f"/orders/{order['id']}").json()["version"] == 2
