"""Requests and their replies, and the drivers that carry out operations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from eventstore import Event, ExpectedVersion, InMemoryEventStore
from eventstore.core import asynchronous, blocking, key_requests, requests, subscription_requests
from eventstore.core.records import encode_events
from eventstore.core.requests import Append, Call, Conflict, Operation, Pause, Request, Stored, WithTransaction, ask
from eventstore.memory.engine import MemoryEngine, MemorySnapshots
from eventstore.postgres.statements import Statements

DRIVERS_OWN = {Pause, Call, WithTransaction}


def kinds_of(module: object) -> set[type]:
    found = {each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Request)}
    return found - DRIVERS_OWN - {Request}


EVERY = kinds_of(requests) | kinds_of(subscription_requests)
OF_KEY_STORES = kinds_of(key_requests) - kinds_of(requests)
REBUILDS = {
    "ListArchives",
    "EnterRebuild",
    "WrittenElsewhere",
    "LockSubscription",
    "EmptiedByRebuild",
    "FinishRebuild",
    "AbandonRebuild",
}
"""What follows BeginRebuild, which a store in memory refuses."""


def test_every_request_has_a_statement() -> None:
    assert set(Statements("eventstore")._statements) == EVERY | OF_KEY_STORES
    assert set(Statements("eventstore").in_transaction._statements) == EVERY | OF_KEY_STORES


def test_memory_answers_every_request_but_those_that_follow_the_begin_of_a_rebuild() -> None:
    answered = {*MemoryEngine()._answers, *MemorySnapshots()._answers}
    assert {each.__name__ for each in EVERY - answered} == REBUILDS


def append(stream_id: str, expected_version: int, *events: Event) -> Append:
    return Append(stream_id, expected_version, encode_events(events))


def test_memory_replies_to_an_append_with_the_version_and_position_of_its_last_event() -> None:
    store = InMemoryEventStore()
    first, second = Event(event_type="A"), Event(event_type="B")
    assert store.execute(append("other", 0, Event(event_type="C"))) == Stored(1, 1)
    assert store.execute(append("s", 0, first, second)) == Stored(2, 3)
    assert store.execute(append("s", 0, first)) == Stored(1, 2, repeated=True)
    assert store.execute(append("s", ExpectedVersion.ANY)) == Stored(2, 3)
    assert store.execute(append("new", ExpectedVersion.ANY)) == Stored(0, 0)
    assert store.execute(append("s", 1, Event(event_type="D"))) == Conflict(2)


def run_blocking(operation: Operation[Any]) -> Any:
    return blocking.run(operation)


def run_async(operation: Operation[Any]) -> Any:
    return asyncio.run(asynchronous.run(operation))


@pytest.mark.parametrize("run", [run_blocking, run_async])
def test_a_driver_makes_calls_and_throws_what_they_raise_into_the_operation(run: Callable[..., Any]) -> None:
    def operation() -> Operation[str]:
        try:
            yield from ask(Call(lambda: 1 // 0))
        except ZeroDivisionError:
            yield from ask(Pause(0))
        return (yield from ask(Call(lambda: "done")))

    assert run(operation()) == "done"


def test_the_async_driver_waits_for_what_a_call_returns() -> None:
    async def later() -> int:
        await asyncio.sleep(0)
        return 7

    assert run_async(ask(Call(later))) == 7


@pytest.mark.parametrize("run", [run_blocking, run_async])
def test_a_driver_without_a_store_refuses_a_request_for_one(run: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="no store was given"):
        run(ask(append("s", 0)))
