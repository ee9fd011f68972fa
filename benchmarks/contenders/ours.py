"""The library of this repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.samples import LineAdded, Order, new_id, values
from eventstore import PostgresEventStore, PostgresSnapshotStore, Repository

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


class Ours:
    """A store on a pool, and a repository on that."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self.store = PostgresEventStore(pool)
        self.snapshots = PostgresSnapshotStore(pool)
        self.orders = Repository(self.store, Order)

    def append(self, count: int) -> None:
        """So many events to a new stream."""
        self.store.append(new_id(), [LineAdded(**values(number)) for number in range(count)], 0)

    def fill(self, order_id: str, count: int) -> None:
        """An order of so many events."""
        for begin in range(0, count, 10_000):
            events = [LineAdded(**values(number)) for number in range(begin, min(begin + 10_000, count))]
            self.store.append(f"Order-{order_id}", events, begin)

    def load(self, order_id: str) -> Order:
        return self.orders.load(order_id)
