"""What a store decides, without doing any I/O.

An operation is a generator, as requests.py says. A driver of a few lines runs it, blocking or in async, so each
decision stands once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from eventstore import codec
from eventstore.codec.record import DATA, EVENT_ID, EVENT_TYPE, METADATA, POSITION, STREAM_ID, VERSION, Row
from eventstore.core import deadlines
from eventstore.core.deadlines import DEFAULT_TIMEOUT, Deadline
from eventstore.core.logs import log as _log
from eventstore.core.records import decode_each, encode_events, given_ids
from eventstore.core.refusals import WaitedInVain, needs_read_committed, waited_for
from eventstore.core.requests import (
    AlreadyStored,
    Append,
    AppendMark,
    AppendReply,
    ConfirmCommits,
    Conflict,
    DeleteSnapshot,
    ListBlockingSessions,
    LoadSnapshot,
    MarkLog,
    Operation,
    Pause,
    ReadFromSnapshot,
    ReadLog,
    ReadPageAndFind,
    ReadStream,
    Request,
    Retired,
    SafePosition,
    SaveSnapshot,
    SessionsGone,
    Stored,
    ask,
)
from eventstore.core.sessions import BlockingSession
from eventstore.errors import (
    AppendOutcomeUnknown,
    ConcurrencyError,
    EventAlreadyStored,
    EventStoreError,
    InvalidArgument,
    StoreUnavailable,
    StreamRetired,
)
from eventstore.event import Event
from eventstore.event_types import stored_types
from eventstore.names import check_category, check_name, check_names
from eventstore.store import Categories, EventTypes, Snapshot, SnapshotKey
from eventstore.tombstone import TOMBSTONE
from eventstore.versions import ExpectedVersion, StreamVersion

R = TypeVar("R")

MAX_VERSION = 2**63 - 1
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.6
"""Seconds between attempts after a connection was lost, twice as many each time, up to the last."""


LOOK_SECONDS = 2.0
"""How long it may take to find out whom an append has waited for in vain."""

MOST_OLD_SNAPSHOTS = 100
"""Times that an append is sent again whose statement saw the stream as it was before it waited for others."""


class ConnectionLost(StoreUnavailable):
    """A request whose answer was lost, and that may or may not have been carried out. Operations resolve it.

    ``sessions`` are those of the server that may still carry it out, 0 for one that is not known.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, sessions: Sequence[int] = ()) -> None:
        self.sessions = tuple(sessions)
        super().__init__(message, sqlstate=sqlstate)


def append(
    stream_id: str, events: Sequence[Event], expected_version: int, *, in_transaction: bool = False
) -> Operation[StreamVersion]:
    """EventStore.append.

    A conflict without a version is asked about again, unless all attempts see the same, as those of
    a transaction do: where the default isolation is higher than READ COMMITTED, an attempt may see what was there
    before it waited for the stream's lock.
    """
    check_name("stream_id", stream_id)
    _check_expected_version(expected_version)
    if isinstance(events, Event) or not isinstance(events, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"events must be a list of events, not {type(events).__name__}: put it in a list")
    events = tuple(events)
    request = Append(stream_id, int(expected_version), encode_events(events), given_ids(events))
    try:
        reply = yield from _resolved(request, _marked(request, events), in_transaction=in_transaction)
    except WaitedInVain as error:
        if in_transaction:
            raise  # It can only be rolled back: nothing can be asked there.
        raise waited_for(error, (yield from _sessions_in_the_way(stream_id))) from error.__cause__
    if isinstance(reply, Conflict):
        raise ConcurrencyError(stream_id, expected_version, reply.version)
    if isinstance(reply, AlreadyStored):
        raise EventAlreadyStored(stream_id, reply.version, reply.position)
    if isinstance(reply, Retired):
        raise StreamRetired(stream_id, reply.version, reply.position)
    return StreamVersion(reply.version, reply.position, repeated=reply.repeated)


def _marked(request: Append, events: Sequence[Event]) -> Request[AppendReply]:
    """The request for an append: another one for an event that closes or retires its stream."""
    tombstone = TOMBSTONE in request.records.event_types
    closing = len(events) == 1 and "_closing" in events[0].__dict__
    if tombstone and len(events) > 1:
        raise InvalidArgument("a tombstone is the last event of its stream: retire the stream after this append")
    if closing and request.expected_version < 1:
        raise InvalidArgument(
            "expected_version must be the version that the closing event was made from, at least 1, not "
            f"{request.expected_version}: events that it does not carry would be missing from loads"
        )
    return AppendMark(request, tombstone) if tombstone or closing else request


def _sessions_in_the_way(stream_id: str) -> Operation[list[BlockingSession]]:
    """Those that hold back appends to a stream; none where that can't be found out now."""
    with deadlines.afterwards(LOOK_SECONDS):
        try:
            return (yield from ask(ListBlockingSessions(stream_id)))
        except EventStoreError:
            return []


