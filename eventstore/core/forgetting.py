"""Forgetting a subject of personal data: what stands in the log, and when its key is destroyed. No I/O.

If the keys are in the database of the log, it is one transaction. If they are elsewhere, the log is committed first and
the key destroyed then; whoever reads a SubjectForgotten from the log destroys a key that is still there, so that
nobody hears of it before the key is gone, whatever process died in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from eventstore import codec
from eventstore.codec.record import DATA, EVENT_TYPE, METADATA, POSITION, STREAM_ID, Row
from eventstore.codec.sealing import Keys, subjects_in
from eventstore.core.requests import Call, DeleteSnapshotsOf, Operation, ReadStream, ask
from eventstore.core.subject_keys import AnySubjectKeys, ciphers
from eventstore.errors import ConcurrencyError, EventStoreError, InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.names import check_subject
from eventstore.versions import ExpectedVersion, StreamVersion

SUBJECTS = "eventstore.subjects-"
"""How the ids of the streams begin that say which subjects were forgotten, each followed by the subject."""


class SubjectForgotten(Event):
    """A subject was forgotten: its personal data reads as placeholders from now on.

    It stands in a stream of its own. Read models and other services follow it to erase what they keep of the subject.
    """

    event_type: str = "eventstore.SubjectForgotten"
    subject: str
    """The text of the subject: of a UUID, its usual form."""
    reason: str = ""


class Forgotten(NamedTuple):
    """A subject whose key is to be destroyed, and why."""

    subject: str
    reason: str


def check_stream(stream_id: str, events: Iterable[Event]) -> None:
    """Raise InvalidArgument for a SubjectForgotten outside of its subject's stream, and for other events in there."""
    in_there = stream_id.startswith(SUBJECTS)
    for event in events:
        forgets = event.event_type == SubjectForgotten.event_type
        if forgets != in_there or (forgets and stream_id != f"{SUBJECTS}{event.data.get('subject')}"):
            raise InvalidArgument(
                f"{event.event_type} can't be appended to {stream_id!r}: a stream that begins with {SUBJECTS!r} holds "
                f"the {SubjectForgotten.event_type} of its subject, which store.forget() appends"
            )


def no_keys(what: str) -> InvalidOperation:
    """The error for a store without keys."""
    return InvalidOperation(f"{what} needs the keys of subjects, and this store has none: give it subject_keys=")


def forget(store: Any, subject: UUID | str | int, reason: str) -> Operation[StreamVersion]:
    """EventStore.forget, in a transaction. ``store`` is the store in it."""
    text = check_subject("subject", subject)
    if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"reason must be a str, not {type(reason).__name__}")
    keys: AnySubjectKeys | None = store.subject_keys
    if keys is None:
        raise no_keys("to forget a subject")
    joins = yield from ask(Call(partial(keys.joins, store)))
    if not joins and not store.sees_commit:
        raise InvalidOperation(
            "the keys of subjects are not in this database, and a store that is bound to your transaction does not see "
            "its commit: forget the subject through the store itself, or its transaction()"
        )
    event = SubjectForgotten(subject=text, reason=reason)
    stream_id = f"{SUBJECTS}{text}"
    version: StreamVersion
    try:
        version = yield from ask(Call(partial(store.append, stream_id, [event], ExpectedVersion.NO_STREAM)))
    except ConcurrencyError:
        rows = yield from ask(ReadStream(stream_id, 0, 1, backwards=False, limit=1))
        if not rows:
            raise
        version = StreamVersion(1, rows[0][POSITION], repeated=True)
    yield from ask(DeleteSnapshotsOf(text))
    keys.cache.drop(text)
    if joins:
        yield from ask(Call(partial(keys.destroy_in, store, text, reason)))
        store.when_committed(partial(keys.cache.drop, text))
    else:
        store.destroy_after_commit(Forgotten(text, reason))
    return version


def destroy(keys: AnySubjectKeys, forgotten: Iterable[Forgotten]) -> Operation[None]:
    """Destroy the keys of subjects that the log says are forgotten. Raises StoreUnavailable."""
    for subject, reason in forgotten:
        keys.cache.drop(subject)
        try:
            yield from ask(Call(partial(keys.destroy, subject, reason)))
        except EventStoreError as error:
            raise StoreUnavailable(
                f"the log says that the subject {subject!r} is forgotten, but its key is not destroyed yet: {error}. "
                "Forget it again; whoever reads the log destroys the key as well"
            ) from error
        finally:
            keys.cache.drop(subject)


def keys_of(rows: Sequence[Row], keys: AnySubjectKeys, *, committed: bool) -> Operation[Keys]:
    """The keys that are needed to decode a page of rows.

    ``committed`` says that the page holds nothing that may still be rolled back: a key of a subject that it says is
    forgotten is destroyed then, if it is still there.
    """
    subjects: set[str] = set()
    forgotten: dict[str, str] = {}
    for row in rows:
        subjects |= subjects_in(row[DATA])
        if row[METADATA] != codec.EMPTY_MAP:
            subjects |= subjects_in(row[METADATA])
        if committed and row[EVENT_TYPE] == SubjectForgotten.event_type:
            values = codec.decode(row[DATA], lenient=True)
            if row[STREAM_ID] == f"{SUBJECTS}{values.get('subject')}":  # Only there does a store look for it.
                forgotten[str(values["subject"])] = str(values.get("reason", ""))
    if forgotten:
        yield from _complete(keys, forgotten)
    return (yield from ciphers(keys, sorted(subjects), create=False)) if subjects else {}


def _complete(keys: AnySubjectKeys, forgotten: dict[str, str]) -> Operation[None]:
    """Destroy the keys of forgotten subjects that are still there, as the process that forgot them died before."""
    for subject in forgotten:
        keys.cache.drop(subject)
    known = yield from ask(Call(partial(keys.get_many, [*forgotten])))
    unfinished = [subject for subject in forgotten if subject not in known or known[subject] is not None]
    yield from destroy(keys, [Forgotten(subject, forgotten[subject]) for subject in unfinished])
