"""Checkpoints: what a store knows of subscriptions and their parked events."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from eventstore.core.sessions import BlockingSession

REBUILD = -1
"""The partition that stands for a rebuild of all streams."""
MAX_PARTITIONS = 64
PRESENCE = 15.0
"""Seconds after which a subscription that nobody has been seen to work on counts as stopped."""
FAR_BEHIND = 1000
"""A subscription more than this many positions behind is catching up; otherwise it is live."""


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
    positions_behind: int
    """The positions from there to the newest event; those that were never used are counted as well."""
    seconds_behind: float
    """The age of the oldest event above the checkpoint, by its own timestamp; 0 if there is none."""
    state: SubscriptionState
    error: str | None
    """What went wrong at an event that is not handled yet or at which it has stopped, or None."""
    error_position: int | None
    """The position of that event, or None."""
    parked: int
    """How many events are parked."""
    rebuilt_to: int | None
    """The position that a running rebuild has reached, or None."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that a subscription could not handle and has parked."""

    position: int
    stream_id: str
    version: int
    event_type: str
    attempts: int
    """How often it was tried, in all."""
    error: str
    """The error of the last attempt."""
    parked_at: datetime


def above_the_log(name: str, position: int, highest: int) -> str:
    """What is wrong with a checkpoint above the end of the log, and what to do about it."""
    return (
        f"subscription {name!r} has its checkpoint at position {position}, and the log ends at {highest}: the log was "
        "restored without it, or it belongs to another log. It would skip the next events. Remove the subscription, "
        "and start it again with from_position at the last event of this log that it has handled"
    )


class SubscriptionRow(NamedTuple):
    """What a store knows of a subscription, in one row."""

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
    seconds_unmoved: float
    """Since the checkpoint was last stored."""
    seconds_failing: float | None
    """Since the event with the error failed for the first time."""
    at_work: bool
    """Whether somebody has a checkpoint locked: a worker, as long as it is at a batch."""

    @property
    def is_unattended(self) -> bool:
        """Whether nobody works on it. A worker that is long at one batch is not seen, but holds its checkpoint."""
        return not self.at_work and (self.seconds_unseen is None or self.seconds_unseen > PRESENCE)

    def status(self) -> SubscriptionStatus:
        behind = max(self.highest - self.position, 0)
        error = self.error
        if self.position > self.highest:
            state = SubscriptionState.FAILED
            error = above_the_log(self.name, self.position, self.highest)
        elif self.failed:
            state = SubscriptionState.FAILED
        elif self.is_unattended:
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
            error,
            self.error_position,
            self.parked,
            self.rebuilt_to,
        )


class Examined(NamedTuple):
    """How the log and its subscriptions are, at one moment."""

    highest: int | None
    """The position of the newest event; None where that can't be known."""
    safe: int | None
    """The position up to which the log may be read; None if it may not be read."""
    trouble: str | None
    """Why it may not be read."""
    migration: int | None
    """The number of the newest migration; None in a store that has none."""
    sessions: list[BlockingSession]
    subscriptions: list[SubscriptionRow]


class Poll(NamedTuple):
    """What there is to do for a subscription."""

    lowest: int | None
    """The checkpoint of the partition that is furthest behind; None if the subscription is not there."""
    safe: int | None
    """The position up to which the log may be read; None if the transaction can't tell."""
    highest: int
    """The position of the newest event."""
    error: str | None
    """The error of the worker that gave up, or None."""
    error_position: int | None
    """The position of the event that it gave up at."""


class Claimed(NamedTuple):
    """A partition whose row is locked until the transaction ends."""

    partition: int
    partitions: int
    position: int


def partition_of(stream_id: str, partitions: int) -> int:
    """The partition that a stream belongs to, as partition_of in the database says."""
    return sha256(stream_id.encode()).digest()[0] % partitions
