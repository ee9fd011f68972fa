"""What a rebuild decides: a read model built again beside the one in use, which it then replaces at once. No I/O."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from eventstore.archives.reading import Archive, ArchivedLog, opened_archive
from eventstore.codec.record import Row
from eventstore.codec.showing import cleaned
from eventstore.core.checkpoints import REBUILD
from eventstore.core.logs import subscription_log as _log
from eventstore.core.operations import check_number, repeated
from eventstore.core.places import end_of_log
from eventstore.core.requests import Call, Operation, ask
from eventstore.core.subscription_requests import (
    AbandonRebuild,
    BeginRebuild,
    EmptiedByRebuild,
    EnterRebuild,
    FinishRebuild,
    ListArchives,
    ListDropped,
    ListSubscriptions,
    LockSubscription,
    WrittenElsewhere,
)
from eventstore.errors import (
    AppendOutcomeUnknown,
    ArchiveError,
    InvalidArgument,
    InvalidOperation,
    StoreUnavailable,
    SubscriptionFailed,
)
from eventstore.subscriptions.following import Follower
from eventstore.subscriptions.handling import HandlingFailed, InTransaction
from eventstore.subscriptions.outages import Patience, error_text, lasts
from eventstore.subscriptions.unknown import is_of_a_newer_release

FINISH_SECONDS = 1.0
"""When no more than this is left, or a batch, the workers of the model in use are made to wait for the rest."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild has come."""

    first: int
    """It rebuilds from the events above this position."""
    position: int
    target: int
    """Where the log ends now."""
    events: int
    """How many events were handled. The filter leaves out the others."""
    seconds: float
    """Seconds since the start."""

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate at the present rate; None at the beginning."""
        done = self.position - self.first
        return (self.target - self.position) * self.seconds / done if done else None


Calling: TypeAlias = Callable[[Callable[[], Any]], Any | Awaitable[Any]]
"""Calls a function that reads files, where nobody is held up by that."""


class Rebuild:
    """One rebuild. ``follower`` is for it alone. Files of archives are read by ``call``."""

    def __init__(
        self,
        follower: Follower,
        from_position: int,
        progress: Callable[[RebuildProgress], object] | None,
        archives: Iterable[str] | None,
        call: Calling,
    ) -> None:
        self._follower = follower
        if not follower.tables:
            raise InvalidArgument(
                f"projection {follower.name!r} names no tables: give it tables=[...], so that a rebuild knows which "
                "tables to rebuild"
            )
        self._first = check_number("from_position", from_position)
        self._progress = progress
        if isinstance(archives, str):
            raise InvalidArgument(f"archives must be a list of places, such as [{archives!r}]")
        self._archives = None if archives is None else [str(place) for place in archives]
        self._call = call
        self._tables: tuple[str, ...] = ()
        self._dropped: frozenset[int] = frozenset()
        self._events = 0
        self._position = self._first
        self._started = 0.0
        self._troubled = False
        """Whether an event has failed, and not all that is left has been handled since."""

    def run(self) -> Operation[None]:
        """Raises SubscriptionFailed, and InvalidOperation for what makes a rebuild impossible."""
        name = self._follower.name
        yield from self._check_first()
        yield from self._follower.register()
        found = yield from ask(BeginRebuild(name, self._follower.tables, self._first))
        if found is None:
            raise InvalidOperation(
                f"subscription {name!r} is being rebuilt already, or was until a moment ago: wait 15 seconds, and retry"
            )
        self._tables = tuple(found)
        self._dropped = frozenset((yield from ask(ListDropped(name))))
        yield from self._open_archives()
        self._started = time.monotonic()
        patience = Patience("rebuild of", name)
        while True:
            if self._follower.stopping:
                raise InvalidOperation(
                    f"the rebuild of {name!r} was stopped, and changed nothing: start it again when you want to"
                )
            try:
                if (yield from self._step()):
                    break
            except HandlingFailed as failure:
                if not self._follower.parks or lasts(failure.cause) or is_of_a_newer_release(failure.cause):
                    raise SubscriptionFailed(name, failure.position, error_text(failure.cause)) from failure.cause
                self._troubled = True
                yield from self._follower.retry(failure)
            except (StoreUnavailable, AppendOutcomeUnknown) as error:
                yield from patience.wait(error)
                standing = yield from repeated(ListSubscriptions(name))
                if standing and standing[0].rebuilt_to is None:
                    break  # It was the answer to the last commit that was lost.
            else:
                patience.reset()
        self._tell(self._position)

    def _check_first(self) -> Operation[None]:
        if self._first and self._first > (end := (yield from end_of_log())):
            raise InvalidArgument(
                f"from_position is {self._first}, and the log ends at {end}: a rebuild from there would leave nothing"
            )

    def _open_archives(self) -> Operation[None]:
        """Let the follower read archives beside the log. Raises unless they are those that it needs."""
        if self._archives is None:
            return
        places = self._archives
        known = yield from ask(ListArchives(self._first, self._follower.categories))
        opened: list[Archive] = []
        if places:
            opened = yield from ask(Call(lambda: self._call(lambda: [opened_archive(each) for each in places])))
        for archive in opened:
            if all(each.manifest != archive.digest for each in known):
                raise ArchiveError(
                    archive.place.name,
                    "the store has no record of events that are there and not in its table: leave it out",
                )
        given = {archive.digest for archive in opened}
        missing = [each.name for each in known if each.needed and each.manifest not in given]
        if missing:
            raise InvalidOperation(
                f"the rebuild of {self._follower.name!r} needs events that were moved into {len(missing)} archive(s), "
                f"{', '.join(missing[:3])}: name them in `archives`, or let that be None to do without those events"
            )
        if opened:
            log = ArchivedLog(opened)

            def rows(*wanted: Any) -> Sequence[Row] | Awaitable[Sequence[Row]]:
                found: Sequence[Row] | Awaitable[Sequence[Row]] = self._call(partial(log.rows, *wanted))
                return found

            self._follower.archived = rows

    def _step(self) -> Operation[bool]:
        """One batch; with little left, all of it and the swap. Whether that was done."""
        safe = yield from self._follower.safe_position(self._position)
        seconds_left = self._tell(safe).seconds_left
        near = safe - self._position <= self._follower.batch_size or (seconds_left or FINISH_SECONDS) < FINISH_SECONDS
        # What came before an event that fails is committed first: not in the transaction that does all the rest.
        finishing = near and not self._troubled
        before = self._position, self._events
        try:
            return (yield from ask(InTransaction(self._finish() if finishing else self._next(safe))))
        except BaseException:
            self._position, self._events = before  # It was rolled back.
            raise

    def _tell(self, target: int) -> RebuildProgress:
        seconds = time.monotonic() - self._started
        progress = RebuildProgress(self._first, self._position, target, self._events, seconds)
        if self._progress:
            self._progress(progress)
        return progress

    def abandon(self) -> Operation[None]:
        """Delete what it left."""
        if self._tables:
            yield from ask(AbandonRebuild(self._follower.name))

    def _next(self, safe: int) -> Operation[bool]:
        if not (yield from self._handle_next(safe)):
            self._troubled = False
        return False

    def _handle_next(self, safe: int) -> Operation[bool]:
        """In a transaction: a batch, in the copies. False if there is nothing left up to ``safe``."""
        yield from ask(EnterRebuild(self._follower.name))
        before = yield from ask(WrittenElsewhere(self._follower.name))
        batch = yield from self._follower.batch(safe, REBUILD, self._dropped)
        if batch is not None:
            self._events += batch.handled
            self._position = batch.end
        written = {
            entry.rpartition(" ")[0]
            for entry in (yield from ask(WrittenElsewhere(self._follower.name)))
            if entry not in before
        }
        if written:
            raise InvalidOperation(
                f"the handler of {self._follower.name!r} writes to {', '.join(sorted(written))} in a rebuild, which "
                "would change what is in use: let tables name every table that the handler writes to, and let the "
                "handler name them without their schema"
            )
        return batch is not None

    def _finish(self) -> Operation[bool]:
        """Everything that is left, and the swap, while the workers of the one in use wait."""
        yield from ask(LockSubscription(self._follower.name))
        safe = yield from self._follower.safe_position(self._position)
        while (yield from self._handle_next(safe)):
            pass
        emptied = yield from ask(EmptiedByRebuild(self._follower.name, self._tables))
        if emptied:
            _log.warning(
                "the rebuild of %s leaves %s empty, which had rows: does its handler change rows that somebody else "
                "has put there? Let it insert what it needs",
                cleaned(self._follower.name),
                cleaned(", ".join(emptied)),
                extra={"subscription": self._follower.name},
            )
        yield from ask(FinishRebuild(self._follower.name, self._tables, safe))
        return True
