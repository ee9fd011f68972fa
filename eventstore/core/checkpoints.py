"""What following the log asks of a store, beside reading it: requests, as in operations.py, and what they are about."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

REBUILD = -1
"""The partition that stands for a rebuild of all streams."""
MAX_PARTITIONS = 64
PRESENCE = 15.0
"""Seconds after which a subscription that nobody has been seen to work on counts as stopped."""
FAR_BEHIND = 1000
"""So many positions behind the newest one, a subscription is catching up; below that it is live."""


class SubscriptionState(enum.Enum):
    """Where a subscription stands."""

    STOPPED = "stopped"
    """Nobody works on it."""
    CATCHING_UP = "catching up"
    """It is being worked on, and has not come near the end of the log yet."""
    LIVE = "live"
    """It has reached the end of the log, and handles events as they come."""
    FAILED = "failed"
    """It has given up at an event. Starting it again tries again."""


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """How far a subscription has come, all its partitions together."""

    name: str
    partitions: int
    position: int
    """The checkpoint of the partition that is furthest behind."""
    events_behind: int
    """The positions from there to the newest event; those that were never used are counted as well."""
    seconds_behind: float
    """The age of the oldest event above the checkpoint, by its own timestamp; 0 if there is none."""
    state: SubscriptionState
    error: str | None
    """What happened at an event that is not handled yet, or was given up."""
    error_position: int | None
    """The position of that event."""
    parked: int
    """How many events are put aside."""
    rebuilt_to: int | None
    """The position that a rebuild has come to, if there is one."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that a subscription could not handle and has put aside."""

    position: int
    stream_id: str
    version: int
    event_type: str
    attempts: int
    """How often it was tried."""
    error: str
    """What happened the last time."""
    parked_at: datetime


class Facts(NamedTuple):
    """What a store knows of a subscription: a row for each."""

    name: str
    partitions: int
    position: int
    highest: int
    """The position of the newest event."""
    seconds_behind: float
    seconds_unseen: float | None
    """Since somebody was seen to work on it."""
    failed: bool
    error: str | None
    error_position: int | None
    parked: int
    rebuilt_to: int | None

    def status(self) -> SubscriptionStatus:
        behind = max(self.highest - self.position, 0)
        if self.failed:
            state = SubscriptionState.FAILED
        elif self.seconds_unseen is None or self.seconds_unseen > PRESENCE:
            state = SubscriptionState.STOPPED
        else:
            state = SubscriptionState.CATCHING_UP if behind > FAR_BEHIND else SubscriptionState.LIVE
        return SubscriptionStatus(
            self.name,
            self.partitions,
            self.position,
            behind,
            self.seconds_behind,
            state,
            self.error,
            self.error_position,
            self.parked,
            self.rebuilt_to,
        )


class Outlook(NamedTuple):
    """What there is to do for a subscription."""

    lowest: int | None
    """The checkpoint of the partition that is furthest behind; None if the subscription is not there."""
    safe: int
    """The position up to which may be read."""
    error: str | None
    """If one of its workers has given up: at what,"""
    error_position: int | None
    """and where."""


class Claimed(NamedTuple):
    """A partition whose row is locked until the transaction ends."""

    partition: int
    partitions: int
    position: int


@dataclass(frozen=True, slots=True)
class Register:
    """Make the subscription, or let it try again. Reply: whether it has this number of partitions now."""

    name: str
    partitions: int
    position: int


@dataclass(frozen=True, slots=True)
class Look:
    """Reply: an Outlook."""

    name: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Say that somebody works on it, or does no longer."""

    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """In a transaction. Reply: Claimed, the partition that is furthest behind a position; None if none is free."""

    name: str
    below: int
    partition: int | None = None
    """This one only."""


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """In the transaction that holds the claim."""

    name: str
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class NoteError:
    """Record what happened at an event, and whether the subscription gives up."""

    name: str
    partition: int
    position: int
    error: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Park:
    """Put an event aside, in the transaction that moves the checkpoint past it."""

    name: str
    position: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class ListParked:
    """Reply: the ParkedEvents, in the order of their positions."""

    name: str


@dataclass(frozen=True, slots=True)
class DropParked:
    """Reply: whether there was one. In a transaction nobody else can do so until its end."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class ListSubscriptions:
    """Reply: Facts, of one subscription or of all, by their names."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a subscription, with what it has put aside. Reply: whether there was one."""

    name: str


@dataclass(frozen=True, slots=True)
class Probe:
    """In a transaction: is it usable still? Reply: None. Raises what any other request would."""


@dataclass(frozen=True, slots=True)
class BeginRebuild:
    """Make empty copies of tables. Reply: the tables' full names; None if another rebuild is going on."""

    name: str
    tables: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class EnterRebuild:
    """Let unqualified names mean the copies, until the transaction ends."""

    name: str


@dataclass(frozen=True, slots=True)
class WrittenRows:
    """Reply: how many rows of these tables were written in this session, counted from before the transaction."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LockSubscription:
    """Wait for the rows of all partitions, the rebuild's as well, and hold them until the transaction ends."""

    name: str


@dataclass(frozen=True, slots=True)
class FinishRebuild:
    """Put the copies' rows in place of the tables', and the checkpoint at a position."""

    name: str
    tables: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class AbandonRebuild:
    """Drop the copies, and forget the rebuild."""

    name: str


CheckpointRequest: TypeAlias = (
    Register
    | Look
    | Heartbeat
    | Claim
    | SaveCheckpoint
    | NoteError
    | Park
    | ListParked
    | DropParked
    | ListSubscriptions
    | Remove
    | Probe
)
RebuildRequest: TypeAlias = (
    BeginRebuild | EnterRebuild | WrittenRows | LockSubscription | FinishRebuild | AbandonRebuild
)
