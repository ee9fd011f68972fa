"""Orders over HTTP, with FastAPI and the async store.

EVENTSTORE_DSN=postgresql://... uvicorn fastapi_orders:app      (after `eventstore migrate`)

Without EVENTSTORE_DSN the orders are kept in memory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eventstore import (
    Aggregate,
    AggregateNotFound,
    AsyncInMemoryEventStore,
    AsyncPostgresEventStore,
    AsyncRepository,
    ConcurrencyError,
    Event,
    InvalidOperation,
    handles,
)


class OrderPlaced(Event):
    items: list[str]


class OrderShipped(Event):
    tracking_number: str


class Order(Aggregate["Order"]):
    items: list[str] = []  # noqa: RUF012 each order has its own
    tracking_number: str | None = None

    def place(self, items: list[str]) -> None:
        if not items:
            raise InvalidOperation("an order needs items")
        self._record(OrderPlaced(items=items))

    def ship(self, tracking_number: str) -> None:
        if self.tracking_number is not None:
            raise InvalidOperation(f"order {self.id} was shipped already")
        self._record(OrderShipped(tracking_number=tracking_number))

    @handles(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.items = event.items

    @handles(OrderShipped)
    def _shipped(self, event: OrderShipped) -> None:
        self.tracking_number = event.tracking_number


class NewOrder(BaseModel):
    items: list[str]


class Shipment(BaseModel):
    tracking_number: str
    expected_version: int | None = None
    """What the client saw; without it, the newest."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One store for the application's life, on its event loop."""
    dsn = os.environ.get("EVENTSTORE_DSN")
    if dsn is None:
        app.state.orders = AsyncRepository(AsyncInMemoryEventStore(), Order)
        yield
        return
    async with AsyncPostgresEventStore.connect(dsn, os.environ.get("EVENTSTORE_SCHEMA", "eventstore")) as store:
        app.state.orders = AsyncRepository(store, Order)
        yield


app = FastAPI(lifespan=lifespan)


def repository(request: Request) -> AsyncRepository[Order]:
    orders: AsyncRepository[Order] = request.app.state.orders
    return orders


Orders = Annotated[AsyncRepository[Order], Depends(repository)]


@app.post("/orders", status_code=201)
async def place(new: NewOrder, orders: Orders) -> dict[str, Any]:
    order = Order(uuid4())
    order.place(new.items)
    await orders.save(order)
    return shown(order)


@app.get("/orders/{order_id}")
async def show(order_id: UUID, orders: Orders) -> dict[str, Any]:
    return shown(await orders.load(order_id))


@app.post("/orders/{order_id}/shipment")
async def ship(order_id: UUID, shipment: Shipment, orders: Orders) -> dict[str, Any]:
    order = await orders.load(order_id)
    if shipment.expected_version not in {None, order.version}:
        raise ConcurrencyError(f"Order-{order_id}", shipment.expected_version, order.version)
    order.ship(shipment.tracking_number)
    await orders.save(order)
    return shown(order)


def shown(order: Order) -> dict[str, Any]:
    return {
        "id": str(order.id),
        "version": order.version,
        "items": order.items,
        "tracking_number": order.tracking_number,
    }


def answer(status: int) -> Any:
    async def handler(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=status)

    return handler


app.add_exception_handler(AggregateNotFound, answer(404))
app.add_exception_handler(ConcurrencyError, answer(409))
app.add_exception_handler(InvalidOperation, answer(422))
