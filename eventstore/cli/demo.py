"""``eventstore demo``: an event store at work on a real PostgreSQL, step by step, with figures measured here.

Imported only when it runs: the names of its classes of events belong to the whole process.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from eventstore.aggregate import Aggregate
from eventstore.cli.progress import Progress
from eventstore.cli.reading import as_line
from eventstore.cli.threads import Workers
from eventstore.errors import ConcurrencyError, EventStoreError, InvalidOperation
from eventstore.event import Event
from eventstore.postgres import PostgresEventStore, PostgresSnapshotStore, migrate
from eventstore.postgres.dsn import checked_dsn
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.postgres.failures import unavailable
from eventstore.repository import Repository

_THREADS = 8
_SCANS = 5_000
"""Events of the one long stream."""
_TIMED_RUNS = 7

T = TypeVar("T")


# --- what an application writes ---------------------------------------------------------------------------------------


class OrderCreated(Event):
    customer_id: UUID
    items: list[str]


class ItemAdded(Event):
    item: str


class ItemRemoved(Event):
    item: str


class OrderShipped(Event):
    tracking_number: str


class ParcelScanned(Event):
    place: str


class Order(Aggregate["Order"]):
    customer_id: UUID | None = None
    items: list[str] = field(default_factory=list[str])
    status: str = "pending"
    tracking_number: str | None = None
    last_seen: str | None = None

    def create(self, customer_id: UUID, items: list[str]) -> None:
        self._record(OrderCreated(customer_id=customer_id, items=items))

    def add(self, item: str) -> None:
        self._must_be_pending()
        self._record(ItemAdded(item=item))

    def remove(self, item: str) -> None:
        self._must_be_pending()
        self._record(ItemRemoved(item=item))

    def ship(self, tracking_number: str) -> None:
        self._must_be_pending()
        self._record(OrderShipped(tracking_number=tracking_number))

    def scan(self, place: str) -> None:
        self._record(ParcelScanned(place=place))

    def _must_be_pending(self) -> None:
        if self.status != "pending":
            raise InvalidOperation("the order has been shipped already")

    def apply(self, event: Event) -> None:
        match event:
            case OrderCreated():
                self.customer_id, self.items = event.customer_id, list(event.items)
            case ItemAdded():
                self.items.append(event.item)
            case ItemRemoved():
                self.items.remove(event.item)
            case OrderShipped():
                self.status, self.tracking_number = "shipped", event.tracking_number
            case ParcelScanned():
                self.last_seen = event.place
            case _:
                super().apply(event)


# --- the steps --------------------------------------------------------------------------------------------------------


def run(dsn: str | None, directory: Path | None, events: int) -> int:
    """Everything from an empty schema to a log of many events, then clean up."""
    if dsn is not None:
        checked_dsn(dsn)
    _say("eventstore demo: event sourcing on a real PostgreSQL. Every figure is measured here and now.")
    with _database(dsn, directory) as place, PostgresEventStore.connect(place.dsn, place.schema) as store:
        orders = Repository(store, Order)
        first = _one_order(store, orders)
        _conflict(orders)
        _transaction(store, orders)
        _many_writers(orders, events)
        _snapshots(store, orders, place)
        _whole_log(store, first)
    _say(f"\n{place.farewell}")
    _say("What to read next: the README shows how to write such a program; what ran here is eventstore/cli/demo.py;")
    _say("`eventstore --help` lists the other commands.")
    return 0


@dataclass(frozen=True)
class _Place:
    dsn: str = field(repr=False)
    schema: str
    farewell: str


@contextmanager
def _database(dsn: str | None, directory: Path | None) -> Generator[_Place, None, None]:
    if dsn is not None:
        _step(1, "A schema of its own in the database given, made for this demo")
        schema = f"eventstore_demo_{secrets.token_hex(4)}"
        try:
            _migrate(dsn, schema)
            yield _Place(dsn, schema, f"The schema {schema} was dropped again.")
        finally:
            _drop(dsn, schema)
        return
    _step(1, "Start a PostgreSQL server, for this demo alone")
    started = time.perf_counter()
    with EmbeddedServer(directory) as server:
        _show(f"PostgreSQL {server.version} is up in {_duration(time.perf_counter() - started)}")
        _migrate(server.dsn, "eventstore")
        gone = "it and its data are gone" if directory is None else f"its data stays in {directory}"
        yield _Place(server.dsn, "eventstore", f"The server was stopped; {gone}.")


def _migrate(dsn: str, schema: str) -> None:
    seconds, applied = _timed(lambda: migrate(dsn, schema))
    done = f"{len(applied)} migrations applied" if applied else "found to be up to date"
    _show(f"schema {schema}: {done} in {_duration(seconds)}, as `eventstore migrate` does")


def _drop(dsn: str, schema: str) -> None:
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
    except psycopg.Error as error:
        raise EventStoreError(f"the demo's schema {schema} is left, drop it by hand: {unavailable(error)}") from error


def _one_order(store: PostgresEventStore, orders: Repository[Order]) -> Event:
    _step(2, "Record what happens to an order, as events")
    order = Order(uuid4())
    order.create(uuid4(), ["lamp", "bulb"])
    orders.save(order)
    order = orders.load(order.id)
    order.ship("1Z-001")
    orders.save(order)
    events = store.read(f"Order-{order.id}")
    _show(f"stream Order-{order.id} now holds")
    for event in events:
        _show(as_line(event))
    loaded = orders.load(order.id)
    _show(f"loaded again, the order is what they led to: {loaded.status} with {_items(orders, order.id)}")
    try:
        loaded.ship("1Z-002")
    except InvalidOperation as refused:
        _show(f"shipping it twice is refused by its own rule: {refused}")
    return events[0]


def _conflict(orders: Repository[Order]) -> None:
    _step(3, "Two people change one order at the same time")
    order_id = _new_order(orders, ["chair"])
    one, other = orders.load(order_id), orders.load(order_id)
    one.add("cushion")
    orders.save(one)
    other.ship("1Z-003")
    try:
        orders.save(other)
    except ConcurrencyError as conflict:
        _show("both loaded it; the first added an item and saved; the second shipped and got ConcurrencyError:")
        _show(f'  "{conflict}"')
    shipped = orders.update(order_id, lambda order: order.ship("1Z-003"))
    _show(f"repository.update loads, changes and saves again: {shipped.status} with {_items(orders, order_id)}")


def _transaction(store: PostgresEventStore, orders: Repository[Order]) -> None:
    _step(4, "Change two streams in one transaction: an item moves from one order to another")
    source, target = _new_order(orders, ["table", "vase"]), _new_order(orders, ["sofa"])

    def move(item: str) -> None:
        with store.transaction() as transaction:
            together = Repository(transaction, Order)
            together.update(source, lambda order: order.remove(item))
            together.update(target, lambda order: order.add(item))

    move("vase")
    _show(f"moved: the first holds {_items(orders, source)}; the second {_items(orders, target)}")
    orders.update(target, lambda order: order.ship("1Z-004"))
    try:
        move("table")
    except InvalidOperation as refused:
        _show(f"then the second is shipped, and another move fails halfway: {refused}")
        _show(f"neither stream changed: the first still holds {_items(orders, source)}")


def _many_writers(orders: Repository[Order], events: int) -> None:
    _step(5, f"Append {events:,} events from {_THREADS} threads, each event in a transaction of its own")
    started = time.perf_counter()
    lives = [partial(_life, orders, min(5, events - done)) for done in range(0, events, 5)]
    with Workers(_THREADS) as workers, Progress("appending", total=events) as progress:
        for appended in workers.results(lives):
            progress.advance(appended)
    seconds = time.perf_counter() - started
    _show(f"{events:,} events in {len(lives):,} orders in {_duration(seconds)}: {events / seconds:,.0f} events/s")


def _life(orders: Repository[Order], events: int) -> int:
    """What happens to one order in the course of time: up to five events, saved one by one."""
    order = Order(uuid4())
    changes: list[Callable[[], None]] = [
        lambda: order.create(uuid4(), ["book"]),
        lambda: order.add("pen"),
        lambda: order.ship("1Z-005"),
        lambda: order.scan("Utrecht"),
        lambda: order.scan("Gent"),
    ]
    for change in changes[:events]:
        change()
        orders.save(order)
    return events


def _snapshots(store: PostgresEventStore, orders: Repository[Order], place: _Place) -> None:
    _step(6, "Load an order with a long history, from its events and from a snapshot")
    order_id = _new_order(orders, ["container"])
    with PostgresSnapshotStore.connect(place.dsn, place.schema) as snapshots:
        snapshotted = Repository(store, Order, snapshot_store=snapshots, snapshot_frequency=100)
        order = snapshotted.load(order_id)
        for number in range(1, _SCANS + 1):
            order.scan(f"port {number % 50}")
            if number % 500 == 0:
                snapshotted.save(order)
        replayed = _median_seconds(lambda: orders.load(order_id))
        shortened = _median_seconds(lambda: snapshotted.load(order_id))
        same = vars(orders.load(order_id)) == vars(snapshotted.load(order_id))
    _show(f"all of its {order.version:,} events replayed: {_duration(replayed)} (median of {_TIMED_RUNS})")
    _show(f"from its snapshot: {_duration(shortened)}, {replayed / shortened:,.0f} times as fast")
    _show(f"the same state both ways: {'yes' if same else 'NO'}")


def _whole_log(store: PostgresEventStore, first: Event) -> None:
    _step(7, "Read the whole log in its global order, as a projection would")
    seconds, (types, gaps) = _timed(lambda: _census(store.read_all(first.position - 1)))
    total = types.total()
    _show(f"{total:,} events in {_duration(seconds)}: {total / seconds:,.0f} events/s")
    for event_type, count in types.most_common():
        _show(f"{count:>8,}  {event_type}")
    _show(f"every stream's versions run 1, 2, 3 ... without a gap: {'yes' if not gaps else f'NO, {gaps:,} gaps'}")


def _census(events: Iterable[Event]) -> tuple[Counter[str], int]:
    types: Counter[str] = Counter()
    versions: dict[str, int] = {}
    gaps = 0
    with Progress("reading") as progress:
        for event in events:
            types[event.event_type] += 1
            gaps += event.version != versions.get(event.stream_id, 0) + 1
            versions[event.stream_id] = event.version
            progress.advance()
    return types, gaps


def _new_order(orders: Repository[Order], items: list[str]) -> UUID:
    order = Order(order_id := uuid4())
    order.create(uuid4(), items)
    orders.save(order)
    return order_id


def _items(orders: Repository[Order], order_id: UUID | str) -> str:
    return ", ".join(orders.load(order_id).items)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _step(number: int, title: str) -> None:
    _say(f"\n{number}. {title}")


def _show(text: str) -> None:
    _say(f"   {text}")


def _say(text: str) -> None:
    print(text, flush=True)  # as it happens, through a pipe as well


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _median_seconds(call: Callable[[], Any]) -> float:
    return median(_timed(call)[0] for _ in range(_TIMED_RUNS))


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
