"""Requests about subscriptions: what following the log asks of a store, beside reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eventstore.core.checkpoints import Claimed, Examined, ParkedEvent, Poll, SubscriptionRow
from eventstore.core.requests import Request


@dataclass(frozen=True, slots=True)
class Register(Request[bool]):
    """Make the subscription, or let it try again. False if its number of partitions can't be changed."""

    name: str
    partitions: int
    position: int
    tables: tuple[str, ...] = ()
    """The tables of a projection's read model, as its handler names them."""


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
class Attend(Request[dict[str, int]]):
    """Record that workers of several subscriptions are waiting, and move checkpoints on.

    The reply is the lowest checkpoint of each subscription, before that. One that has failed, or does not exist, is
    not in it.
    """

    names: tuple[str, ...]
    bases: tuple[int, ...]
    """Move only checkpoints from here on: from there to the next position there is nothing for the subscription."""
    positions: tuple[int, ...]
    """Where the checkpoints of each subscription move to."""


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
    rebuild: bool = False
    """Whether a rebuild parks it: then it counts once the rebuilt read model is in use."""


@dataclass(frozen=True, slots=True)
class ListParkedStreams(Request[frozenset[str]]):
    """List the streams of which a subscription, or its rebuild, has parked events."""

    name: str
    rebuild: bool


@dataclass(frozen=True, slots=True)
class ListParked(Request[list[ParkedEvent]]):
    """List the parked events of a subscription, in the order of their positions."""

    name: str


@dataclass(frozen=True, slots=True)
class TakeParked(Request[bool]):
    """In a transaction: take a parked event to handle it again; False if there is none, or if somebody else has it."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class ListDropped(Request[list[int]]):
    """List the positions of the events of a subscription that were parked and then dropped."""

    name: str


@dataclass(frozen=True, slots=True)
class DropParked(Request[bool]):
    """Decide that a parked event is not to be handled; False if there is none, or if somebody else is retrying it."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class ListSubscriptions(Request[list[SubscriptionRow]]):
    """List one subscription, or all of them, by name."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Remove(Request[bool]):
    """Delete a subscription, its parked events, and what a rebuild has left; False if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class Probe(Request[None]):
    """In a transaction: find out if it is still usable. Raises what any other request would."""


@dataclass(frozen=True, slots=True)
class InRecovery(Request[bool]):
    """Find out if the server is a standby, where nothing can be written."""


@dataclass(frozen=True, slots=True)
class Examine(Request[Examined]):
    """Find out how the log and its subscriptions are, and who holds others back, by one short look."""


class KnownArchive(NamedTuple):
    """An archive of which a store has recorded that it moved events there."""

    name: str
    """Where it was written."""
    manifest: bytes
    """The SHA-256 of its manifest; empty if the events are in no archive of this store."""
    needed: bool
    """Whether it has events that were asked for."""


@dataclass(frozen=True, slots=True)
class ListArchives(Request[list[KnownArchive]]):
    """List the archives that a store has recorded. Those with events of categories above a position are needed."""

    position: int
    categories: Sequence[str] | None


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
class WrittenElsewhere(Request[list[str]]):
    """List the tables outside of the copies that this session has written lately, each with how many rows."""

    name: str


@dataclass(frozen=True, slots=True)
class EmptiedByRebuild(Request[list[str]]):
    """List those of the tables that have rows now, and would have none after the swap."""

    name: str
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