def attempts() -> Iterator[Operation[None]]:
    """The attempts at something that a lost connection may interrupt, each as the wait before it.

    They end with the call's deadline; there is at least one.
    """
    deadline = deadlines.current() or Deadline(DEFAULT_TIMEOUT)
    pause = 0.0
    while True:
        yield _waited(pause)
        pause = min(2 * pause, LAST_PAUSE) or FIRST_PAUSE
        if deadline.left() <= pause:
            return


def _waited(seconds: float) -> Operation[None]:
    if seconds > FIRST_PAUSE:
        _log.info("the connection was lost: the next attempt is in %.1f s", seconds)
    if seconds:
        yield from ask(Pause(seconds))


def _resolved(request: Append, sent: Request[AppendReply], *, in_transaction: bool) -> Operation[AppendReply]:
    """Send an append until it is answered: the same event ids, under the stream's lock, are stored once."""
    cause: StoreUnavailable | None = None
    sessions: set[int] = set()
    for wait in attempts():
        yield from wait
        try:
            reply = yield from _asked(sent, in_transaction=in_transaction)
            if sessions and _may_be_stored_later(request, reply):
                gone = None if 0 in sessions else (yield from ask(SessionsGone(sorted(sessions))))
                if gone is None:
                    break
                if gone:
                    sessions.clear()  # The next refusal is the last word.
                continue
            if cause is not None and isinstance(reply, Stored):
                yield from ask(ConfirmCommits())
        except ConnectionLost as error:
            cause = error
            sessions.update(error.sessions)
        except StoreUnavailable as error:
            if cause is None:
                raise
            cause = error
        else:
            return reply
    event_ids = [UUID(bytes=event_id) for event_id in request.records.event_ids]
    raise AppendOutcomeUnknown(request.stream_id, event_ids) from cause


def _asked(request: Request[AppendReply], *, in_transaction: bool) -> Operation[AppendReply]:
    """Send an append, again while its statement saw the stream as it was before it waited for others."""
    reply = yield from ask(request)
    for _ in range(0 if in_transaction else MOST_OLD_SNAPSHOTS):
        if reply != Conflict(None):
            break
        reply = yield from ask(request)
    return reply


def _may_be_stored_later(request: Append, reply: AppendReply) -> bool:
    """Whether the stream may still grow to where a refused append expects it: an earlier message would be stored."""
    if not isinstance(reply, Conflict):
        return False
    expected = request.expected_version
    return reply.version is None or reply.version < expected or expected == ExpectedVersion.STREAM_EXISTS


def repeated(request: Request[R]) -> Operation[R]:
    """Send a request again when its connection was lost: one that may well be carried out twice."""
    lost: ConnectionLost | None = None
    for wait in attempts():
        yield from wait
        try:
            return (yield from ask(request))
        except ConnectionLost as error:
            lost = error
    raise lost or AssertionError("there is an attempt at least")


def read(
    stream_id: str, from_version: int, to_version: int | None, limit: int | None, *, backwards: bool
) -> Operation[Sequence[Row]]:
    """EventStore.read, without decoding."""
    check_name("stream_id", stream_id)
    check_number("from_version", from_version)
    to_version = MAX_VERSION if to_version is None else check_number("to_version", to_version)
    if limit is not None:
        check_number("limit", limit)
    return (yield from repeated(ReadStream(stream_id, from_version, to_version, backwards, limit)))


def read_page(stream_id: str, from_version: int, limit: int) -> Operation[Sequence[Row]]:
    """EventStore._read_page, without decoding."""
    request = ReadStream(stream_id, from_version, MAX_VERSION, backwards=False, limit=limit, from_closing=True)
    rows = yield from repeated(request)
    _check_not_retired(rows)
    return rows


def _check_not_retired(rows: Sequence[Row]) -> None:
    """Raise StreamRetired if rows of a stream end with its tombstone."""
    if rows and rows[-1][EVENT_TYPE] == TOMBSTONE:
        last = rows[-1]
        raise StreamRetired(last[STREAM_ID], last[VERSION], last[POSITION], codec.decode(last[DATA])["reason"])


def read_page_and_find(
    stream_id: str, from_version: int, limit: int, event_id: UUID
) -> Operation[tuple[bool, Sequence[Row]]]:
    """EventStore._read_page_and_find, without decoding."""
    rows = yield from repeated(ReadPageAndFind(stream_id, from_version, limit, event_id))
    _check_not_retired(rows)
    # The one that was found may stand before the page, or behind a full one.
    found = any(row[EVENT_ID] == event_id.bytes for row in rows)
    return found, [row for row in rows if row[POSITION] and row[VERSION] > from_version][:limit]


def mark_log() -> Operation[int]:
    """FollowableStore.mark_log."""
    position = yield from repeated(MarkLog())
    if position is None:
        raise needs_read_committed("mark_log")
    return position


