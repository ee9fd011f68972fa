"""Requests: what an operation can ask a store or its driver for. Each request knows the type of its reply.

An operation is a generator. It yields requests, and is sent their replies or thrown the errors that they met:
``reply = yield from ask(ReadStream(...))``. A driver, blocking or async, makes the calls and the pauses itself, and
passes every other request to ``execute`` of a store. Requests about subscriptions are in subscription_requests.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeAlias, TypeVar
from uuid import UUID

from eventstore.codec.record import Row
from eventstore.core.records import NO_RECORDS, NewRecords
from eventstore.core.sessions import BlockingSession
from eventstore.store import Snapshot

Q = TypeVar("Q", bound="Request[Any]")
R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")


class Request(Generic[R]):
    """Something that an operation asks for. ``R`` is the type of the reply."""

    __slots__ = ()

    @classmethod
    def answered_by(  # noqa: PYI019 with Self no checker would compare the function's first parameter
        cls: type[Q], function: Callable[Concatenate[Q, P], R]
    ) -> tuple[type[Request[Any]], Callable[Concatenate[Any, P], Any]]:
        """An entry of a table of functions that answer requests: a type checker compares request and reply here."""
        return cls, function


Operation: TypeAlias = Generator[Request[Any], Any, T]
"""Yields requests, and returns a T."""


def ask(request: Request[R]) -> Operation[R]:
    """Yield a request, and return its reply."""
    reply: R = yield request
    return reply


@dataclass(frozen=True, slots=True)
class Pause(Request[None]):
    """Continue some seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call(Request[R]):
    """Call a function, and reply with its result. The async driver waits for one that is awaitable."""

    function: Callable[[], R | Awaitable[R]]


@dataclass(frozen=True, slots=True)
class WithTransaction(Request[R]):
    """Carry out an operation in a transaction of a store, and reply with its result once that is committed."""

    store: Any
    operation: Callable[[Any], Operation[R]]
    """Given the store in the transaction."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The events of an append are stored, now or since an earlier attempt."""

    version: int
    """The version of the last of them."""
    position: int
    """The position of the last of them, or of the stream's last event if there was nothing to append."""
    repeated: bool = False
    """Whether an earlier append had stored them."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing of an append was stored, because the stream is not where it was expected."""

    version: int | None
    """The version of the stream, or None if the store could not determine it."""


@dataclass(frozen=True, slots=True)
class AlreadyStored:
    """Nothing of an append was stored, because the stream holds one of its event ids at another place."""

    version: int
    position: int


@dataclass(frozen=True, slots=True)
class Retired:
    """Nothing of an append was stored, because the stream is retired."""

    version: int
    position: int


@dataclass(frozen=True, slots=True)
class SubjectGone:
    """Nothing of an append was stored, because it holds personal data of a subject that was forgotten."""

    number: int
    """The place of the subject among those of the append, from 1."""


AppendReply: TypeAlias = Stored | Conflict | AlreadyStored | Retired | SubjectGone
"""What became of an append."""


@dataclass(frozen=True, slots=True)
class Append(Request[AppendReply]):
    """Append records to a stream, all or none."""

    stream_id: str
    expected_version: int
    records: NewRecords
    given_ids: Sequence[bytes] = ()
    """Those of the event ids that may have been used before, and are looked for in the stream."""
    subjects: Sequence[str] = ()
    """Whose personal data the records hold. It is noted that they occur in the stream, unless one was forgotten."""


@dataclass(frozen=True, slots=True)
class AppendMark(Request[AppendReply]):
    """Append one record that marks its stream: as retired if it is a tombstone, else as one whose loads begin there."""

    append: Append
    tombstone: bool


@dataclass(frozen=True, slots=True)
class AppendMany(Request[Sequence[AppendReply | None]]):
    """Append records to several streams, all or none.

    The replies are those of the streams. If any is a refusal, nothing is stored, and streams that were not refused have
    None.
    """

    stream_ids: Sequence[str]
    """Each stream once."""
    expected_versions: Sequence[int]
    """Of each stream."""
    streams: Sequence[int]
    """The index of each record's stream."""
    steps: Sequence[int]
    """The number of each record among those of its stream, from 1."""
    records: NewRecords
    """In the order of their positions."""
    given_ids: Sequence[bytes] = ()

    def each(self) -> Iterator[Append]:
        """The same by streams, each as an append of its own."""
        records = list(zip(*self.records, strict=True))
        for index, (stream_id, expected) in enumerate(zip(self.stream_ids, self.expected_versions, strict=True)):
            own = [record for record, stream in zip(records, self.streams, strict=True) if stream == index]
            columns = NewRecords(*(list(column) for column in zip(*own, strict=True))) if own else NO_RECORDS
            yield Append(stream_id, expected, columns, self.given_ids)


