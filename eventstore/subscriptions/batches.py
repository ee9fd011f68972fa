"""Handlers of many events at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eventstore.errors import InvalidArgument
from eventstore.event import Event

R = TypeVar("R")
T = TypeVar("T")


def batched(handler: Callable[[Sequence[Event], T], R]) -> Callable[[Any, T], R]:
    """Declare that a projection's handler takes the events of a batch at once, as a list that is never empty.

    One statement can then write what many events say, which is much faster than one for each. The list has at most
    ``batch_size`` events. If the handler raises, its batch is rolled back, and smaller ones are tried until the event
    is found that it can't handle. So don't catch what a statement raises.

    >>> @batched
    ... def note(events, transaction):
    ...     transaction.append("Log-1", [Event(event_type="Noted") for _ in events], ExpectedVersion.ANY)
    >>> store = InMemoryEventStore()
    >>> notes = Projection(store, "notes", note, event_types=[OrderShipped])
    >>> _ = store.append("Order-7", [OrderShipped(tracking_number=number) for number in ("1Z", "2Z")], 0)
    >>> notes.run_until_caught_up()
    >>> len(store.read("Log-1"))
    2
    """
    getattr(handler, "__func__", handler).__dict__["_takes_batches"] = True
    return handler


def takes_batches(handler: object) -> bool:
    """Whether a handler was declared with ``batched``."""
    return getattr(handler, "_takes_batches", False)


def check_takes_one(handler: object) -> None:
    """Raise InvalidArgument for a handler of many events: a subscription handles them one by one."""
    if takes_batches(handler):
        raise InvalidArgument("a Subscription handles events one by one: remove @batched, or make it a Projection")