def read_from_snapshot(
    stream_id: str, key: SnapshotKey, limit: int, event_id: UUID | None
) -> Operation[tuple[Snapshot | None, bool, Sequence[Row]]]:
    """EventStore._read_from_snapshot, without decoding."""
    rows = yield from repeated(ReadFromSnapshot(stream_id, *key, limit, event_id))
    _check_not_retired(rows)
    snapshot = None
    start = 1
    if rows and not rows[0][VERSION]:
        row, *rows = rows
        start = row[POSITION]
        snapshot = Snapshot(*key, start, UUID(bytes=row[EVENT_ID]), row[DATA], row[METADATA])
    if event_id is None:
        return snapshot, False, rows
    found = any(row[EVENT_ID] == event_id.bytes for row in rows)
    return snapshot, found, [row for row in rows if row[POSITION] and row[VERSION] >= start][:limit]


def load_snapshot(aggregate_type: str, aggregate_id: str, class_schema: str) -> Operation[Snapshot | None]:
    """SnapshotStore.load."""
    _check_aggregate(aggregate_type, aggregate_id)
    return (yield from repeated(LoadSnapshot(aggregate_type, aggregate_id, class_schema)))


def save_snapshot(snapshot: Snapshot) -> Operation[None]:
    """SnapshotStore.save."""
    _check_aggregate(snapshot.aggregate_type, snapshot.aggregate_id)
    yield from repeated(SaveSnapshot(snapshot))


def delete_snapshot(aggregate_type: str, aggregate_id: str) -> Operation[None]:
    """SnapshotStore.delete."""
    _check_aggregate(aggregate_type, aggregate_id)
    yield from repeated(DeleteSnapshot(aggregate_type, aggregate_id))


def _check_aggregate(aggregate_type: str, aggregate_id: str) -> None:
    check_name("aggregate_type", aggregate_type)
    check_name("aggregate_id", aggregate_id)


class LogReader:
    """EventStore.read_all, page by page. Its arguments are checked at once."""

    def __init__(
        self,
        from_position: int,
        batch_size: int,
        to_position: int | None,
        event_types: EventTypes | None,
        categories: Categories | None,
        *,
        strict: bool,
        backwards: bool,
        limit: int | None,
    ) -> None:
        self._after = check_number("from_position", from_position)
        self._batch_size = check_number("batch_size", batch_size, least=1)
        self._to_position = MAX_VERSION if to_position is None else check_number("to_position", to_position)
        self._event_types = None if event_types is None else check_event_types(event_types)
        self._categories = None if categories is None else check_categories(categories)
        self._left = MAX_VERSION if limit is None else check_number("limit", limit)
        self._backwards = backwards
        self._strict = strict
        self.upto: int | None = None
        """Where it ends, once it has begun."""

    def next_page(self) -> Operation[Sequence[Row]]:
        """The next records; none at the end."""
        if self.upto is None:
            safe = yield from repeated(SafePosition(self._after))
            if safe is None:
                raise needs_read_committed("read_all")
            self.upto = min(safe, self._to_position)
        size = min(self._batch_size, self._left)
        if self._after >= self.upto or not size:
            return []
        event_types = None if self._event_types is None else stored_types(self._event_types)
        records = yield from repeated(
            ReadLog(self._after, self.upto, size, event_types, self._categories, backwards=self._backwards)
        )
        self._left -= len(records)
        full = len(records) == size
        if self._backwards:
            self.upto = records[-1][POSITION] - 1 if full else self._after
        else:
            self._after = records[-1][POSITION] if full else self.upto
        return records

    def events(self, page: Sequence[Row]) -> Iterator[Event]:
        """The events of a page, decoded lazily: one that is released at once never reaches the garbage collector."""
        return decode_each(page, strict=self._strict)


def check_event_types(event_types: EventTypes) -> list[str]:
    """Return the names of types of events, given as names or classes. Raises InvalidArgument."""
    several = [event_types] if isinstance(event_types, (str, type)) else event_types
    if not isinstance(several, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"event_types must be names or classes of events, not {type(event_types).__name__}")
    names: list[str] = []
    for each in several:
        if isinstance(each, type) and issubclass(each, Event) and each is not Event:  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            names.append(each.event_type)
        elif isinstance(each, str):
            names.append(check_name("an event type", each))
        else:
            raise InvalidArgument(f"event_types must be names or classes of events, not {each!r}")
    return names


def check_categories(categories: Categories) -> list[str]:
    """Return categories as a list. Raises InvalidArgument."""
    several = [categories] if isinstance(categories, str) else check_names("categories", categories)
    return [check_category(each) for each in several]


def _check_expected_version(expected_version: object) -> None:
    if not isinstance(expected_version, ExpectedVersion):
        check_number("expected_version", expected_version, hint=", or one of ExpectedVersion")


def check_number(what: str, number: object, *, least: int = 0, hint: str = "") -> int:
    """Return ``number`` if it is an int that can be a version, a position or a count; else raise InvalidArgument."""
    if type(number) is not int and type(number) is not StreamVersion:
        raise InvalidArgument(f"{what} must be an int{hint}, not {type(number).__name__}")
    if not least <= number <= MAX_VERSION:
        raise InvalidArgument(f"{what} must be from {least} to 2**63 - 1{hint}, not {number}")
    return int(number)
