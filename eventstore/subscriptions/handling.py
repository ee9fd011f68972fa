"""How a batch of events is read, given to the handler, and its checkpoint stored: in one transaction. No I/O.

The transaction holds the partition's checkpoint locked and moves it on. So there is one worker on a partition at a
time; a dead one's lock goes with its connection; and what a projection writes in that transaction is stored together
with the checkpoint, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from eventstore.codec.record import POSITION, STREAM_ID, Row
from eventstore.codec.sealing import Keys
from eventstore.core.checkpoints import REBUILD, Claimed
from eventstore.core.forgetting import keys_of
from eventstore.core.records import decode_events
from eventstore.core.refusals import needs_read_committed
from eventstore.core.requests import Call, Operation, ReadLog, Request, SafePosition, ask
from eventstore.core.subject_keys import AnySubjectKeys
from eventstore.core.subscription_requests import (
    Claim,
    ListParkedStreams,
    Park,
    Probe,
    SaveCheckpoint,
)
from eventstore.errors import (
    DeserializationError,
    EventStoreError,
    InvalidOperation,
    StoreUnavailable,
)
from eventstore.event import Event
from eventstore.event_types import stored_types
from eventstore.names import check_name
from eventstore.signals import raised_by_a_signal
from eventstore.subscriptions.options import Settings
from eventstore.subscriptions.outages import (
    OLD_SECONDS,
    Slowest,
    error_text,
    passes,
    sqlstate_of,
    took_too_long,
)
from eventstore.subscriptions.pages import Page, Pages
from eventstore.subscriptions.unknown import UnknownTypes

BEHIND_ANOTHER = "not tried: an earlier event of its stream is parked"
"""What stands as the error of an event that is parked for the sake of the order."""
BATCH_SECONDS = 1.0
"""After so long a batch ends with the event at work: locks are held, and effects held back, no longer than that."""
WINDOW = 100_000
"""At most so many positions in one batch, so that the checkpoint also moves where the filter leaves everything out."""

T = TypeVar("T")

ArchivedRows: TypeAlias = Callable[
    [int, int, int, Sequence[str] | None, Sequence[str] | None], Sequence[Row] | Awaitable[Sequence[Row]]
]
"""At most so many rows out of archives: above a position, up to another, of these types, of these categories."""


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
class Batch:
    """What became of one."""

    end: int
    """The checkpoint."""
    handled: int
    """How many events."""
    failure: HandlingFailed | StoreUnavailable | None = None
    """Why it ended."""


@dataclass(slots=True)
class Trouble:
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


class Batches:
    """The batches of one worker. ``exactly_once``: the handler's effects are in the transaction that it is given."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        exactly_once: bool,
        strict: bool,
        tables: tuple[str, ...] = (),
        subject_keys: Callable[[], AnySubjectKeys | None],
        reads_elsewhere: bool = False,
        batched: bool = False,
    ) -> None:
        self.name = check_name("name", name)
        self.tables = tables
        """The tables of its read model, as the handler names them."""
        self.batch_size = settings.batch_size
        self.stopping = False
        self._settings = settings
        self._exactly_once = exactly_once
        self._subject_keys = subject_keys
        self._reads_elsewhere = reads_elsewhere
        self._batched = batched
        self._strict = strict or settings.has_classes
        self._unknown = UnknownTypes(name)
        self._troubles: dict[int, Trouble] = {}
        self._pages = Pages()
        self.archived: ArchivedRows | None = None
        """What is read beside the log."""
        self._polled = float("-inf")
        """When it was last asked how far the log may be read."""

    @property
    def categories(self) -> Sequence[str] | None:
        """The categories that the filter lets through; None: all."""
        return self._settings.categories

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
            except Exception as error:  # raised again, or a part of the batch
                if raised_by_a_signal(error):
                    raise
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
        event_types, categories = self._stored_types(), self._settings.categories
        rows = yield from self._reading(ReadLog(after, upto, limit, event_types, categories, split))
        end = rows[-1][POSITION] if len(rows) == limit else upto
        if self.archived is not None:
            call = partial(self.archived, after, end, limit, event_types, categories)
            return _merged(rows, (yield from ask(Call(call))), limit, end)
        if not rows and upto < below:  # Positions may begin far above, as on a worker of Citus.
            found = yield from self._reading(ReadLog(upto, below, 1, None, None))
            end = found[0][POSITION] - 1 if found else below
        return rows, end

    def safe_position(self, after: int) -> Operation[int]:
        """The position up to which the log may be read, where it is read from."""
        safe = yield from self._reading(SafePosition(after))
        if safe is None:
            raise needs_read_committed("a subscription")
        return safe

    def _reading(self, request: Request[T]) -> Operation[T]:
        """Ask where the log is read from."""
        return (yield from ask(Elsewhere(request) if self._reads_elsewhere else request))

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
            except Exception as error:  # raised again, or a part of the batch
                if raised_by_a_signal(error):
                    raise
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
        subject_keys = self._subject_keys()
        if subject_keys is None:
            return None
        return (yield from keys_of(records, subject_keys, committed=True))

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


def _merged(rows: Sequence[Row], archived: Sequence[Row], limit: int, end: int) -> tuple[Sequence[Row], int]:
    """Rows of the log and of archives in the order of their positions, and the position up to which these are all.

    The last event of an archived stream is in both, and so is what was restored.
    """
    found = {row[POSITION]: row for row in (*archived, *rows)}
    merged = [found[position] for position in sorted(found)][:limit]
    return merged, merged[-1][POSITION] if len(merged) == limit else end
