"""Requests about subscriptions: what following the log asks of a store, beside reading it."""

from __future__ import annotations

from dataclasses import dataclass

from eventstore.core.checkpoints import Claimed, ParkedEvent, Poll, SubscriptionRow
from eventstore.core.requests import Request


@dataclass(frozen=True, slots=True)
class Register(Request[bool]):
    """Make the subscription, or let it try again. False if its number of partitions can't be changed."""

    name: str
    partitions: int
    position: int


@dataclass(frozen=True, slots=True)
class PollSubscription(Request[Poll]):
    """Find out what there is to do for a subscription."""

    name: str


@dataclass(frozen=True, slots=True)
class Heartbeat(Request[None]):
    """Record that a worker is running, or that it has stopped."""

    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class Claim(Request[Claimed | None]):
    """In a transaction: claim the partition that is furthest behind a position; None if none is free."""

    name: str
    below: int
    partition: int | None = None
    """Claim this partition only."""


@dataclass(frozen=True, slots=True)
class SaveCheckpoint(Request[None]):
    """In the transaction that holds the claim: move the checkpoint of a partition."""

    name: str
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class NoteError(Request[None]):
    """Record what happened at an event, and whether the subscription gives up."""

    name: str
    partition: int
    position: int
    error: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Park(Request[None]):
    """Park an event, in the transaction that moves the checkpoint past it."""

    name: str
    position: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class ListParked(Request[list[ParkedEvent]]):
    """List the parked events of a subscription, in the order of their positions."""

    name: str


@dataclass(frozen=True, slots=True)
class DropParked(Request[bool]):
    """Forget a parked event; False if there is none. In a transaction nobody else can do so until its end."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class ListSubscriptions(Request[list[SubscriptionRow]]):
    """List one subscription, or all of them, by name."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Remove(Request[bool]):
    """Forget a subscription and its parked events; False if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class Probe(Request[None]):
    """In a transaction: find out if it is still usable. Raises what any other request would."""


@dataclass(frozen=True, slots=True)
class BeginRebuild(Request[list[str] | None]):
    """Make empty copies of tables, and reply with the tables' full names; None if another rebuild is running."""

    name: str
    tables: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class EnterRebuild(Request[None]):
    """Let unqualified names mean the copies, until the transaction ends."""

    name: str


@dataclass(frozen=True, slots=True)
class WrittenRows(Request[int]):
    """Count the rows of these tables that were written in this session, from before the transaction on."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LockSubscription(Request[None]):
    """Wait for the rows of all partitions, the rebuild's as well, and hold them until the transaction ends."""

    name: str


@dataclass(frozen=True, slots=True)
class FinishRebuild(Request[None]):
    """Put the rows of the copies in place of those of the tables, and the checkpoint at a position."""

    name: str
    tables: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class AbandonRebuild(Request[None]):
    """Drop the copies, and forget the rebuild."""

    name: str
