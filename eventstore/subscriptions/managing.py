"""What is asked of a subscription from outside: where it stands, and waiting for it. No I/O."""

from __future__ import annotations

import time

from eventstore.core.checkpoints import SubscriptionStatus, above_the_log
from eventstore.core.operations import check_number, repeated
from eventstore.core.requests import ListBlockingSessions, Operation, Pause, ask
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import ListSubscriptions
from eventstore.errors import (
    EventStoreError,
    InvalidArgument,
    InvalidOperation,
    SubscriptionBehind,
    SubscriptionFailed,
)

_FIRST_LOOK, _LAST_LOOK = 0.002, 0.05
"""Seconds between looks."""


def statuses() -> Operation[list[SubscriptionStatus]]:
    """Those of all subscriptions, by name."""
    found = yield from repeated(ListSubscriptions(None))
    return [row.status() for row in found]


def status(name: str) -> Operation[SubscriptionStatus]:
    """That of one. Raises InvalidOperation if it never ran."""
    found = yield from repeated(ListSubscriptions(name))
    if not found:
        raise InvalidOperation(f"there is no subscription {name!r}: run a worker of that name first")
    return found[0].status()


def blocking_sessions() -> Operation[list[BlockingSession]]:
    """Those that hold readers of the log, or writers, back."""
    return (yield from repeated(ListBlockingSessions()))


def _holder(name: str, reached: int) -> Operation[str | None]:
    """Whose transaction a subscription waits for that has come to a position; None if it waits for nobody there."""
    try:
        found = yield from blocking_sessions()
    except EventStoreError:  # The subscription is behind, whether or not that can be found out.
        return None
    in_the_way = (each for each in found if each.position is not None and each.position <= reached)
    return next((each.sentence() for each in in_the_way if each.subscription in {None, name}), None)


def wait_until_processed(name: str, position: int | None, timeout: float) -> Operation[None]:
    """Look until the checkpoint is there; without a position, until it is where the log ended at the first look."""
    if position is not None:
        check_number("position", position)
    if not isinstance(timeout, (int, float)) or timeout < 0:  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"timeout must be a number of seconds, not {timeout!r}")
    deadline = time.monotonic() + timeout
    pause = _FIRST_LOOK
    while True:
        found = yield from repeated(ListSubscriptions(name))
        row = found[0] if found else None
        if row is not None:
            if row.position > row.highest:
                raise InvalidOperation(above_the_log(name, row.position, row.highest))
            position = row.highest if position is None else position
            if row.position >= position:
                return
            if row.failed:
                raise SubscriptionFailed(name, row.error_position or 0, row.error or "")
        if time.monotonic() >= deadline:
            reached = row and row.position
            holder = None if reached is None else (yield from _holder(name, reached))
            raise SubscriptionBehind(name, position or 0, reached, timeout, held_back_by=holder)
        yield from ask(Pause(pause))
        pause = min(pause * 2, _LAST_LOOK)
