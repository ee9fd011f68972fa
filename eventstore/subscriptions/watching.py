"""One look at the log for all followers of a process that wait for something to do. No I/O.

Each of them is woken only where the log has an event for it. Meanwhile one statement every few seconds says that all
of them are there, and moves their checkpoints past what their filters leave out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eventstore.codec.record import EVENT_TYPE, POSITION, STREAM_ID, Row
from eventstore.core.checkpoints import PRESENCE
from eventstore.core.requests import Operation, ReadLog, Request, SafePosition, ask
from eventstore.core.subscription_requests import Attend
from eventstore.subscriptions.outages import OLD_SECONDS

MOST_ROWS = 200
"""Of one look: with more, everybody is woken and reads by itself."""
MOVE_SECONDS = 1.0
"""How often checkpoints move past what filters leave out."""


@dataclass(eq=False, slots=True)
class Waiter:
    """A follower that has handled everything up to a position."""

    name: str
    base: int
    """The lowest of its checkpoints, as far as known."""
    at: int
    """The position up to which there is nothing for it."""
    interval: float
    """Seconds from one look to the next, at most."""
    wanted_types: Callable[[], Sequence[str] | None]
    categories: Sequence[str] | None
    wake: Callable[[], object] = bool
    """Filled in by the driver."""
    woken: bool = False
    news: int | None = None
    """Up to where the log may be read, if it has something for this one; None: poll to see what there is."""

    def alarm(self, news: int | None) -> None:
        """Wake it."""
        self.woken, self.news = True, news
        self.wake()


@dataclass(frozen=True, slots=True)
class WaitForNews(Request[int | None]):
    """Continue when there is something to do, or the subscription is stopped. Reply: the waiter's ``news``."""

    waiter: Waiter


class Watch:
    """Who waits, and what the next look has to do. One thread or task at a time looks."""

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}
        self._position = 0
        """The position up to which the log may be read, when somebody looked last."""
        self._interval = 0.0
        """How long whoever looks waits for the next time."""
        self._looked = self._attended = self._moved = float("-inf")

    def join(self, waiter: Waiter) -> bool:
        """Let a follower wait with the others. Returns whether a look is due at once."""
        self.waiters[waiter] = None
        return self._position > waiter.at or waiter.interval < self._interval

    def seconds(self) -> float:
        """How long the next look may be off."""
        self._interval = min((waiter.interval for waiter in tuple(self.waiters)), default=PRESENCE)
        return self._interval

    def look(self) -> Operation[None]:
        """See if anybody has to be woken."""
        waiters = tuple(self.waiters)
        if not waiters:
            return
        now = time.monotonic()
        if now > self._looked + OLD_SECONDS:
            # There may have been a failover that lost events: others get the positions that were passed over.
            for waiter in waiters:
                waiter.at = waiter.base
        after = min(waiter.at for waiter in waiters)
        safe = yield from ask(SafePosition(after))
        if safe is None:
            self.alarm_all()
            return
        self._position = max(self._position, safe)
        if safe > after:
            rows = yield from ask(ReadLog(after, safe, MOST_ROWS + 1, None, None))
            for waiter in waiters:
                if waiter.at < safe:
                    _tell(waiter, rows, safe)
        self._looked = now
        passed = any(waiter.at > waiter.base for waiter in waiters)
        if now > self._attended + PRESENCE / 3 or (passed and now > self._moved + MOVE_SECONDS):
            yield from self._attend(waiters)
            self._attended = self._moved = now

    def _attend(self, waiters: Iterable[Waiter]) -> Operation[None]:
        """Say that they are there, move their checkpoints, and wake those whose subscription is not as it was."""
        quiet = {waiter.name: waiter for waiter in waiters if not waiter.woken}
        if not quiet:
            return
        lowest = yield from ask(
            Attend(tuple(quiet), tuple(each.base for each in quiet.values()), tuple(each.at for each in quiet.values()))
        )
        for waiter in waiters:
            if waiter.woken:
                continue
            if lowest.get(waiter.name, -1) < waiter.base:
                waiter.alarm(None)
            else:
                waiter.base = lowest[waiter.name]
                waiter.at = max(waiter.at, waiter.base)

    def alarm_all(self) -> None:
        """Wake everybody, to find out for itself."""
        for waiter in tuple(self.waiters):
            waiter.alarm(None)


def _tell(waiter: Waiter, rows: Sequence[Row], safe: int) -> None:
    """Wake a waiter for which there is an event, or note that there is none."""
    types, categories = waiter.wanted_types(), waiter.categories
    if len(rows) > MOST_ROWS or any(
        row[POSITION] > waiter.at
        and (types is None or row[EVENT_TYPE] in types)
        and (categories is None or _category_of(row[STREAM_ID]) in categories)
        for row in rows
    ):
        waiter.alarm(safe)
    else:
        waiter.at = safe


def _category_of(stream_id: str) -> str | None:
    category, dash, _ = stream_id.partition("-")
    return category if dash else None
