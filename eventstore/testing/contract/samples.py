"""What the contract appends."""

from __future__ import annotations

from typing import Any

from eventstore.event import Event


class ContractItemAdded(Event):
    """An event with a class, for stores to give back as one."""

    event_type: str = "eventstore.contract.ItemAdded"
    sku: str
    quantity: int = 1


def events(count: int, **data: Any) -> list[Event]:
    """So many different events without a class, numbered from 0."""
    return [Event(event_type="Numbered", data={"number": number, **data}) for number in range(count)]


def event(**data: Any) -> list[Event]:
    """One of them, in a list as append takes it."""
    return [Event(event_type="Noted", data=data)]


def versions(found: list[Event]) -> list[int]:
    """The versions of events as they were read."""
    return [event.version for event in found]
