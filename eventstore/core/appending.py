"""Appending: what is checked before, how a lost answer is resolved, and what the reply means. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from eventstore.codec.sealing import Keys
from eventstore.codec.showing import represented
from eventstore.core import deadlines
from eventstore.core.forgetting import check_stream
from eventstore.core.operations import ConnectionLost, attempts, check_number
from eventstore.core.personal_data import subjects_of
from eventstore.core.records import encode_events, given_ids
from eventstore.core.refusals import WaitedInVain, waited_for
from eventstore.core.requests import (
    AlreadyStored,
    Append,
    AppendMany,
    AppendMark,
    AppendReply,
    ConfirmCommits,
    Conflict,
    ListBlockingSessions,
    Operation,
    Retired,
    SessionsGone,
    Stored,
    SubjectGone,
    ask,
)
from eventstore.core.sessions import BlockingSession
from eventstore.core.subject_keys import AnySubjectKeys, ciphers
from eventstore.errors import (
    AppendOutcomeUnknown,
    ConcurrencyError,
    EventAlreadyStored,
    EventStoreError,
    ForgottenSubject,
    InvalidArgument,
    StoreUnavailable,
    StreamRetired,
)
from eventstore.event import Event
from eventstore.names import check_name
from eventstore.observing import note_lost_answer
from eventstore.store import Appends
from eventstore.tombstone import TOMBSTONE
from eventstore.versions import ExpectedVersion, StreamVersion

LOOK_SECONDS = 2.0
"""How long it may take to find out whom an append has waited for in vain."""

MOST_STREAMS = 256
"""Streams of one batch: each takes a lock, and a server has room for some thousand."""

_NOT_ALONE = "a tombstone is appended alone, as the last event of its stream: retire the stream after this append"

MOST_OLD_SNAPSHOTS = 100
"""Times that an append is sent again whose statement saw the stream as it was before it waited for others."""


_REFUSALS = (Conflict, AlreadyStored, Retired)


def append(
    stream_id: str,
    events: Sequence[Event],
    expected_version: int,
    *,
    in_transaction: bool = False,
    subject_keys: AnySubjectKeys | None = None,
) -> Operation[StreamVersion]:
    """EventStore.append.

    A conflict without a version is asked about again, unless all attempts see the same, as those of
    a transaction do: where the default isolation is higher than READ COMMITTED, an attempt may see what was there
    before it waited for the stream's lock.
    """
    events = _checked_append(stream_id, events, expected_version)
    subjects, keys = yield from _sealing(events, subject_keys)
    request = _marked(
        Append(stream_id, int(expected_version), encode_events(events, keys), given_ids(events), subjects), events
    )
    (reply,) = yield from _answered(request, [stream_id], in_transaction=in_transaction)
    if isinstance(reply, SubjectGone):
        raise ForgottenSubject(subjects[reply.number - 1])
    return _version_of(stream_id, expected_version, reply)


def _marked(request: Append, events: Sequence[Event]) -> Append | AppendMark:
    """The request for an append: another one for an event that closes or retires its stream."""
    check_stream(request.stream_id, events)
    tombstone = TOMBSTONE in request.records.event_types
    closing = len(events) == 1 and "_closing" in events[0].__dict__
    if tombstone and len(events) > 1:
        raise InvalidArgument(_NOT_ALONE)
    if closing and request.expected_version < 1:
        raise InvalidArgument(
            "expected_version must be the version that the closing event was made from, at least 1, not "
            f"{request.expected_version}: events that it does not carry would be missing from loads"
        )
    return AppendMark(request, tombstone) if tombstone or closing else request


def _sealing(
    events: Iterable[Event], subject_keys: AnySubjectKeys | None
) -> Operation[tuple[Sequence[str], Keys | None]]:
    """Whose personal data events hold, and the keys to seal it with; a subject that was forgotten has none."""
    subjects = subjects_of(events)
    if not subjects or subject_keys is None:
        return (), None if subject_keys is None else {}
    keys = yield from ciphers(subject_keys, subjects, create=True)
    return [subject for subject in subjects if keys[subject] is not None], keys


def are_personal(appends: Appends) -> bool:
    """Whether a batch holds personal data of anybody. Raises InvalidArgument for what can't be a subject."""
    return any(subjects_of(events) for _, events, _ in appends)


