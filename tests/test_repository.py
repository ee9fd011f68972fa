"""Repositories: aggregates are loaded, saved and updated; what was decided is neither lost nor stored twice."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from baskets import (
    Basket,
    SnapshotsAdded,
    Watched,
    WatchedSnapshots,
    assert_loads_as_replayed,
    fill,
)

from eventstore import (
    Aggregate,
    AggregateNotFound,
    AsyncInMemoryEventStore,
    AsyncInMemorySnapshotStore,
    AsyncRepository,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    PostgresSnapshotStore,
    Repository,
    SnapshotStore,
)
from eventstore import event_types as events_module


def test_what_was_never_stored_is_not_found(baskets: Repository[Basket]) -> None:
    missing = uuid4()
    with pytest.raises(AggregateNotFound, match=f"there is no Basket with id {missing}") as caught:
        baskets.load(missing)
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == (Basket, missing)
    with pytest.raises(AggregateNotFound):
        baskets.update(missing, lambda _: None)


def test_exists_tells_whether_any_event_is_stored(events: Watched, baskets: Repository[Basket]) -> None:
    assert not baskets.exists("1")
    fill(baskets, "1", 15)
    assert baskets.exists("1")
    assert not baskets.exists("2")
    assert events.reads[-1] == ("Basket-2", 0, 1)


@pytest.mark.parametrize("aggregate_id", ["", "a\0b", "x" * 256, 1, None])
def test_an_id_that_can_not_be_is_refused(baskets: Repository[Basket], aggregate_id: Any) -> None:
    for call in (baskets.load, baskets.exists, lambda i: baskets.update(i, lambda _: None)):
        with pytest.raises(InvalidArgument, match="the id of Basket"):
            call(aggregate_id)


def test_a_save_without_pending_events_does_nothing(events: Watched, baskets: Repository[Basket]) -> None:
    events.before_append = lambda: pytest.fail("an append")
    baskets.save(Basket("1"))
    assert not baskets.exists("1")


def test_a_save_clears_what_was_pending_and_sets_the_version(baskets: Repository[Basket]) -> None:
    basket = fill(baskets, "1", 3)
    assert (basket.version, basket.pending) == (3, ())
    basket.add(4)
    baskets.save(basket)
    assert (basket.version, baskets.load("1").version) == (4, 4)


def test_a_save_returns_the_version_and_the_position_of_its_last_event(
    events: Watched, baskets: Repository[Basket]
) -> None:
    basket = Basket("b")
    assert (baskets.save(basket), basket.version.position) == (0, 0)
    for number in range(21):  # A snapshot is taken at 10 and at 20.
        basket.add(number)
        saved = baskets.save(basket)
        there = events.read("Basket-b")[-1]
        assert (saved, saved.position) == (there.version, there.position)
        assert baskets.save(basket).position == there.position
        assert baskets.load("b").version.position == there.position
    changed = baskets.update("b", lambda basket: basket.add(1))
    assert changed.version.position == events.read("Basket-b")[-1].position


def test_the_repr_of_a_repository_says_what_it_keeps_and_where() -> None:
    store = InMemoryEventStore()
    store.append("Basket-1", [Event(event_type="T")], 0)
    assert repr(store) == "<InMemoryEventStore: 1 events in 1 streams>"
    assert repr(Repository(store, Basket)) == f"Repository({store!r}, Basket)"
    snapshots = PostgresSnapshotStore.connect("host=nowhere password=s3cret", "shop")
    shown = repr(Repository(PostgresEventStore.connect("host=nowhere password=s3cret"), Basket, snapshots, 50))
    assert shown == (
        "Repository(PostgresEventStore(schema='eventstore'), Basket, "
        "snapshot_store=PostgresSnapshotStore(schema='shop'), snapshot_frequency=50)"
    )


def test_only_its_own_class_can_be_saved(store: EventStore) -> None:
    class Other(Aggregate["Other"]):
        pass

    class Below(Basket):
        pass

    repository = Repository(store, Basket)
    for nonsense in (Other("1"), None, "Basket"):
        with pytest.raises(InvalidArgument, match="this repository is for Basket, not for"):
            repository.save(nonsense)  # type: ignore[arg-type]
    for nonsense in (Other("1"), "Basket", int, None):
        with pytest.raises(InvalidArgument, match="is not a subclass of Aggregate"):
            Repository(store, nonsense)  # type: ignore[type-var]


def test_a_conflict_leaves_the_aggregate_as_it_was_and_every_later_save_fails_too(
    store: EventStore, baskets: Repository[Basket]
) -> None:
    fill(baskets, "1", 3)
    mine, theirs = baskets.load("1"), baskets.load("1")
    theirs.add(100)
    baskets.save(theirs)
    mine.add(200, 201)
    before = {name: repr(value) for name, value in mine.__dict__.items()}
    for _ in range(3):
        with pytest.raises(ConcurrencyError) as caught:
            baskets.save(mine)
        assert (caught.value.stream_id, caught.value.expected_version) == ("Basket-1", 3)
        assert caught.value.actual_version == 4
        assert {name: repr(value) for name, value in mine.__dict__.items()} == before
        assert [event.data["number"] for event in mine.pending] == [200, 201]
        assert mine.version == 3
    assert len(store.read("Basket-1")) == 4


def test_creating_what_exists_is_a_conflict(baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 1)
    second = Basket("1")
    second.add(2)
    with pytest.raises(ConcurrencyError, match="at version 1"):
        baskets.save(second)


class Interfering:
    """Another writer, who is faster the first few times."""

    def __init__(self, events: Watched, times: int) -> None:
        self._events = events
        self._left = times
        events.before_append = self

    def __call__(self) -> None:
        if self._left:
            self._left -= 1
            self._events._store.append("Basket-1", [SnapshotsAdded(number=1000)], ExpectedVersion.ANY)


def test_update_loads_changes_and_saves_again_after_a_conflict(events: Watched, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)
    Interfering(events, 2)
    seen: list[int] = []

    def change(basket: Basket) -> str:
        seen.append(basket.version)
        basket.add(7)
        return "not what update returns"

    found = baskets.update("1", change)
    assert type(found) is Basket
    assert (found.version, found.pending) == (6, ())
    assert seen == [3, 4, 5]
    assert [event.data["number"] for event in events.read("Basket-1")] == [0, 1, 2, 1000, 1000, 7]
    assert found.__dict__ == baskets.load("1").__dict__


def test_update_with_one_attempt_raises_the_conflict(events: Watched, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)
    Interfering(events, 100)
    with pytest.raises(ConcurrencyError) as caught:
        baskets.update("1", lambda basket: basket.add(7), attempts=1)
    assert (caught.value.expected_version, caught.value.actual_version) == (3, 4)
    assert len(events.read("Basket-1")) == 4


@pytest.mark.parametrize("attempts", [2, 4])
def test_the_last_of_several_attempts_to_update_can_not_meet_a_conflict(
    events: Watched, saved: WatchedSnapshots, baskets: Repository[Basket], attempts: int
) -> None:
    fill(baskets, "1", 3)
    Interfering(events, 100)  # As often as it is asked: before each append outside of a transaction.
    calls: list[int] = []

    def change(basket: Basket) -> None:
        calls.append(basket.version)
        basket.add(*range(10))

    found = baskets.update("1", change, attempts=attempts)
    assert calls == list(range(3, 3 + attempts))
    assert (found.version, found.pending) == (12 + attempts, ())
    assert found.__dict__ == assert_loads_as_replayed(events, saved, "1").__dict__
    assert [snapshot.version for snapshot in saved.saved] == [12 + attempts]


@pytest.mark.parametrize("attempts", [0, -1, 1.0, "1", True, None])
def test_attempts_that_can_not_be_are_refused(baskets: Repository[Basket], attempts: Any) -> None:
    fill(baskets, "1", 1)
    with pytest.raises(InvalidArgument, match="attempts must be an int of at least 1"):
        baskets.update("1", lambda _: pytest.fail("called"), attempts=attempts)


@pytest.mark.parametrize(
    "error",
    [InvalidOperation("not now"), RuntimeError("a bug"), ConcurrencyError("Other-1", 1, 2)],
    ids=lambda error: type(error).__name__,
)
def test_what_a_change_raises_is_raised_at_once_and_nothing_is_stored(
    events: Watched, baskets: Repository[Basket], error: Exception
) -> None:
    fill(baskets, "1", 3)
    calls = itertools.count()

    def change(basket: Basket) -> None:
        next(calls)
        basket.add(7)
        raise error

    with pytest.raises(type(error)) as caught:
        baskets.update("1", change)
    assert caught.value is error
    assert next(calls) == 1
    assert len(events.read("Basket-1")) == 3


def test_a_change_that_raises_stop_iteration_is_an_error_and_no_result(baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)

    def change(_: Basket) -> None:
        raise StopIteration(1)

    with pytest.raises(RuntimeError) as caught:  # As out of every generator.
        baskets.update("1", change)
    assert type(caught.value.__cause__) is StopIteration


def test_update_without_a_change_saves_nothing(events: Watched, baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 3)
    events.before_append = lambda: pytest.fail("an append")
    assert baskets.update("1", lambda _: None).version == 3


def test_sixteen_threads_that_update_one_aggregate_all_succeed(store: EventStore) -> None:
    baskets = Repository(store, Basket)
    fill(baskets, "hot", 1)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                baskets.update("hot", lambda basket: basket.add(1), attempts=2)
        except BaseException as error:  # noqa: BLE001 asserted below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert baskets.load("hot").version == 161


def test_metadata_given_to_save_and_update_is_added_and_the_events_own_wins(store: EventStore) -> None:
    baskets = Repository(store, Basket)
    basket = Basket("1")
    basket._record(SnapshotsAdded(number=1, metadata={"user": "eve"}))
    basket.add(2)
    baskets.save(basket, metadata={"user": "ann", "request": 7})
    baskets.update("1", lambda found: found.add(3), metadata={"user": "bob"})
    assert [event.metadata for event in store.read("Basket-1")] == [
        {"user": "eve", "request": 7},
        {"user": "ann", "request": 7},
        {"user": "bob"},
    ]


def test_a_save_that_fails_leaves_the_metadata_of_pending_events_alone(store: EventStore) -> None:
    baskets = Repository(store, Basket)
    fill(baskets, "1", 1)
    late = Basket("1")
    late.add(2)
    with pytest.raises(ConcurrencyError):
        baskets.save(late, metadata={"user": "ann"})
    assert [event.metadata for event in late.pending] == [{}]
    with pytest.raises(InvalidArgument, match="metadata must be a mapping, not str"):
        baskets.save(late, metadata="ann")  # type: ignore[arg-type]


# --- wrong arguments --------------------------------------------------------------------------------------------------


def test_two_classes_of_one_category_can_not_be_kept_in_one_store(store: EventStore) -> None:
    class Shelf(Aggregate["Shelf"]):
        category = "Basket"

    class Hamper(Basket):
        category = "Basket"

    Repository(store, Basket)
    Repository(store, Hamper)  # A class below it reads what it reads on purpose.
    with pytest.raises(InvalidArgument, match="each would read the other's streams"):
        Repository(store, Shelf)
    with store.transaction() as transaction, pytest.raises(InvalidArgument, match="has the category 'Basket'"):
        Repository(transaction, Shelf)
    Repository(InMemoryEventStore(), Shelf)


def test_stores_of_another_kind_are_refused() -> None:
    store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    async_store, async_snapshots = AsyncInMemoryEventStore(), AsyncInMemorySnapshotStore()
    for make in (
        lambda: Repository(async_store, Basket),  # type: ignore[arg-type]
        lambda: Repository(store, Basket, store),  # type: ignore[arg-type]
        lambda: Repository(store, Basket, async_snapshots),  # type: ignore[arg-type]
        lambda: AsyncRepository(store, Basket),  # type: ignore[arg-type]
        lambda: AsyncRepository(async_store, Basket, async_store),  # type: ignore[arg-type]
        lambda: AsyncRepository(async_store, Basket, snapshots),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument, match="must be a subclass of"):
            make()


def test_update_refuses_a_coroutine_function_as_nobody_would_await_it(baskets: Repository[Basket]) -> None:
    fill(baskets, "1", 1)

    async def change(basket: Basket) -> None:
        basket.add(1)

    with pytest.raises(InvalidArgument, match="use AsyncRepository"):
        baskets.update("1", change)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="change must be a function, not str"):
        baskets.update("1", "change")  # type: ignore[arg-type]


# --- the example of the design, letter for letter ---------------------------------------------------------------------

EXAMPLE = """\
@dataclass
class OrderCreated(Event):                    # exactly this form runs, a default before a non-default included
    event_type: str = "OrderCreated"
    customer_id: UUID
    items: list[dict]

