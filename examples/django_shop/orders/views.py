"""Orders over HTTP, in JSON. What is refused becomes an answer in middleware.py."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError
from django.db.transaction import atomic
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from eventstore import ConcurrencyError
from eventstore.contrib.django import repository
from orders.events import Order
from orders.models import OrderLine, PlacedOrder


@require_http_methods(["GET", "POST"])
def orders(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return place(request)
    lines = OrderLine.objects.order_by("order_id")
    answer = [{"id": str(line.order_id), "items": line.items, "status": line.status} for line in lines]
    return JsonResponse(answer, safe=False)


def place(request: HttpRequest) -> HttpResponse:
    """The order and the client's key are one transaction: of two requests with one key, one places an order."""
    key = request.headers.get("Idempotency-Key", str(uuid4()))
    order = Order(uuid4())
    order.place(json.loads(request.body)["items"])
    try:
        with atomic():
            PlacedOrder.objects.create(key=key, order_id=order.id)
            repository(Order).save(order)
    except IntegrityError:  # Another request with this key was faster.
        placed = PlacedOrder.objects.get(key=key)
        return shown(repository(Order).load(placed.order_id))
    return shown(order, 201)


@require_GET
def show(_: HttpRequest, order_id: UUID) -> HttpResponse:
    return shown(repository(Order).load(order_id))


@require_POST
def add(request: HttpRequest, order_id: UUID) -> HttpResponse:
    order = repository(Order).load(order_id)
    order.add(json.loads(request.body)["item"])
    repository(Order).save(order)  # ConcurrencyError, so 409, if somebody else was faster
    return shown(order)


@require_POST
def ship(request: HttpRequest, order_id: UUID) -> HttpResponse:
    wanted: dict[str, Any] = json.loads(request.body)
    order = repository(Order).load(order_id)
    seen = wanted.get("version", order.version)
    if seen != order.version:
        raise ConcurrencyError(f"Order-{order_id}", seen, order.version)
    order.ship(wanted["tracking_number"])
    repository(Order).save(order)
    return shown(order)


def shown(order: Order, status: int = 200) -> HttpResponse:
    answer = {
        "id": str(order.id),
        "version": order.version,
        "items": order.items,
        "tracking_number": order.tracking_number,
    }
    return JsonResponse(answer, status=status)
