"""What a rebuild decides: a read model made anew beside the one in use, which it replaces at once. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eventstore.core.checkpoints import REBUILD
from eventstore.core.operations import check_number, repeated
from eventstore.core.refusals import needs_read_committed
from eventstore.core.requests import Operation, SafePosition, ask
from eventstore.core.subscription_requests import (
    AbandonRebuild,
    BeginRebuild,
    EnterRebuild,
    FinishRebuild,
    ListSubscriptions,
    LockSubscription,
    WrittenRows,
)
from eventstore.errors import (
    AppendOutcomeUnknown,
    InvalidArgument,
    InvalidOperation,
    StoreUnavailable,
    SubscriptionFailed,
)
from eventstore.names import check_names
from eventstore.subscriptions.following import (
    FIRST_DELAY,
    LAST_DELAY,
    Follower,
    HandlingFailed,
    InTransaction,
    Rest,
    error_text,
)

FINISH_SECONDS = 1.0
"""When no more than this is left, or a batch, the workers of the model in use are made to wait for the rest."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild has come."""

    first: int
    """The position that it started above."""
    position: int
    target: int
    """Where the log ends now."""
    events: int
    """How many were handled; the filter leaves out the others."""
    seconds: float
    """Since the start."""

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None at the beginning."""
        done = self.position - self.first
        return (self.target - self.position) * self.seconds / done if done else None


class Rebuild:
    """One rebuild. ``follower`` is for it alone."""

    def __init__(
        self,
        follower: Follower,
        tables: Iterable[str],
        from_position: int,
        progress: Callable[[RebuildProgress], object] | None,
    ) -> None:
        self._follower = follower
        self._wanted = tuple(check_names("tables", tables))
        if not self._wanted:
            raise InvalidArgument(
                f"projection {follower.name!r} names no tables: a rebuild has to know which to make anew"
            )
        self._first = check_number("from_position", from_position)
        self._progress = progress
        self._tables: tuple[str, ...] = ()
        self._events = 0
        self._position = self._first

    def run(self) -> Operation[None]:
        """Raises SubscriptionFailed, and InvalidOperation for what makes a rebuild impossible."""
        name = self._follower.name
        yield from self._follower.register()
        found = yield from ask(BeginRebuild(name, self._wanted, self._first))
        if found is None:
            raise InvalidOperation(
                f"subscription {name!r} is being rebuilt already, or was until a moment ago: wait a quarter of a minute"
            )
        self._tables = tuple(found)
        started = time.monotonic()
        delay = FIRST_DELAY
        while True:
            if self._follower.stopping:
                raise InvalidOperation(f"the rebuild of {name!r} was stopped: the read model in use is as it was")
            try:
                safe = yield from self._safe_position()
                progress = RebuildProgress(self._first, self._position, safe, self._events, time.monotonic() - started)
                if self._progress:
                    self._progress(progress)
                near = safe - self._position <= self._follower.batch_size
                near = near or (progress.seconds_left or FINISH_SECONDS) < FINISH_SECONDS
                if (yield from ask(InTransaction(self._finish() if near else self._next(safe)))):
                    break
            except HandlingFailed as failure:
                raise SubscriptionFailed(name, failure.position, error_text(failure.cause)) from failure.cause
            except (StoreUnavailable, AppendOutcomeUnknown):
                yield from ask(Rest(delay))
                delay = min(delay * 2, LAST_DELAY)
                standing = yield from repeated(ListSubscriptions(name))
                if standing and standing[0].rebuilt_to is None:
                    break  # It was the answer to the last commit that was lost.
        if self._progress:
            self._progress(
                RebuildProgress(self._first, self._position, self._position, self._events, time.monotonic() - started)
            )

    def abandon(self) -> Operation[None]:
        """Leave nothing of it behind."""
        if self._tables:
            yield from ask(AbandonRebuild(self._follower.name))

    def _safe_position(self) -> Operation[int]:
        safe = yield from ask(SafePosition(self._position))
        if safe is None:
            raise needs_read_committed("a rebuild")
        return safe

    def _next(self, safe: int) -> Operation[bool]:
        yield from self._handle_next(safe)
        return False

    def _handle_next(self, safe: int) -> Operation[bool]:
        """In a transaction: a batch, in the copies. False if there is nothing left up to ``safe``."""
        yield from ask(EnterRebuild(self._follower.name))
        before = yield from ask(WrittenRows(self._tables))
        batch = yield from self._follower.batch(safe, REBUILD)
        if batch is not None:
            self._events += batch.handled
            self._position = batch.end
        if (yield from ask(WrittenRows(self._tables))) != before:
            raise InvalidOperation(
                f"the handler of {self._follower.name!r} writes to {', '.join(self._tables)} by the full name: "
                "a rebuild would change the read model in use. Let it name tables without their schema"
            )
        return batch is not None

    def _finish(self) -> Operation[bool]:
        """Everything that is left, and the swap, while the workers of the one in use wait."""
        yield from ask(LockSubscription(self._follower.name))
        safe = yield from self._safe_position()
        while (yield from self._handle_next(safe)):
            pass
        yield from ask(FinishRebuild(self._follower.name, self._tables, safe))
        return True
