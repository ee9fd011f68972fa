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
from eventstore.codec.sealing import Keys
from eventstore.core import deadlines
from eventstore.core.deadlines import DEFAULT_TIMEOUT, Deadline
from eventstore.core.logs import store_log as _log
from eventstore.core.records import decode_each
from eventstore.core.refusals import needs_read_committed
from eventstore.core.requests import (
    DeleteSnapshot,
    LoadSnapshot,
    MarkLog,
    Operation,
    Pause,
    ReadFromSnapshot,
    ReadLog,
    ReadPageAndFind,
    ReadStream,
    Request,
    SafePosition,
    SaveSnapshot,
    ask,
)
from eventstore.errors import InvalidArgument, StoreUnavailable, StreamRetired
from eventstore.event import Event
from eventstore.event_types import stored_types
from eventstore.names import check_category, check_name, check_names
from eventstore.store import Categories, EventTypes, Snapshot, SnapshotKey
from eventstore.tombstone import TOMBSTONE
from eventstore.versions import StreamVersion

R = TypeVar("R")

MAX_VERSION = 2**63 - 1
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.6
"""Seconds between attempts after a connection was lost, twice as many each time, up to the last."""


class ConnectionLost(StoreUnavailable):
    """A request whose answer was lost, and that may or may not have been carried out. Operations resolve it.

    ``sessions`` are those of the server that may still carry it out, 0 for one that is not known.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, sessions: Sequence[int] = ()) -> None:
        self.sessions = tuple(sessions)
        super().__init__(message, sqlstate=sqlstate)


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
        _log.info("the connection was lost: the next attempt is in %.1f s", seconds, extra={"delay": seconds})
    if seconds:
        yield from ask(Pause(seconds))


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

    def events(self, page: Sequence[Row], keys: Keys | None) -> Iterator[Event]:
        """The events of a page, decoded lazily: one that is released at once never reaches the garbage collector."""
        return decode_each(page, strict=self._strict, keys=keys)


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


def check_number(what: str, number: object, *, least: int = 0, hint: str = "") -> int:
    """Return ``number`` if it is an int that can be a version, a position or a count; else raise InvalidArgument."""
    if type(number) is not int and type(number) is not StreamVersion:
        raise InvalidArgument(f"{what} must be an int{hint}, not {type(number).__name__}")
    if not least <= number <= MAX_VERSION:
        raise InvalidArgument(f"{what} must be from {least} to 2**63 - 1{hint}, not {number}")
    return int(number)
