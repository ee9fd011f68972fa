"""Orders: what happens to them, and what may. No framework, and no database, is known here."""

from __future__ import annotations

from dataclasses import field

from eventstore import Aggregate, Event, InvalidOperation, handles


class OrderPlaced(Event):
    items: list[str]


class ItemAdded(Event):
    item: str


class OrderShipped(Event):
    tracking_number: str


class Order(Aggregate["Order"]):
    items: list[str] = field(default_factory=list)
    tracking_number: str | None = None

    def place(self, items: list[str]) -> None:
        if not items:
            raise InvalidOperation("an order needs items")
        self._record(OrderPlaced(items=items))

    def add(self, item: str) -> None:
        self._check_open()
        self._record(ItemAdded(item=item))

    def ship(self, tracking_number: str) -> None:
        self._check_open()
        self._record(OrderShipped(tracking_number=tracking_number))

    def _check_open(self) -> None:
        if self.tracking_number is not None:
            raise InvalidOperation(f"order {self.id} was shipped already")

    @handles(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.items = list(event.items)

    @handles(ItemAdded)
    def _added(self, event: ItemAdded) -> None:
        self.items.append(event.item)

    @handles(OrderShipped)
    def _shipped(self, event: OrderShipped) -> None:
        self.tracking_number = event.tracking_number
