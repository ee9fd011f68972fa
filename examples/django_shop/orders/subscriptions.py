"""What follows from events. ``manage.py eventstore run`` runs it."""

from __future__ import annotations

from uuid import UUID

from django.db.models import F

from eventstore import Event
from eventstore.contrib.django import DjangoTransaction, projection
from orders.events import ItemAdded, OrderPlaced, OrderShipped
from orders.models import OrderLine


@projection("order-lines", categories=["Order"], tables=["orders_orderline"])
def order_lines(event: Event, _: DjangoTransaction) -> None:
    """Exactly once: in the transaction that stores how far the projection has come."""
    order_id = UUID(event.stream_id.removeprefix("Order-"))
    line = OrderLine.objects.filter(order_id=order_id)
    match event:
        case OrderPlaced():
            OrderLine.objects.create(order_id=order_id, items=len(event.items), status="open")
        case ItemAdded():
            line.update(items=F("items") + 1)
        case OrderShipped():
            line.update(status="shipped")
        case _:
            pass