class OrderShipped(Event):                    # the short form, which type checkers understand as well: a dataclass with
    tracking_number: str                      # keyword arguments, its event_type "OrderShipped"

class Order(Aggregate["Order"]):
    customer_id: UUID | None = None
    items: list[dict] = field(default_factory=list)     # dataclasses.field without the decorator: each instance has its own
    status: str = "pending"
    tracking_number: str | None = None
    def create(self, customer_id: UUID, items: list[dict]) -> None:
        self._record(OrderCreated(customer_id=customer_id, items=items))
    def ship(self, tracking_number: str) -> None:
        if self.status != "pending":
            raise InvalidOperation("Order already shipped")
        self._record(OrderShipped(tracking_number=tracking_number))
    def apply(self, event: Event) -> None: ...

order = Order(uuid4()); order.create(customer_id, items)
store = PostgresEventStore(pool)                        # a psycopg_pool.ConnectionPool of the caller's
store = PostgresEventStore.connect(dsn)                 # or one of its own; also a context manager
orders = Repository(store, Order, snapshot_store=PostgresSnapshotStore(pool), snapshot_frequency=100)
order = orders.load(order_id)                           # an Order for the type checker, too
order.ship("1Z"); orders.save(order)
"""  # noqa: E501 letter for letter


def test_the_example_of_the_design_runs_on_every_store(
    store: EventStore, snapshots: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "_event_classes", {})  # Others use these names as well.

    class Given:  # In the place of PostgresEventStore: this store, however it is asked for.
        def __call__(self, _: object) -> EventStore:
            return store

        connect = __call__

    def apply(order: Any, event: Event) -> None:  # What the design leaves out.
        if isinstance(event, names["OrderCreated"]):
            order.customer_id, order.items = event.customer_id, event.items
        elif isinstance(event, names["OrderShipped"]):
            order.status, order.tracking_number = "shipped", event.tracking_number

    customer_id, items = uuid4(), [{"sku": "a", "quantity": 2}]
    names: dict[str, Any] = dict(globals()) | {
        "dataclass": dataclass,
        "field": field,
        "UUID": UUID,
        "PostgresEventStore": Given(),
        "PostgresSnapshotStore": lambda _: snapshots,
        "pool": None,
        "dsn": None,
        "customer_id": customer_id,
        "items": items,
        "do_apply": apply,
    }
    text = EXAMPLE.replace("def apply(self, event: Event) -> None: ...", "apply = do_apply")
    assert text != EXAMPLE
    before, loads, rest = text.partition("order = orders.load(order_id)")
    exec(compile(before, "DESIGN.md", "exec"), names)  # noqa: S102 our own page
    names["orders"].save(names["order"])
    names["order_id"] = names["order"].id
    exec(compile(loads + rest, "DESIGN.md", "exec"), names)  # noqa: S102 our own page

    order = names["orders"].load(names["order_id"])
    assert type(order) is names["Order"]
    assert (order.customer_id, order.items, order.status, order.tracking_number) == (
        customer_id,
        items,
        "shipped",
        "1Z",
    )
    assert (order.version, order.pending) == (2, ())
    created, shipped = store.read(f"Order-{order.id}")
    assert (created.event_type, shipped.event_type) == ("OrderCreated", "OrderShipped")
    assert created.data == {"customer_id": customer_id, "items": items}
    with pytest.raises(InvalidOperation, match="Order already shipped"):
        order.ship("2Z")
