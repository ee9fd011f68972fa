"""What all contenders store: an order's lines, five fields each."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from eventstore import Aggregate, Event, handles

CUSTOMER = UUID("0192d3a4-5b6c-7d8e-9f00-112233445566")


class LineAdded(Event):
    customer: UUID
    price: Decimal
    at: datetime
    note: str
    items: list[dict[str, Any]]


class Order(Aggregate["Order"]):
    lines: int = 0
    total: Decimal = Decimal(0)

    def add(self, values: dict[str, Any]) -> None:
        self._record(LineAdded(**values))

    @handles(LineAdded)
    def _added(self, event: LineAdded) -> None:
        self.lines += 1
        self.total += event.price


def values(number: int = 0) -> dict[str, Any]:
    """The fields of one event."""
    return {
        "customer": CUSTOMER,
        "price": Decimal("19.99"),
        "at": datetime(2026, 5, 17, 9, 30, tzinfo=UTC),
        "note": f"line {number}",
        "items": [{"sku": "teapot", "quantity": number}],
    }


def new_id() -> str:
    """The id of a stream that does not exist yet."""
    return f"Order-{uuid4()}"
