"""What users write, for the type checkers: they read this, nothing runs it.

A line that is a mistake says which error mypy must find there. Both checkers complain of such a comment where they find
none, so each of these mistakes is found by both.
"""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, assert_type
from uuid import UUID, uuid4

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from eventstore import (
    Aggregate,
    AggregateNotFound,
    AsyncEventStore,
    AsyncRepository,
    ConcurrencyError,
    Event,
    EventStore,
    EventStoreError,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidOperation,
    PostgresEventStore,
    PostgresSnapshotStore,
    PostgresTransaction,
    Projection,
    Repository,
    Snapshot,
    SnapshotStore,
    StreamVersion,
    Subscription,
    SubscriptionState,
    handles,
    inline,
    register_type,
    upcasts,
)
from eventstore.postgres import migrate


@register_type
class Currency(enum.Enum):
    EUR = "EUR"


@register_type(formerly=["Unit"], members={"KILO": "KG"})
class MassUnit(enum.Enum):
    KG = "kg"


@register_type(name="shop.Mass", revision=2, formerly=["shop.Weight"])
@dataclass
class Mass:
    amount: Decimal


@upcasts(Mass, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": Decimal(data["kilograms"])}


class ParcelWeighed(Event, revision=3, formerly=["Weighed"]):
    mass: Mass


@upcasts(ParcelWeighed, from_revision=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"mass": Mass(data["kilograms"])}


@upcasts(ParcelWeighed, from_revision=2)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return data


@upcasts(ParcelWeighed, from_revision=2)  # type: ignore[type-var]
def no_data(data: int) -> int:
    return data


assert_type(Mass(Decimal(1)).amount, Decimal)
assert_type(ParcelWeighed(mass=Mass(Decimal(1))).revision, int)


@register_type
@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: Currency = Currency.EUR


# --- events -----------------------------------------------------------------------------------------------------------


class OrderCreated(Event):
    event_type: str = "shop.OrderCreated"  # a default before a non-default
    customer_id: UUID
    items: list[dict[str, Any]]
    total: Money = Money(Decimal(0))
    notes: list[str] = field(default_factory=list[str])


class OrderShipped(Event):
    tracking_number: str


class OrderShippedAbroad(OrderShipped):
    country: str = "PT"


@dataclass
class OrderPaid(Event):
    amount: Money


def events(customer_id: UUID) -> None:
    created = OrderCreated(customer_id=customer_id, items=[{"sku": "a"}])
    assert_type(created.customer_id, UUID)
    assert_type(created.items, list[dict[str, Any]])
    assert_type(created.notes, list[str])
    assert_type(created.total, Money)
    assert_type(created.total.currency, Currency)

    shipped = OrderShipped(
        tracking_number="1Z", event_id=uuid4(), timestamp=datetime.now(UTC), metadata={"user": "ann", "roles": [1]}
    )
    assert_type(shipped.event_id, UUID)
    assert_type(shipped.event_type, str)
    assert_type(shipped.timestamp, datetime)
    assert_type(shipped.metadata, dict[str, Any])
    assert_type(shipped.stream_id, str)
    assert_type(shipped.version, int)
    assert_type(shipped.position, int)
    assert_type(shipped.data, dict[Any, Any])
    OrderShippedAbroad(tracking_number="1Z", country="US")
    OrderPaid(amount=Money(Decimal(1)), metadata={})
    plain = Event(event_type="OrderShipped", data={"tracking_number": "1Z"}, metadata={})
    assert_type(plain.data, dict[Any, Any])

    OrderShipped()  # type: ignore[call-arg]
    OrderShipped(tracking_number=1)  # type: ignore[arg-type]
    OrderShipped(tracking_number="1Z", colour="red")  # type: ignore[call-arg]
    OrderShipped(uuid4(), tracking_number="1Z")  # type: ignore[call-arg]
    OrderShipped(tracking_number="1Z", version=3)  # type: ignore[call-arg]
    OrderShipped(tracking_number="1Z", timestamp="now")  # type: ignore[arg-type]
    OrderShippedAbroad(country="US")  # type: ignore[call-arg]
    OrderPaid(amount=1)  # type: ignore[arg-type]
    Event(data={})  # type: ignore[call-arg]
    Event(event_type="a", data=[])  # type: ignore[arg-type]
    shipped.colour  # type: ignore[attr-defined] # noqa: B018


# --- aggregates -------------------------------------------------------------------------------------------------------


class Order(Aggregate["Order"]):
    limit: ClassVar[int] = 10
    customer_id: UUID | None = None
    items: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    status: str = "pending"

    def create(self, customer_id: UUID, items: list[dict[str, Any]]) -> None:
        self._record(OrderCreated(customer_id=customer_id, items=items))
        self._record("created")  # type: ignore[arg-type]

    def ship(self, tracking_number: str) -> None:
        if self.status != "pending":
            raise InvalidOperation("Order already shipped")
        self._record(OrderShipped(tracking_number=tracking_number))

    def apply(self, event: Event) -> None:
        if isinstance(event, OrderCreated):
            assert_type(event, OrderCreated)
            self.customer_id, self.items = event.customer_id, event.items
        elif isinstance(event, OrderShipped):
            self.status = "shipped"


class Basket(Aggregate["Basket"]):
    category = "shop.basket"
    snapshot_version = 2

    paid: list[Money] = field(default_factory=list[Money])

    @handles(OrderPaid)
    def _paid(self, event: OrderPaid) -> None:
        self.paid.append(event.amount)

    @handles(OrderShipped)
    def _shipped(self, event: Event) -> None:  # wider than it needs to be
        self.paid = event.metadata.get("paid", [])

    @handles(OrderShipped)  # type: ignore[arg-type]
    def _mistaken(self, event: OrderPaid) -> None:
        self._paid(event)

    def undecided(self) -> list[Event]:
        return self._pending_events

    def snapshot_state(self) -> dict[str, Any]:
        return {"paid": self.paid}

    def restore_state(self, state: dict[str, Any]) -> None:
        self.paid = state["paid"]


def aggregates(order_id: UUID, found: list[Event]) -> None:
    order = Order(order_id)
    assert_type(order.id, UUID | str)
    assert_type(order.version, StreamVersion)
    assert_type(order.version.position, int)
    assert_type(order.clear_pending(), list[Event])
    assert_type(order.pending, tuple[Event, ...])
    assert_type(Order.from_events("1", found), Order)
    assert_type(Basket("1").paid, list[Money])
    Order()  # type: ignore[call-arg]
    Order(1)  # type: ignore[arg-type]
    order.version = StreamVersion(3)  # type: ignore[misc]


# --- stores -----------------------------------------------------------------------------------------------------------


def stores(
    pool: ConnectionPool[Connection[TupleRow]], connection: Connection[TupleRow], dsn: str, order: Order
) -> Iterator[Event]:
    migrate(dsn)
    kept: list[EventStore] = [PostgresEventStore(pool), PostgresEventStore(pool, schema="shop"), InMemoryEventStore()]
    assert_type(kept[0].read("Order-1"), list[Event])
    with PostgresEventStore.connect(dsn) as store:
        assert_type(store.append("Order-1", [OrderShipped(tracking_number="1Z")], 0), StreamVersion)
        store.append("Order-1", [], expected_version=ExpectedVersion.STREAM_EXISTS)
        assert_type(store.read("Order-1"), list[Event])
        assert_type(store.read("Order-1", 5, 10, backwards=True, limit=3), list[Event])
        assert_type(store.read_all(event_types=["OrderShipped"], categories="Order"), Iterator[Event])
        with store.transaction() as both:
            assert_type(both, PostgresTransaction)
            both.append("Order-2", [Event(event_type="a")], ExpectedVersion.ANY)
            both.append("Order-3", order.clear_pending(), order.version)
        assert_type(store.bind(connection), PostgresTransaction)
        store.append("Order-1", OrderShipped(tracking_number="1Z"), 0)  # type: ignore[arg-type]
        store.append("Order-1", [])  # type: ignore[call-arg]
        store.read("Order-1", 0, None, True)  # type: ignore[call-arg]
    yield from store.read_all()


# --- following the log ------------------------------------------------------------------------------------------------


def subscriptions(store: PostgresEventStore, memory: InMemoryEventStore) -> None:
    def mail(event: Event) -> None:
        assert_type(event.position, int)

    def count(event: Event, transaction: PostgresTransaction) -> None:
        assert_type(transaction.connection, Connection[Any])
        transaction.connection.execute("UPDATE counts SET n = %s", (event.position,))

    def copy(event: Event, transaction: EventStore) -> None:
        transaction.append("copies", [event], ExpectedVersion.ANY)

    mails = Subscription(store, "mails", mail, event_types=["OrderShipped"], on_failure="park")
    assert_type(mails.state, SubscriptionState)
    counts = Projection(store, "counts", count, tables=["counts"])
    assert_type(counts, Projection[PostgresTransaction])
    Projection(store, "copies", copy)
    Projection(memory, "copies", copy)
    Projection(memory, "counts", count)  # type: ignore[arg-type]
    Subscription(store, "mails", mail, on_failure="ignore")  # type: ignore[arg-type]
    assert_type(inline(store, counts), EventStore)


def snapshots(pool: ConnectionPool[Connection[TupleRow]]) -> None:
    kept: SnapshotStore = PostgresSnapshotStore(pool)
    kept = InMemorySnapshotStore()
    assert_type(kept.load("Order", "1", "schema"), Snapshot | None)


def repositories(store: EventStore, kept: SnapshotStore, order_id: UUID) -> None:
    orders = Repository(store, Order, snapshot_store=kept, snapshot_frequency=100)
    assert_type(orders, Repository[Order])
    assert_type(orders.load(order_id), Order)
    assert_type(Repository(store, Order).load("1"), Order)
    assert_type(orders.exists(order_id), bool)
    assert_type(orders.update(order_id, lambda order: order.ship("1Z"), attempts=3), Order)
    orders.save(orders.load(order_id))
    orders.save(Basket("1"))  # type: ignore[arg-type]
    orders.update(order_id, lambda order: order.fly())  # type: ignore[attr-defined]
    orders.load(7)  # type: ignore[arg-type]
    Repository(store, OrderShipped)  # type: ignore[type-var]


async def in_async(store: AsyncEventStore, order_id: UUID) -> AsyncIterator[Event]:
    orders = AsyncRepository(store, Order)
    assert_type(await orders.load(order_id), Order)
    assert_type(await orders.update(order_id, lambda order: order.ship("1Z")), Order)
    assert_type(await store.read("Order-1"), list[Event])
    assert_type(await store.append("Order-1", [OrderShipped(tracking_number="1Z")], 0), StreamVersion)
    async for event in store.read_all():
        yield event


def handle(error: ConcurrencyError, missing: AggregateNotFound) -> EventStoreError:
    assert_type(error.stream_id, str)
    assert_type(error.actual_version, int | None)
    assert_type(missing.aggregate_type, type)
    return error