def append_many(appends: Appends, *, in_transaction: bool = False) -> Operation[dict[str, StreamVersion]]:
    """EventStore.append_many, in one request, of what checked_appends returned."""
    expected: dict[str, int] = {}
    counts: dict[str, int] = {}
    indexes: dict[str, int] = {}
    events: list[Event] = []
    streams: list[int] = []
    steps: list[int] = []
    for stream_id, added, expected_version in appends:
        if stream_id in expected:
            _check_continued(stream_id, expected[stream_id], counts[stream_id], expected_version)
        else:
            expected[stream_id], counts[stream_id], indexes[stream_id] = int(expected_version), 0, len(indexes)
        count = counts[stream_id]
        events += added
        streams += [indexes[stream_id]] * len(added)
        steps += range(count + 1, count + len(added) + 1)
        counts[stream_id] = count + len(added)
    if not expected:
        return {}
    if len(expected) > MOST_STREAMS:
        raise InvalidArgument(
            f"append_many was given {len(expected)} streams, more than the limit of {MOST_STREAMS}: split the list"
        )
    request = AppendMany(
        list(expected), list(expected.values()), streams, steps, encode_events(events), given_ids(events)
    )
    if TOMBSTONE in request.records.event_types:
        raise InvalidArgument(_NOT_ALONE)
    for stream_id, added, _ in appends:
        check_stream(stream_id, added)
    replies = yield from _answered(request, request.stream_ids, in_transaction=in_transaction)
    refused = [reply for reply in replies if isinstance(reply, _REFUSALS)]
    return {
        stream_id: _version_of(stream_id, version, reply)
        for (stream_id, version), reply in zip(expected.items(), replies, strict=True)
        if not refused or isinstance(reply, _REFUSALS)
    }


def checked_appends(appends: Appends) -> Appends:
    """The appends of a batch, whose arguments are valid one by one. Raises InvalidArgument."""
    what = "append_many takes a list of (stream_id, events, expected_version)"
    if isinstance(appends, (str, bytes)) or not isinstance(appends, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"{what}, not {type(appends).__name__}")
    checked: list[tuple[str, Sequence[Event], int]] = []
    for each in appends:
        try:
            stream_id, events, expected_version = each
        except (TypeError, ValueError):
            raise InvalidArgument(f"{what}: one of them is {represented(each)}") from None
        checked.append((stream_id, _checked_append(stream_id, events, expected_version), expected_version))
    return checked


def _check_continued(stream_id: str, first: int, count: int, expected_version: int) -> None:
    """Refuse an expected version that can't be right after other appends of the same list."""
    if expected_version >= 0 and expected_version != first + count:
        after = f"at version {first + count}" if first >= 0 else "at a version that is not known before"
        raise InvalidArgument(
            f"append_many was given stream {stream_id!r} again with the expected version {expected_version}, but what "
            f"comes before leaves it {after}: expect that, or ExpectedVersion.ANY"
        )


def _checked_append(stream_id: str, events: Sequence[Event], expected_version: int) -> Sequence[Event]:
    """The events of an append, whose arguments are valid. Raises InvalidArgument."""
    check_name("stream_id", stream_id)
    _check_expected_version(expected_version)
    if isinstance(events, Event) or not isinstance(events, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"events must be a list of events, not {type(events).__name__}: put it in a list")
    return tuple(events)


def _version_of(stream_id: str, expected_version: int, reply: AppendReply | None) -> StreamVersion:
    """The version that the reply to an append says. Raises ConcurrencyError, EventAlreadyStored, StreamRetired."""
    if isinstance(reply, Retired):
        raise StreamRetired(stream_id, reply.version, reply.position)
    if isinstance(reply, AlreadyStored):
        raise EventAlreadyStored(stream_id, reply.version, reply.position)
    if not isinstance(reply, Stored):
        actual = reply.version if isinstance(reply, Conflict) else None
        raise ConcurrencyError(stream_id, expected_version, actual)
    return StreamVersion(reply.version, reply.position, repeated=reply.repeated)


def _answered(
    request: Append | AppendMany | AppendMark, stream_ids: Sequence[str], *, in_transaction: bool
) -> Operation[Sequence[AppendReply | None]]:
    """The reply for each stream."""
    try:
        return (yield from _resolved(request, stream_ids, in_transaction=in_transaction))
    except WaitedInVain as error:
        if in_transaction:
            raise  # It can only be rolled back: nothing can be asked there.
        raise waited_for(error, (yield from _sessions_in_the_way(stream_ids[0]))) from error.__cause__


