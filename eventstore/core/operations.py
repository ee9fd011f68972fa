"""What a store decides, without doing any I/O.

An operation is a generator: it yields requests and is sent what a store replies, or thrown the error that it met. A
driver of a few lines runs it, blocking or in async; so each decision stands once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from eventstore.codec.record import Record
from eventstore.core.checkpoints import CheckpointRequest, RebuildRequest
from eventstore.core.records import NewRecords, decode_each, encode_events
from eventstore.errors import (
    AppendOutcomeUnknown,
    ConcurrencyError,
    InvalidArgument,
    InvalidOperation,
    StoreUnavailable,
)
from eventstore.event import Event
from eventstore.names import check_category, check_name, check_names
from eventstore.store import ExpectedVersion, Snapshot

T = TypeVar("T")

MAX_VERSION = 2**63 - 1
RETRY_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds to wait before each attempt: the first, and those after a connection was lost."""


class ConnectionLost(StoreUnavailable):
    """The connection broke under a request that may or may not have been carried out. Operations resolve it."""


@dataclass(frozen=True, slots=True)
class Append:
    """Reply: the version of the last of the records; at a conflict -1 minus the stream's version, None if unknown."""

    stream_id: str
    expected_version: int
    records: NewRecords


@dataclass(frozen=True, slots=True)
class ReadStream:
    """Reply: the records."""

    stream_id: str
    from_version: int
    to_version: int
    backwards: bool
    limit: int | None


@dataclass(frozen=True, slots=True)
class SafePosition:
    """Reply: the position up to which may be read after this one; None if the transaction can't tell."""

    after: int


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Reply: the records above one position, up to and with another, in their order."""

    after: int
    upto: int
    limit: int
    event_types: Sequence[str] | None
    categories: Sequence[str] | None
    partition: tuple[int, int] | None = None
    """Only the streams of this partition, of so many."""


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """Reply: the snapshot, or None."""

    aggregate_type: str
    aggregate_id: str
    class_schema: str


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Reply: None."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    """Reply: None."""

    aggregate_type: str
    aggregate_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """No reply, but some seconds later."""

    seconds: float


Request: TypeAlias = Append | ReadStream | SafePosition | ReadLog | CheckpointRequest | RebuildRequest
SnapshotRequest: TypeAlias = LoadSnapshot | SaveSnapshot | DeleteSnapshot
Operation: TypeAlias = Generator[Any, Any, T]
"""Yields requests and pauses, returns a T."""


def append(stream_id: str, events: Sequence[Event], expected_version: int) -> Operation[int]:
    """EventStore.append."""
    check_name("stream_id", stream_id)
    _check_expected_version(expected_version)
    request = Append(stream_id, int(expected_version), encode_events(events))
    reply: int | None = yield from _resolved(request)
    if reply is None:
        raise ConcurrencyError(stream_id, expected_version, None)
    if reply < 0:
        raise ConcurrencyError(stream_id, expected_version, -1 - reply)
    return reply


def _resolved(request: Append) -> Operation[int | None]:
    """Send an append until it is answered: the same event ids, under the stream's lock, are stored once."""
    unknown = False
    for delay in RETRY_DELAYS:
        if delay:
            yield Pause(delay)
        try:
            reply: int | None = yield request
        except ConnectionLost:
            unknown = True
        except StoreUnavailable:
            if not unknown:
                raise
        else:
            return reply
    raise AppendOutcomeUnknown(request.stream_id, [UUID(bytes=event_id) for event_id in request.records.event_ids])


def repeated(request: object) -> Operation[Any]:
    """Send a request again when its connection was lost: one that may well be carried out twice."""
    for delay in RETRY_DELAYS[:-1]:
        if delay:
            yield Pause(delay)
        try:
            reply = yield request
        except ConnectionLost:
            continue
        return reply
    yield Pause(RETRY_DELAYS[-1])
    return (yield request)


def read(
    stream_id: str, from_version: int, to_version: int | None, limit: int | None, *, backwards: bool
) -> Operation[Sequence[Record]]:
    """EventStore.read, without decoding."""
    check_name("stream_id", stream_id)
    check_number("from_version", from_version)
    to_version = MAX_VERSION if to_version is None else check_number("to_version", to_version)
    if limit is not None:
        check_number("limit", limit)
    records: Sequence[Record] = yield from repeated(ReadStream(stream_id, from_version, to_version, backwards, limit))
    return records


def snapshot(request: SnapshotRequest) -> Operation[Any]:
    """The methods of SnapshotStore."""
    named = request.snapshot if isinstance(request, SaveSnapshot) else request
    check_name("aggregate_type", named.aggregate_type)
    check_name("aggregate_id", named.aggregate_id)
    return (yield from repeated(request))


class LogReader:
    """EventStore.read_all, page by page. Its arguments are checked at once."""

    def __init__(
        self,
        from_position: int,
        batch_size: int,
        to_position: int | None,
        event_types: Sequence[str] | None,
        category: str | None,
        *,
        strict: bool,
    ) -> None:
        self._after = check_number("from_position", from_position)
        self._batch_size = check_number("batch_size", batch_size, least=1)
        self._to_position = MAX_VERSION if to_position is None else check_number("to_position", to_position)
        self._event_types = None if event_types is None else check_names("event_types", event_types)
        self._categories = None if category is None else [check_category(category)]
        self._strict = strict
        self._upto: int | None = None

    def next_page(self) -> Operation[Sequence[Record]]:
        """The next records; none at the end."""
        if self._upto is None:
            safe: int | None = yield from repeated(SafePosition(self._after))
            if safe is None:
                raise InvalidOperation(
                    "read_all needs a READ COMMITTED transaction: with an old snapshot it would skip events"
                )
            self._upto = min(safe, self._to_position)
        if self._after >= self._upto:
            return []
        request = ReadLog(self._after, self._upto, self._batch_size, self._event_types, self._categories)
        records: Sequence[Record] = yield from repeated(request)
        full = len(records) == self._batch_size
        self._after = records[-1][2] if full else self._upto
        return records

    def events(self, page: Sequence[Record]) -> Iterator[Event]:
        """The events of a page, each decoded when it is its turn: one that is let go at once costs no collection."""
        return decode_each(page, strict=self._strict)


def _check_expected_version(expected_version: object) -> None:
    if not isinstance(expected_version, ExpectedVersion):
        check_number("expected_version", expected_version, hint=", or one of ExpectedVersion")


def check_number(what: str, number: object, *, least: int = 0, hint: str = "") -> int:
    """Return ``number`` if it is an int that can be a version, a position or a count; else raise InvalidArgument."""
    if type(number) is not int:
        raise InvalidArgument(f"{what} must be an int{hint}, not {type(number).__name__}")
    if not least <= number <= MAX_VERSION:
        raise InvalidArgument(f"{what} must be from {least} to 2**63 - 1{hint}, not {number}")
    return number
