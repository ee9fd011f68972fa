"""What a subscription decides: which events it takes next, what a failure leads to, when it rests. No I/O.

Each round looks how far the log may be read, and has one batch handled in a transaction that holds the partition's
checkpoint locked and moves it on. So there is one worker on a partition at a time; a dead one's lock goes with its
connection; and what a projection writes in that transaction is stored together with the checkpoint, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from eventstore.codec.record import POSITION, STREAM_ID, Row
from eventstore.codec.sealing import Keys
from eventstore.codec.showing import cleaned
from eventstore.core.checkpoints import FAR_BEHIND, PRESENCE, REBUILD, Claimed, SubscriptionState, above_the_log
from eventstore.core.forgetting import keys_of
from eventstore.core.logs import subscription_log as _log
from eventstore.core.operations import check_number
from eventstore.core.records import decode_events
from eventstore.core.refusals import needs_read_committed
from eventstore.core.requests import Operation, ReadLog, Request, SafePosition, ask
from eventstore.core.subject_keys import AnySubjectKeys
from eventstore.core.subscription_requests import (
    Claim,
    DropParked,
    Heartbeat,
    ListParked,
    ListParkedStreams,
    NoteError,
    Park,
    PollSubscription,
    Probe,
    Register,
    SaveCheckpoint,
    TakeParked,
)
from eventstore.errors import (
    AppendOutcomeUnknown,
    DeserializationError,
    EventStoreError,
    InvalidOperation,
    StoreUnavailable,
    SubscriptionFailed,
)
from eventstore.event import Event
from eventstore.event_types import stored_types
from eventstore.names import check_name
from eventstore.subscriptions.options import Settings
from eventstore.subscriptions.outages import (
    FIRST_DELAY,
    LAST_DELAY,
    OLD_SECONDS,
    Patience,
    Rest,
    Slowest,
    error_text,
    lasts,
    passes,
    sqlstate_of,
    took_too_long,
)
from eventstore.subscriptions.pages import Page, Pages
from eventstore.subscriptions.unknown import UnknownTypes, is_of_a_newer_release
from eventstore.subscriptions.watching import Waiter, WaitForNews

BEHIND_ANOTHER = "not tried: an earlier event of its stream is parked"
"""What stands as the error of an event that is parked for the sake of the order."""
BATCH_SECONDS = 1.0
"""After so long a batch ends with the event at work: locks are held, and effects held back, no longer than that."""
WINDOW = 100_000
"""At most so many positions in one batch, so that the checkpoint also moves where the filter leaves everything out."""
BUSY_SECONDS = 0.05
"""Until the next look, where other workers are on all that there is to do."""
SIGN_OFF_SECONDS = 3.0
"""How long a worker that ends tries to say so: whoever stops it may have lost patience with the server, too."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InTransaction(Request[T]):
    """Carry out an operation in one transaction of the store's, and reply with its result once it is committed."""

    operation: Operation[T]


@dataclass(frozen=True, slots=True)
class Handle(Request[object]):
    """Give an event to the handler, with the transaction. Raises what the handler does."""

    event: Event


@dataclass(frozen=True, slots=True)
class HandleBatch(Request[object]):
    """Give events to a handler of many, with the transaction. Raises what the handler does."""

    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Elsewhere(Request[T]):
    """Have the store that the log is read from, which may be on a standby, answer a request."""

    request: Request[T]


@dataclass(frozen=True, slots=True)
class Wait(Request[None]):
    """Continue when something was committed, the subscription is stopped, or so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one."""

    end: int
    """The checkpoint."""
    handled: int
    """How many events."""
    failure: HandlingFailed | StoreUnavailable | None = None
    """Why it ended."""


@dataclass(slots=True)
class _Trouble:
    """An event that has failed, and is tried alone."""

    position: int
    tries: int = 0


