"""The examples work: each is run as a user would."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from http_servers import Client, environment, serving
from psycopg.conninfo import make_conninfo
from waiting import eventually

from eventstore import event_types as events_module

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


def test_invalid_requests_are_answered_with_the_right_status(client: Any) -> None:
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


@pytest.fixture(scope="module", params=["flask_shop.py", "django_shop"])
def shop(request: pytest.FixtureRequest) -> Iterator[Client]:
    """As its first lines say, with everything that it brings up."""
    with serving([EXAMPLES / request.param], EXAMPLES, environment(BIND="127.0.0.1:0")) as client:
        yield client


class TestTheShops:
    def test_an_order_is_placed_changed_shown_and_shipped(self, shop: Client) -> None:
        placed = shop.post("/orders", {"items": ["teapot"]})
        assert placed.status == 201
        path = f"/orders/{placed.body['id']}"
        assert shop.get(path).body == placed.body
        added = shop.post(f"{path}/items", {"item": "cup"})
        assert added.body == placed.body | {"version": 2, "items": ["teapot", "cup"]}
        stale = shop.post(f"{path}/shipment", {"tracking_number": "1Z", "version": 1})
        assert stale.status == 409
        assert "expected at 1" in stale.body["error"]
        assert shop.post(f"{path}/shipment", {"tracking_number": "1Z", "version": 2}).body["version"] == 3
        assert shop.post(f"{path}/items", {"item": "saucer"}).status == 422
        assert shop.post("/orders", {"items": []}).status == 422
        assert shop.get(f"/orders/{uuid4()}").status == 404

    def test_one_key_places_one_order(self, shop: Client) -> None:
        key, bodies = str(uuid4()), [{"items": [str(number)]} for number in range(8)]
        answers = shop.post_many("/orders", bodies, 8, Idempotency_Key=key)
        assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
        assert len({answer.body["id"] for answer in answers}) == 1

    def test_no_update_of_an_order_is_lost(self, shop: Client) -> None:
        concurrent_updates(shop)


def concurrent_updates(shop: Client) -> None:
    """200 requests to one order from 16 threads: whoever is answered with 200 is in it, whoever with 409 is not."""
    order = shop.post("/orders", {"items": ["teapot"]}).body
    path = f"/orders/{order['id']}"
    answers = shop.post_many(f"{path}/items", [{"item": str(number)} for number in range(200)], 16)
    assert {answer.status for answer in answers} == {200, 409}
    added = [answer for answer in answers if answer.status == 200]
    order = shop.get(path).body
    assert sorted(answer.body["version"] for answer in added) == list(range(2, order["version"] + 1))
    assert sorted(order["items"][1:]) == sorted(answer.body["items"][-1] for answer in added)
    # The read model says so as well, once the worker has come to it.
    expected = {"id": order["id"], "items": len(added) + 1, "status": "open"}
    assert eventually(lambda: line_of(shop, order["id"]) == expected), line_of(shop, order["id"])


def line_of(shop: Client, order_id: str) -> object:
    return next((line for line in shop.get("/orders").body if line["id"] == order_id), None)


@pytest.mark.parametrize("shop", ["django_shop"], indirect=True)
def test_the_django_shop_has_an_admin(shop: Client) -> None:
    page = shop.get("/admin/login/?next=/admin/")
    assert page.status == 200
    (style,) = re.findall(r'href="(/static/admin/css/base[^"]*)"', page.body)
    assert shop.get(style).status == 200


def test_the_django_shop_has_tests_of_its_own(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        for command in (["check"], ["makemigrations", "--check"], ["test"]):
            subprocess.run(
                [sys.executable, "-W", "error", "manage.py", *command],
                cwd=EXAMPLES / "django_shop",
                env=environment(SHOP_DSN=make_conninfo(dsn, dbname="shop")),
                check=True,
                capture_output=True,
            )
        connection.execute("DROP DATABASE shop WITH (FORCE)")
