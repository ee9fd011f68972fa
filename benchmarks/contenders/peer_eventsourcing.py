"""The library `eventsourcing`, on PostgreSQL, as its documentation shows it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict

from benchmarks.samples import values


class Order(Aggregate):
    """The same order."""

    @event("Opened")
    def __init__(self) -> None:
        self.lines = 0
        self.total = Decimal(0)

    @event("LineAdded")
    def add(  # its arguments are the event's fields
        self,
        customer: UUID,  # noqa: ARG002
        price: Decimal,
        at: datetime,  # noqa: ARG002
        note: str,  # noqa: ARG002
        items: list[dict[str, Any]],  # noqa: ARG002
    ) -> None:
        self.lines += 1
        self.total += price


class Eventsourcing:
    """An application with its defaults, but for the settings that are given."""

    def __init__(self, dsn: str, **settings: str) -> None:
        server = conninfo_to_dict(dsn)
        self._application: Application[UUID] = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": str(server["dbname"]),
                "POSTGRES_HOST": str(server["host"]),
                "POSTGRES_PORT": str(server["port"]),
                "POSTGRES_USER": str(server["user"]),
                "POSTGRES_PASSWORD": "",
                **settings,
            }
        )

    def append(self, count: int) -> None:
        """So many events of a new aggregate; its own creation is the first of them."""
        order = Order()
        for number in range(count - 1):
            order.add(**values(number))
        self._application.save(order)

    def fill(self, count: int) -> UUID:
        """Saved 500 events at a time: a save of 2,000 does not return, it waits in a pipeline of NOTIFYs."""
        order = Order()
        for number in range(1, count):
            order.add(**values(number))
            if number % 500 == 0:
                self._application.save(order)
        self._application.save(order)
        return order.id

    def command(self, order_id: UUID) -> None:
        """Load an order, add a line to it, and save it."""
        order: Order = self._application.repository.get(order_id)
        order.add(**values())
        self._application.save(order)

    def load(self, order_id: UUID) -> Any:
        return self._application.repository.get(order_id)

    def close(self) -> None:
        self._application.close()
