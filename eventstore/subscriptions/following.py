"""What a worker of a subscription does: it looks how far the log may be read, has a batch handled, or waits. No I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass

from eventstore.core.checkpoints import FAR_BEHIND, PRESENCE, SubscriptionState, above_the_log
from eventstore.core.refusals import needs_read_committed
from eventstore.core.requests import Operation, Request, ask
from eventstore.core.subscription_requests import (
    Heartbeat,
    PollSubscription,
    Register,
)
from eventstore.errors import AppendOutcomeUnknown, InvalidOperation, StoreUnavailable, SubscriptionFailed
from eventstore.subscriptions.handling import HandlingFailed, InTransaction
from eventstore.subscriptions.outages import Patience
from eventstore.subscriptions.retrying import RetriedBatches
from eventstore.subscriptions.unknown import is_of_a_newer_release
from eventstore.subscriptions.watching import Waiter, WaitForNews

BUSY_SECONDS = 0.05
"""Until the next look, where other workers are on all that there is to do."""
SIGN_OFF_SECONDS = 3.0
"""How long a worker that ends tries to say so: whoever stops it may have lost patience with the server, too."""


@dataclass(frozen=True, slots=True)
class Wait(Request[None]):
    """Continue when something was committed, the subscription is stopped, or so many seconds later."""

    seconds: float


class Follower(RetriedBatches):
    """One worker of a subscription."""

    state = SubscriptionState.STOPPED
    error: Exception | None = None
    _news: tuple[int, int, int] | None = None
    """What a poll would find, where that is known."""
    _beat = float("-inf")
    """When it last said that it is there."""

    def register(self) -> Operation[None]:
        """Make the subscription, or let one that had given up try again."""
        partitions = self._settings.partitions
        if not (yield from ask(Register(self.name, partitions, self._settings.from_position, self.tables))):
            raise InvalidOperation(
                f"subscription {self.name!r} does not have {partitions} partition(s), and its partitions "
                "have different "
                "positions or are being worked on: stop its workers, let it catch up with its old number by "
                "run_until_caught_up(), and change the number then"
            )

    def follow(self, *, to_end: bool) -> Operation[None]:
        """Handle event after event until stopped, or to where the log ended at the start.

        Raises SubscriptionFailed; InvalidOperation if the subscription was removed meanwhile; SchemaError;
        StoreRefused for what the server refuses for good.
        """
        self.state, self.error = SubscriptionState.CATCHING_UP, None
        patience = Patience("subscription", self.name)
        target: int | None = None
        registered = False
        try:
            while not self.stopping:
                try:
                    if not registered:
                        yield from self.register()
                        registered = True
                    news, self._news = self._news, None
                    lowest, safe, end = news or (yield from self._poll())
                    target = end if target is None and to_end else target
                    if not (yield from self._round(lowest, safe, target)):
                        return
                except HandlingFailed as failure:
                    yield from self.retry(failure)
                    if to_end and failure.alone and is_of_a_newer_release(failure.cause):
                        raise failure.cause from failure.cause.__cause__
                except (StoreUnavailable, AppendOutcomeUnknown) as error:
                    self._pages.last = None
                    yield from patience.wait(error)
                else:
                    patience.reset()
            self.state = SubscriptionState.STOPPED
        except Exception as error:
            self.state, self.error = SubscriptionState.FAILED, error
            raise
        finally:
            self.stopping = False
            self._beat = float("-inf")
            if self.state is not SubscriptionState.FAILED:
                self.state = SubscriptionState.STOPPED

    def sign_off(self) -> Operation[None]:
        """Say that this worker has stopped."""
        yield from ask(Heartbeat(self.name, present=False))

    def _poll(self) -> Operation[tuple[int, int, int]]:
        """The lowest checkpoint, the position up to which the log may be read, and where it ends on the primary."""
        replayed = (yield from self.safe_position(0)) if self._reads_elsewhere else None
        self._polled = time.monotonic()
        poll = yield from ask(PollSubscription(self.name))
        if poll.lowest is None:
            raise InvalidOperation(f"subscription {self.name!r} was removed: start it again to begin from scratch")
        if poll.safe is None:
            raise needs_read_committed("a subscription")
        if poll.lowest > poll.highest:
            raise InvalidOperation(above_the_log(self.name, poll.lowest, poll.highest))
        if replayed is not None and replayed > poll.highest:
            raise InvalidOperation(
                f"subscription {self.name!r} keeps its checkpoint beside a log that ends at {poll.highest}, and reads "
                f"from one that goes to {replayed}: let read_from be a standby of the same server"
            )
        if poll.error is not None:
            raise SubscriptionFailed(self.name, poll.error_position or 0, poll.error)
        if time.monotonic() > self._beat + PRESENCE / 3:
            yield from ask(Heartbeat(self.name, present=True))
            self._beat = time.monotonic()
        return poll.lowest, poll.safe if replayed is None else replayed, poll.safe

    def _round(self, lowest: int, safe: int, target: int | None) -> Operation[bool]:
        """One batch, or a wait for something to do. False where the target is reached."""
        below = safe if target is None else min(safe, target)
        if lowest >= below:
            if target is not None and lowest >= target:
                return False
            self.state = SubscriptionState.LIVE
            self._pages.last = None
            yield from self._wait(lowest)
            return True
        if safe - lowest > FAR_BEHIND:
            self.state = SubscriptionState.CATCHING_UP
        batch = yield from ask(InTransaction(self.batch(below)))
        if batch is None:
            yield from ask(Wait(min(BUSY_SECONDS, self._settings.poll_interval)))
        elif batch.failure:
            raise batch.failure
        return True

    def _wait(self, lowest: int) -> Operation[None]:
        """Wait for something to do, with the other followers of this process where they read the same log."""
        settings = self._settings
        if self._reads_elsewhere:
            yield from ask(Wait(settings.poll_interval))
            return
        waiter = Waiter(self.name, lowest, lowest, settings.poll_interval, self._stored_types, settings.categories)
        news = yield from ask(WaitForNews(waiter))
        if news is not None:
            self._news, self._polled = (lowest, news, news), time.monotonic()
