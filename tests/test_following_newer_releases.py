"""Followers that meet what a newer release has stored: they wait for the deployment, and skip and park nothing."""

from __future__ import annotations

import logging
import types
from typing import TYPE_CHECKING, Any

import pytest
from waiting import PATIENCE, eventually

from eventstore import (
    Event,
    NewerRevision,
    PostgresEventStore,
    Projection,
    SubscriptionFailed,
    SubscriptionState,
    UnknownEventType,
    upcasts,
)
from eventstore.event_types import ignore_types
from eventstore.subscriptions import retrying

if TYPE_CHECKING:
    from fronts import Front
    from psycopg_pool import ConnectionPool

numbers = iter(range(1, 1_000_000))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(retrying, "LAST_DELAY", 0.01)


@pytest.fixture
def name() -> str:
    """An event type that no class has yet."""
    return f"Newer{next(numbers)}"


def release(name: str, revision: int) -> type[Event]:
    """The class as one release has it: of the same module and name, so that the next one takes its place."""
    body = {"__annotations__": {"value": Any}, "__module__": __name__, "__qualname__": name}
    cls = types.new_class(name, (Event,), {"revision": revision}, lambda namespace: namespace.update(body))
    for step in range(1, revision):
        upcasts(cls, from_revision=step)(dict)
    return cls


def stored(name: str, *revisions: int) -> list[Event]:
    """As releases have stored them."""
    return [Event(event_type=name, data={"value": number}, revision=number) for number in revisions]


class Handler:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event, *_: Any) -> None:
        self.seen.append(event)

    @property
    def values(self) -> list[Any]:
        return [event.data["value"] for event in self.seen]


def waiting_status(front: Front) -> Any:
    """That of the only worker, once it waits."""
    assert eventually(lambda: any(each.error for each in front.statuses()))
    (status,) = front.statuses()
    return status


@pytest.mark.parametrize("on_failure", ["stop", "park"])
@pytest.mark.parametrize("kind", ["subscription", "projection"])
def test_a_worker_waits_at_a_newer_revision_until_its_release_is_there(
    front: Front, name: str, kind: str, on_failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    front.store.append("a", stored(name, 1, 2, 1), 0)
    release(name, 1)
    handler = Handler()
    with front.running(getattr(front, kind)("s", handler, attempts=1, on_failure=on_failure)) as worker:
        status = waiting_status(front)
        assert "NewerRevision" in status.error
        assert status.error_position == status.position + 1
        assert status.state is not SubscriptionState.FAILED
        assert set(handler.values) == {1}
        assert worker.parked() == []
        release(name, 2)
        worker.wait_until_processed(timeout=PATIENCE)
        assert worker.status().error is None
    assert handler.values[-3:] == [1, 2, 1]
    told = [record.message for record in caplog.records if "waits at position" in record.message]
    assert len(told) == 1
    assert "deploy the newer release here too" in told[0]


def test_workers_of_the_newer_release_take_over_at_once(front: Front, name: str) -> None:
    front.store.append("a", stored(name, 1, 2), 0)
    release(name, 1)
    old, new = Handler(), Handler()
    with front.running(front.subscription("s", old)) as waiting:
        waiting_status(front)
        release(name, 2)
        front.subscription("s", new).run_until_caught_up()
        waiting.wait_until_processed(timeout=PATIENCE)
    assert old.values + new.values == [1, 2]


def test_a_run_to_the_end_says_that_it_can_t_get_there(front: Front, name: str) -> None:
    front.store.append("a", stored(name, 1, 2), 0)
    release(name, 1)
    handler = Handler()
    worker = front.subscription("s", handler, on_failure="park")
    with pytest.raises(NewerRevision, match=f"revision 2 of '{name}' wrote it"):
        worker.run_until_caught_up()
    assert handler.values == [1]
    assert worker.parked() == []
    release(name, 2)
    worker.run_until_caught_up()
    assert handler.values == [1, 2]


def test_a_follower_that_was_given_classes_waits_at_a_type_without_one(front: Front, name: str) -> None:
    known = release(f"{name}Known", 1)
    front.store.append("a", [known(value=1), *stored(name, 1)], 0)
    handler = Handler()
    worker = front.subscription("s", handler, event_types=iter([known, name]), on_failure="park")
    with pytest.raises(UnknownEventType, match="no class was defined"):
        worker.run_until_caught_up()
    assert worker.parked() == []
    release(name, 1)
    worker.run_until_caught_up()
    assert [type(event).__name__ for event in handler.seen] == [f"{name}Known", name]


def test_a_filter_by_a_class_finds_what_was_stored_under_its_former_name(front: Front, name: str) -> None:
    front.store.append("a", [*stored(f"{name}Old", 1), *stored(name, 1), *stored(f"{name}Other", 1)], 0)
    body = {"__annotations__": {"value": Any}, "__module__": __name__}
    cls = types.new_class(name, (Event,), {"formerly": [f"{name}Old"]}, lambda namespace: namespace.update(body))
    for number, wanted in enumerate((cls, name, f"{name}Old")):
        handler = Handler()
        front.subscription(f"s{number}", handler, event_types=wanted).run_until_caught_up()
        assert [type(event) for event in handler.seen] == [cls, cls]
    inline = Handler()
    front.inline(inline, event_types=[f"{name}Old"]).append("b", [cls(value=1)], 0)
    assert inline.values == [1]


def test_a_follower_of_a_strict_store_waits_at_a_type_without_a_class(
    pool: ConnectionPool, schema: str, name: str
) -> None:
    store = PostgresEventStore(pool, schema, strict=True)
    store.append("a", stored(name, 1), 0)
    handler = Handler()
    worker = Projection(store, "s", handler, on_failure="park", attempts=1)
    with pytest.raises(UnknownEventType):
        worker.run_until_caught_up()
    assert (handler.seen, worker.parked()) == ([], [])


def test_others_get_plain_events_with_one_warning_for_each_type(
    front: Front, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    front.store.append("a", [*stored(name, 1, 1), *stored(f"{name}Other", 1), *stored(f"{name}Ignored", 1)], 0)
    ignore_types([f"{name}Ignored"])
    handler = Handler()
    with caplog.at_level(logging.WARNING, "eventstore"):
        front.subscription("s", handler).run_until_caught_up()
    assert {type(event) for event in handler.seen} == {Event}
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert f"no class is defined for the event type {name}," in told[0]
    assert f"no class is defined for the event type {name}Other," in told[1]


def test_an_aggregate_without_a_handler_is_still_the_handler_s_failure(front: Front, name: str) -> None:
    cls = release(name, 1)

    def handle(event: Event) -> None:
        raise UnknownEventType(event.event_type, "an aggregate", "no handler")

    front.store.append("a", [cls(value=1)], 0)
    worker = front.subscription("s", handle, on_failure="park", attempts=1)
    worker.run_until_caught_up()
    assert len(worker.parked()) == 1


def test_a_rebuild_by_an_older_release_ends_at_once_and_parks_nothing(
    pool: ConnectionPool, schema: str, name: str
) -> None:
    store = PostgresEventStore(pool, schema)
    store.append("a", stored(name, 1, 2), 0)
    release(name, 1)
    with pool.connection() as connection:
        connection.execute(f"CREATE TABLE {schema}.model (n int)")
    worker = Projection(store, "s", Handler(), on_failure="park", tables=[f"{schema}.model"])
    with pytest.raises(SubscriptionFailed, match="NewerRevision"):
        worker.rebuild()
    assert worker.parked() == []
