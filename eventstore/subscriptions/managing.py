"""What is asked of a subscription from outside: where it stands, and waiting for it. No I/O."""

from __future__ import annotations

import time

from eventstore.core.checkpoints import SubscriptionStatus
from eventstore.core.operations import check_number, repeated
from eventstore.core.requests import Operation, Pause, ask
from eventstore.core.subscription_requests import ListSubscriptions
from eventstore.errors import InvalidArgument, InvalidOperation, SubscriptionBehind, SubscriptionFailed

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
        raise InvalidOperation(f"there is no subscription {name!r}: none of that name has been run here")
    return found[0].status()


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
            position = row.highest if position is None else position
            if row.position >= position:
                return
            if row.failed:
                raise SubscriptionFailed(name, row.error_position or 0, row.error or "")
        if time.monotonic() >= deadline:
            raise SubscriptionBehind(name, position or 0, row and row.position, timeout)
        yield from ask(Pause(pause))
        pause = min(pause * 2, _LAST_LOOK)