@dataclass(frozen=True, slots=True)
class SessionsGone(Request[bool | None]):
    """Find out if sessions of the server have ended, so that nothing they were sent can be stored any more.

    None where that can't be known: behind a pooler, whose sessions are not the server's.
    """

    sessions: Sequence[int]
    own: int = 0
    """The session that this is sent on, as the client knows it. Filled in by who sends it."""


@dataclass(frozen=True, slots=True)
class ConfirmCommits(Request[None]):
    """Return once whatever was committed before is as durable as a commit is: on the standby, if there is one.

    A commit whose wait for the standby was ended is visible before it is safe, and a statement that only reads does not
    wait.
    """


@dataclass(frozen=True, slots=True)
class ReadStream(Request[Sequence[Row]]):
    """Read the rows of a stream above one version, up to and with another."""

    stream_id: str
    from_version: int
    to_version: int
    backwards: bool
    limit: int | None
    from_closing: bool = False
    """Leave out what is below the stream's newest closing event."""


@dataclass(frozen=True, slots=True)
class ReadPageAndFind(Request[Sequence[Row]]):
    """Read the rows of a stream above a version, and the one with an event id, wherever it stands in the stream.

    What is below the stream's newest closing event is not in the page. A row with the event id from there has the
    position 0.
    """

    stream_id: str
    from_version: int
    limit: int
    event_id: UUID


@dataclass(frozen=True, slots=True)
class ReadFromSnapshot(Request[Sequence[Row]]):
    """Read a snapshot, and the rows of its stream from its version on; without a snapshot, from the first.

    What is below the stream's newest closing event is left out, as of ReadPageAndFind, and so is a snapshot from there.

    Also the row with an event id, if one is given, wherever it stands in the stream. The snapshot comes first, as a row
    of the version 0: its own version is the ``position``, its state the ``data``, its checksum the ``metadata``. One
    statement reads all of it. With two, a snapshot that is written in between would leave a hole.
    """

    stream_id: str
    aggregate_type: str
    aggregate_id: str
    class_schema: str
    limit: int
    event_id: UUID | None


@dataclass(frozen=True, slots=True)
class SafePosition(Request[int | None]):
    """Find the position up to which the log may be read; None if the transaction can't tell."""

    after: int
    """The reply is at least this position."""


@dataclass(frozen=True, slots=True)
class MarkLog(Request[int | None]):
    """Mark how far standbys may read the log, and reply with that position; None if the transaction can't tell."""


@dataclass(frozen=True, slots=True)
class ReadLog(Request[Sequence[Row]]):
    """Read the rows of all streams above one position, up to and with another, in the order of their positions.

    Backwards, the first are those with the highest positions.
    """

    after: int
    upto: int
    limit: int
    event_types: Sequence[str] | None
    categories: Sequence[str] | None
    partition: tuple[int, int] | None = None
    """Read only the streams of this partition, of so many."""
    backwards: bool = False

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return not (self.event_types is None and self.categories is None and self.partition is None)


@dataclass(frozen=True, slots=True)
class SubjectStreams(Request[list[str]]):
    """List the streams that hold personal data of a subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class DeleteSnapshotsOf(Request[None]):
    """Delete the snapshots of all aggregates whose streams hold personal data of a subject."""

    subject: str


@dataclass(frozen=True, slots=True)
class ReadByIds(Request[Sequence[Row]]):
    """Read the rows of events, in whatever streams, by their ids; in the order of their positions."""

    event_ids: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ReadRelated(Request[Sequence[Row]]):
    """Read rows whose metadata has one of several ids under a key, in the order of their positions; maybe some others.

    ``ids`` are as the codec encodes them.
    """

    key: Literal["correlation_id", "causation_id"]
    ids: Sequence[bytes]
    limit: int


@dataclass(frozen=True, slots=True)
class ListBlockingSessions(Request[list[BlockingSession]]):
    """List who holds readers of the log, or writers, back; with a stream also who holds its lock, waited for or not."""

    stream_id: str | None = None


@dataclass(frozen=True, slots=True)
class LoadSnapshot(Request[Snapshot | None]):
    """Load the snapshot of an aggregate that was taken with a class schema, if there is one."""

    aggregate_type: str
    aggregate_id: str
    class_schema: str


@dataclass(frozen=True, slots=True)
class SaveSnapshot(Request[None]):
    """Keep a snapshot in place of the one with the same class schema, and of those before the last other one."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class DeleteSnapshot(Request[None]):
    """Delete the snapshots of an aggregate."""

    aggregate_type: str
    aggregate_id: str