def _sessions_in_the_way(stream_id: str) -> Operation[list[BlockingSession]]:
    """Those that hold back appends to a stream; none where that can't be found out now."""
    with deadlines.afterwards(LOOK_SECONDS):
        try:
            return (yield from ask(ListBlockingSessions(stream_id)))
        except EventStoreError:
            return []


def _resolved(
    request: Append | AppendMany | AppendMark, stream_ids: Sequence[str], *, in_transaction: bool
) -> Operation[Sequence[AppendReply | None]]:
    """Send an append until it is answered: the same event ids, under the stream's lock, are stored once."""
    append = request.append if isinstance(request, AppendMark) else request
    cause: StoreUnavailable | None = None
    sessions: set[int] = set()
    for wait in attempts():
        yield from wait
        try:
            replies = yield from _asked(request, in_transaction=in_transaction)
            if sessions and _may_be_stored_later(append, replies):
                gone = None if 0 in sessions else (yield from ask(SessionsGone(sorted(sessions))))
                if gone is None:
                    break
                if gone:
                    sessions.clear()  # The next refusal is the last word.
                continue
            if cause is not None and any(isinstance(reply, Stored) for reply in replies):
                yield from ask(ConfirmCommits())
        except ConnectionLost as error:
            cause = error
            sessions.update(error.sessions)
            note_lost_answer()
        except StoreUnavailable as error:
            if cause is None:
                raise
            cause = error
        else:
            return replies
    event_ids = [UUID(bytes=event_id) for event_id in append.records.event_ids]
    raise AppendOutcomeUnknown(stream_ids[0], event_ids) from cause


def _asked(
    request: Append | AppendMany | AppendMark, *, in_transaction: bool
) -> Operation[Sequence[AppendReply | None]]:
    """Send an append, again while its statement saw the stream as it was before it waited for others."""
    replies: Sequence[AppendReply | None] = ()
    for _ in range(1 if in_transaction else MOST_OLD_SNAPSHOTS):
        replies = (yield from ask(request)) if isinstance(request, AppendMany) else [(yield from ask(request))]
        if Conflict(None) not in replies:
            break
    return replies


def _may_be_stored_later(request: Append | AppendMany, replies: Sequence[AppendReply | None]) -> bool:
    """Whether a stream may still grow to where a refused append expects it: an earlier message would be stored."""
    expected = [request.expected_version] if isinstance(request, Append) else request.expected_versions
    return any(
        isinstance(reply, Conflict)
        and (reply.version is None or reply.version < version or version == ExpectedVersion.STREAM_EXISTS)
        for version, reply in zip(expected, replies, strict=True)
    )


def _check_expected_version(expected_version: object) -> None:
    if not isinstance(expected_version, ExpectedVersion):
        check_number("expected_version", expected_version, hint=", or one of ExpectedVersion")


def answered_without_storing(
    append: Append, last_version: int, known: Iterable[tuple[int, int, bytes]]
) -> AppendReply | None:
    """Return the reply to an append that must not store anything, or None if its events are to be stored now.

    Args:
        append: what is asked for.
        last_version: the stream's, 0 if it does not exist.
        known: version, position and event id of each event of the stream that has one of the append's event ids. They
            may be left out where the expected version is the stream's and ``append.given_ids`` is empty.
    """
    ids, expected = append.records.event_ids, append.expected_version
    known = sorted(known)
    first = expected + 1 if expected >= 0 else next((version for version, _, _ in known), None)
    if ids and first is not None:
        there = {version: (position, event_id) for version, position, event_id in known}
        if [there.get(version, (0, b""))[1] for version in range(first, first + len(ids))] == ids:
            last = first + len(ids) - 1
            return Stored(last, there[last][0], repeated=True)
    looked_up = append.given_ids if expected >= 0 else ids
    for version, position, event_id in known:
        if event_id in looked_up:
            return AlreadyStored(version, position)
    if 0 <= expected != last_version or (expected == ExpectedVersion.STREAM_EXISTS and not last_version):
        return Conflict(last_version)
    return None