class HandlingFailed(Exception):
    """An event that could not be handled; rolls back the transaction that it is raised in."""

    def __init__(self, claimed: Claimed, position: int, cause: Exception, *, alone: bool) -> None:
        super().__init__(str(cause))
        self.claimed = claimed
        """What the checkpoint is after this."""
        self.position = position
        self.cause = cause
        self.alone = alone
        """Whether nothing that was handled before it has to be handled again."""


class Follower:
    """One worker of a subscription. ``exactly_once``: the handler's effects are in the transaction that it is given."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        exactly_once: bool,
        strict: bool,
        tables: tuple[str, ...] = (),
        subject_keys: AnySubjectKeys | None = None,
        reads_elsewhere: bool = False,
        batched: bool = False,
    ) -> None:
        self.name = check_name("name", name)
        self.tables = tables
        """The tables of its read model, as the handler names them."""
        self.batch_size = settings.batch_size
        self.state = SubscriptionState.STOPPED
        self.error: Exception | None = None
        self.stopping = False
        self._settings = settings
        self._exactly_once = exactly_once
        self._subject_keys = subject_keys
        self._reads_elsewhere = reads_elsewhere
        self._batched = batched
        self._strict = strict or settings.has_classes
        self._unknown = UnknownTypes(name)
        self._troubles: dict[int, _Trouble] = {}
        self._pages = Pages()
        self._news: tuple[int, int, int] | None = None
        """What a poll would find, where that is known."""
        self._beat = self._polled = float("-inf")

    def wants(self, event: Event) -> bool:
        """Whether the filter lets an event through."""
        category, dash, _ = event.stream_id.partition("-")
        event_types, categories = self._stored_types(), self._settings.categories
        return (event_types is None or event.event_type in event_types) and (
            categories is None or (bool(dash) and category in categories)
        )

    def _stored_types(self) -> list[str] | None:
        """The types that the filter lets through, under every name; classes may be defined at any time."""
        event_types = self._settings.event_types
        return None if event_types is None else stored_types(event_types)

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

    def safe_position(self, after: int) -> Operation[int]:
        """The position up to which the log may be read, where it is read from."""
        safe = yield from self._reading(SafePosition(after))
        if safe is None:
            raise needs_read_committed("a subscription")
        return safe

    def _reading(self, request: Request[T]) -> Operation[T]:
        """Ask where the log is read from."""
        return (yield from ask(Elsewhere(request) if self._reads_elsewhere else request))

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

    def batch(
        self, below: int, partition: int | None = None, leaving_out: Container[int] = ()
    ) -> Operation[Batch | None]:
        """In a transaction: handle what is next in a free partition. None if none is free.

        Events at the positions ``leaving_out`` are passed over. Raises HandlingFailed.
        """
        claimed = yield from ask(Claim(self.name, below, partition))
        if claimed is None:
            return None
        records, end = yield from self._next_records(claimed, below)
        records = [record for record in records if record[POSITION] not in leaving_out] if leaving_out else records
        held = yield from self._held_streams(claimed)
        if self._batched:
            return (yield from self._handle_at_once(claimed, records, held, end))
        streams = {record[POSITION]: record[STREAM_ID] for record in records} if held else {}
        done, handled = claimed.position, 0
        deadline = time.monotonic() + BATCH_SECONDS
        trouble = self._troubles.get(claimed.partition)
        suspect = trouble.position if trouble else None
        slowest = Slowest()
        for position, event in self._decoded(records, (yield from self._keys_of(records))):
            if streams.get(position) in held:
                yield from ask(Park(self.name, position, 0, BEHIND_ANOTHER, rebuild=claimed.partition == REBUILD))
                done = position
                continue
            if handled and position == suspect:
                end = done  # What fails is tried alone.
                break
            try:
                readable = self._readable(event)
                with slowest.timed(position):
                    yield from ask(Handle(readable))
            except Exception as error:  # noqa: BLE001 raised again, or a part of the batch
                slow = slowest.position
                return (yield from self._failed(claimed, position, error, slowest=slow, done=done, handled=handled))
            done, handled = position, handled + 1
            if position == suspect or self.stopping or time.monotonic() > deadline:
                end = done
                break
        first = records[0][POSITION] if records else end
        yield from self._save(claimed, end, first, slowest.position, handled)
        if suspect is not None and end >= suspect:
            del self._troubles[claimed.partition]
        return Batch(end, handled)

    def _next_records(self, claimed: Claimed, below: int) -> Operation[tuple[Sequence[Row], int]]:
        """At most a batch of what a partition has next, and the position up to which that is all."""
        number, of, after = claimed
        if time.monotonic() > self._polled + OLD_SECONDS:
            # The transaction may have waited for a failover that lost events: others get the positions that were safe.
            below = min(below, (yield from self.safe_position(after)))
        if of == 1:
            return (yield from self._read(after, below, self.batch_size, None))
        size = self._pages.rows_to_read(number, of, self.batch_size)
        wanted, page = self._stored_types(), self._pages.last
        if page is None or not page.holds(after, wanted, of):
            if not size:
                return (yield from self._read(after, below, self.batch_size, (number, of)))
            rows, end = yield from self._read(after, below, size, None)
            page = self._pages.last = Page(after, end, wanted, rows, of)
        return page.part(number, after, self.batch_size)

    def _read(
        self, after: int, below: int, limit: int, split: tuple[int, int] | None
    ) -> Operation[tuple[Sequence[Row], int]]:
        upto = min(below, after + WINDOW)
        rows = yield from self._reading(
            ReadLog(after, upto, limit, self._stored_types(), self._settings.categories, split)
        )
        end = rows[-1][POSITION] if len(rows) == limit else upto
        if not rows and upto < below:  # Positions may begin far above, as on a worker of Citus.
            found = yield from self._reading(ReadLog(upto, below, 1, None, None))
            end = found[0][POSITION] - 1 if found else below
        return rows, end

    def _handle_at_once(
        self, claimed: Claimed, records: Sequence[Row], held: Container[str | None], end: int
    ) -> Operation[Batch]:
        """In a transaction: give the events to the handler at once, up to one that is suspected to fail.

        Nobody knows at which event a batch has failed. The one in its middle is suspected first, so that what stands
        before it comes next, and what fails there is halved in turn.
        """
        trouble = self._troubles.get(claimed.partition)
        suspect = trouble.position if trouble else None
        streams = {record[POSITION]: record[STREAM_ID] for record in records} if held else {}
        chosen: list[tuple[int, Event | DeserializationError]] = []
        done = claimed.position
        for position, event in self._decoded(records, (yield from self._keys_of(records))):
            if streams.get(position) in held:
                yield from ask(Park(self.name, position, 0, BEHIND_ANOTHER, rebuild=claimed.partition == REBUILD))
                done = position
                continue
            alone = position == suspect or isinstance(event, DeserializationError)
            if chosen and alone:
                end = done
                break
            chosen.append((position, event))
            done = position
            if alone:
                end = done
                break
        middle, count = chosen[len(chosen) // 2][0] if chosen else end, len(chosen)
        if chosen:
            try:
                yield from ask(HandleBatch([self._readable(event) for _, event in chosen]))
            except Exception as error:  # noqa: BLE001 raised again, or a part of the batch
                failed = self._failed(claimed, middle, error, slowest=middle, done=claimed.position, handled=count - 1)
                return (yield from failed)
        yield from self._save(claimed, end, middle, middle, count)
        if suspect is not None and end >= suspect:
            del self._troubles[claimed.partition]
        return Batch(end, count)

    def _readable(self, event: Event | DeserializationError) -> Event:
        if isinstance(event, DeserializationError):
            raise event
        self._unknown.warn_of(event)
        return event

    def _held_streams(self, claimed: Claimed) -> Operation[frozenset[str | None]]:
        """The streams whose events are parked without being tried, as an earlier one is parked."""
        if not self._settings.parks_streams:
            return frozenset()
        return (yield from ask(ListParkedStreams(self.name, rebuild=claimed.partition == REBUILD)))

    def _save(self, claimed: Claimed, end: int, first: int, slowest: int, handled: int) -> Operation[None]:
        """In a transaction: move the checkpoint, past handled events the first and slowest of which are known."""
        try:
            yield from ask(SaveCheckpoint(self.name, claimed.partition, end))
        except InvalidOperation as error:
            # A handler has caught the error of a statement that has failed the transaction. Which one: try them singly.
            raise HandlingFailed(claimed, first, error, alone=handled == 1) from error
        except StoreUnavailable as error:
            if handled and took_too_long(error):
                raise HandlingFailed(claimed, slowest, error, alone=handled == 1) from error
            raise

    def _failed(
        self, claimed: Claimed, position: int, error: Exception, *, slowest: int, done: int, handled: int
    ) -> Operation[Batch]:
        """In a transaction: end a batch whose handler has raised at a position, after what was done before it."""
        lost = yield from self._lost()
        if lost is not None and (took_too_long(lost) or took_too_long(error)):
            raise HandlingFailed(claimed, slowest, error, alone=not handled) from error
        if lost is not None:
            raise lost from error
        refused = None
        if passes(error) and not (self._exactly_once and handled):  # What came before it is committed first.
            refused = StoreUnavailable(error_text(error), sqlstate=sqlstate_of(error))
        if self._exactly_once:
            raise refused or HandlingFailed(claimed, position, error, alone=not handled) from error
        if done > claimed.position:  # Else the error of the last attempt would vanish from the status for a moment.
            yield from ask(SaveCheckpoint(self.name, claimed.partition, done))
        failure = HandlingFailed(claimed._replace(position=done), position, error, alone=True)
        return Batch(done, handled, refused or failure)

    def _keys_of(self, records: Sequence[Row]) -> Operation[Keys | None]:
        """The keys of personal data that some records need to be decoded."""
        if self._subject_keys is None:
            return None
        return (yield from keys_of(records, self._subject_keys, committed=True))

    def _decoded(self, records: Sequence[Row], keys: Keys | None) -> Iterator[tuple[int, Event | DeserializationError]]:
        """The events with their positions; for one that can't be read the error, where those before it are handled."""
        try:
            events = decode_events(records, strict=self._strict, keys=keys)
        except DeserializationError:
            for record in records:
                try:
                    yield record[POSITION], decode_events([record], strict=self._strict, keys=keys)[0]
                except DeserializationError as error:
                    yield record[POSITION], error
        else:
            yield from zip((record[POSITION] for record in records), events, strict=True)

    def _lost(self) -> Operation[StoreUnavailable | None]:
        """What it was, if it was the connection that failed, and not the handler."""
        try:
            yield from ask(Probe())
        except StoreUnavailable as lost:
            return lost
        except EventStoreError:
            pass  # A statement of the handler's own has failed the transaction.
        return None

    @property
    def parks(self) -> bool:
        """Whether an event that can't be handled is parked."""
        return self._settings.parks

    def retry(self, failure: HandlingFailed) -> Operation[None]:
        """Wait before an event is retried, or give up."""
        partition, position = failure.claimed.partition, failure.position
        trouble = self._troubles.get(partition)
        if trouble is None or trouble.position != position:
            trouble = self._troubles[partition] = _Trouble(position)
        if not failure.alone:
            return  # What came before it is committed first.
        trouble.tries = tries = trouble.tries + 1
        parks = self._settings.parks and not lasts(failure.cause)
        text = error_text(failure.cause)
        if is_of_a_newer_release(failure.cause):
            yield from self._wait_for_a_deployment(failure, text, tries)
            return
        _log.warning(
            "subscription %s: attempt %d of %d at position %d failed: %s",
            cleaned(self.name),
            tries,
            self._settings.attempts,
            position,
            cleaned(text),
            exc_info=failure.cause,
            extra={
                "subscription": self.name,
                "position": position,
                "attempt": tries,
                "error_type": type(failure.cause).__name__,
            },
        )
        try:
            if tries >= self._settings.attempts:
                yield from self._give_up(failure, text, tries, parks=parks)
            else:
                yield from ask(NoteError(self.name, partition, position, text, failed=False))
        except (StoreUnavailable, AppendOutcomeUnknown):
            return  # It will come back to the same event.
        if tries >= self._settings.attempts:
            del self._troubles[partition]
        else:
            yield from ask(Rest(min(FIRST_DELAY * 2 ** (tries - 1), LAST_DELAY)))

    def _wait_for_a_deployment(self, failure: HandlingFailed, text: str, tries: int) -> Operation[None]:
        """Rest at an event that a newer release can read, and hold nothing, so that its workers can take over."""
        if tries == 1:
            _log.warning(
                "subscription %s waits at position %d: %s",
                cleaned(self.name),
                failure.position,
                cleaned(text),
                extra={"subscription": self.name, "position": failure.position},
            )
        with suppress(StoreUnavailable, AppendOutcomeUnknown):
            yield from ask(NoteError(self.name, failure.claimed.partition, failure.position, text, failed=False))
        yield from ask(Rest(min(FIRST_DELAY * 2 ** min(tries - 1, 10), LAST_DELAY)))

    def _give_up(self, failure: HandlingFailed, text: str, tries: int, *, parks: bool) -> Operation[None]:
        if (yield from ask(InTransaction(self._given_up(failure, text, tries, parks=parks)))) and not parks:
            raise SubscriptionFailed(self.name, failure.position, text) from failure.cause

    def _given_up(self, failure: HandlingFailed, text: str, tries: int, *, parks: bool) -> Operation[bool]:
        """In a transaction: park the event, or record that the subscription has failed."""
        partition = failure.claimed.partition
        claimed = yield from ask(Claim(self.name, failure.position, partition))
        if claimed != failure.claimed:
            return False  # Another worker has it, or has handled it.
        if parks:
            yield from ask(Park(self.name, failure.position, tries, text, rebuild=partition == REBUILD))
            yield from ask(SaveCheckpoint(self.name, partition, failure.position))
        else:
            yield from ask(NoteError(self.name, partition, failure.position, text, failed=True))
        return True

    def retry_parked(self, position: int) -> Operation[None]:
        """In a transaction: handle a parked event, which is parked no longer then."""
        check_number("position", position)
        if not (yield from ask(TakeParked(self.name, position))):
            raise _not_parked(self.name, position)
        records = yield from ask(ReadLog(position - 1, position, 1, None, None))
        if self._settings.parks_streams:
            for earlier in (yield from ask(ListParked(self.name))):
                if earlier.position < position and earlier.stream_id == records[0][STREAM_ID]:
                    raise InvalidOperation(
                        f"subscription {self.name!r} parks the events of a stream in their order: retry the event at "
                        f"position {earlier.position} first, or drop it"
                    )
        keys = yield from self._keys_of(records)
        event = decode_events(records, strict=self._strict, keys=keys)[0]
        yield from ask(HandleBatch([event]) if self._batched else Handle(event))


def drop_parked(name: str, position: int) -> Operation[None]:
    """Decide that a parked event is not to be handled."""
    check_number("position", position)
    if not (yield from ask(DropParked(name, position))):
        raise _not_parked(name, position)


def _not_parked(name: str, position: int) -> InvalidOperation:
    """The error for an event that is not parked, or no longer."""
    return InvalidOperation(
        f"subscription {name!r} has no event parked at position {position}, or somebody is just retrying it"
    )
