"""Every error that the library raises, below one root.

The message of an error says what happened, and then what to do. Its attributes are the facts that a handler needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID


class EventStoreError(Exception):
    """The root of all errors: ``except EventStoreError`` catches everything that this library raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is unpickled by calling its class with what it says, and most of these take other arguments.
        return _without_init, (type(self), self.args), self.__dict__


def _without_init(cls: type[EventStoreError], args: tuple[Any, ...]) -> EventStoreError:
    made = cls.__new__(cls, *args)
    made.args = args  # That of an OSError is left to its __init__.
    return made


class InvalidArgument(EventStoreError, ValueError):
    """An invalid argument, refused before anything is sent or changed."""


class InvalidOperation(EventStoreError):
    """An operation that the current state does not allow. Aggregates raise it for their own rules."""


class DuplicateType(EventStoreError):
    """Two classes claim one stored name, as a current name or as a former one.

    ``name`` is the name, ``first`` and ``second`` are the classes.
    """

    def __init__(self, name: str, first: type, second: type) -> None:
        self.name = name
        self.first = first
        self.second = second
        super().__init__(
            f"the name {name!r} already belongs to {first.__module__}.{first.__qualname__}, so "
            f"{second.__module__}.{second.__qualname__} can't have it too: rename the class, or give it another stored "
            'name, by `event_type: str = "..."` in the body of an event, or by `register_type(cls, name="...")` for '
            "other types; a former name can belong to one class only"
        )


class ConcurrencyError(EventStoreError):
    """The stream does not have the version that the append expected. Nothing of the append was stored.

    ``actual_version`` is the stream's version at that moment. It is None if the server could not determine it: two
    transactions waited for each other, or your transaction has a snapshot that is too old to see it.
    """

    def __init__(self, stream_id: str, expected_version: object, actual_version: int | None) -> None:
        self.stream_id = stream_id
        self.expected_version = expected_version
        self.actual_version = actual_version
        actual = (
            "another transaction changed it meanwhile"
            if actual_version is None
            else ("it does not exist" if actual_version == 0 else f"it is at version {actual_version}")
        )
        super().__init__(
            f"stream {stream_id!r} was expected at {expected_version!r}, but {actual}; nothing was stored: "
            "load it again and decide again"
        )


class EventAlreadyStored(EventStoreError):
    """The stream already holds one of the event ids, at another place. Nothing of the append was stored.

    This is not a conflict: the same append would fail again after a reload. ``version`` and ``position`` say where the
    stored event is.
    """

    def __init__(self, stream_id: str, version: int, position: int) -> None:
        self.stream_id = stream_id
        self.version = version
        self.position = position
        super().__init__(
            f"stream {stream_id!r} already holds one of these event ids, at version {version} (position {position}); "
            "nothing was stored: what the events record was done before, so don't append them again"
        )


class StreamRetired(EventStoreError):
    """The stream is retired: nothing can be appended to it any more, and no aggregate be loaded from it.

    ``version`` and ``position`` are those of its tombstone. ``reason`` is why it was retired; it is empty where only an
    append was refused.
    """

    def __init__(self, stream_id: str, version: int, position: int, reason: str = "") -> None:
        self.stream_id = stream_id
        self.version = version
        self.position = position
        self.reason = reason
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"stream {stream_id!r} was retired at version {version}{why}, and its id is never free again: read its "
            "events with read(), and use another id for something new"
        )


class AggregateNotFound(EventStoreError):
    """No event of this aggregate is stored. ``aggregate_type`` is its class, and ``aggregate_id`` is the id."""

    def __init__(self, aggregate_type: type, aggregate_id: object) -> None:
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        super().__init__(
            f"there is no {aggregate_type.__name__} with id {aggregate_id}: check the id, or save a new one first"
        )


class SerializationError(EventStoreError):
    """A value that can't be stored, because it would not come back equal. Nothing was sent.

    ``subject`` names what contains it, an event type or a snapshot. ``path`` leads to the value: ``items[0].price``.
    """

    def __init__(self, subject: str, path: str, reason: str) -> None:
        self.subject = subject
        self.path = path
        self.reason = reason
        super().__init__(f"{subject}: {path or 'the data'} can't be stored: {reason}")


class DeserializationError(EventStoreError):
    """Stored bytes that can't be decoded to the expected value. ``subject`` names what was read.

    For an event, ``stream_id`` and ``version`` say where it is, and ``revision`` says which revision of its class
    stored it. Otherwise they are empty and 0. The cause is what an upcaster or the decoder raised.
    """

    def __init__(self, subject: str, reason: str, *, stream_id: str = "", version: int = 0, revision: int = 0) -> None:
        self.subject = subject
        self.reason = reason
        self.stream_id = stream_id
        self.version = version
        self.revision = revision
        super().__init__(f"{subject} can't be read: {reason}")


class UnknownEventType(DeserializationError):
    """A strict reader met an event type without a class, or an aggregate met one for which it has no handler."""

    def __init__(
        self,
        event_type: str,
        subject: str,
        reason: str,
        *,
        stream_id: str = "",
        version: int = 0,
        revision: int = 0,
    ) -> None:
        self.event_type = event_type
        super().__init__(subject, reason, stream_id=stream_id, version=version, revision=revision)


class NewerRevision(DeserializationError):
    """A newer release of the program has stored this event, or a value in it.

    ``name`` is the stored name of the class, ``stored`` is the revision that wrote it, and ``known`` is the highest
    revision that this program can read.
    """

    def __init__(
        self,
        name: str,
        stored: int,
        known: int,
        subject: str,
        *,
        stream_id: str = "",
        version: int = 0,
        revision: int = 0,
    ) -> None:
        self.name = name
        self.stored = stored
        self.known = known
        reason = (
            f"revision {stored} of {name!r} wrote it, and this program has revision {known}: it is older than the "
            "program that wrote the event; deploy the newer release here too"
        )
        super().__init__(subject, reason, stream_id=stream_id, version=version, revision=revision)


class RevisionError(EventStoreError):
    """The revision of a class and its upcasters don't match, so nothing of the class is written or read.

    ``cls`` is the class, ``module`` is the name of its module, and ``step`` is the revision whose upcaster is wrong.
    """

    def __init__(self, cls: type, step: int, reason: str) -> None:
        self.cls = cls
        self.module = cls.__module__
        self.step = step
        super().__init__(f"{cls.__module__}.{cls.__qualname__}: {reason}")


class ForgottenSubject(EventStoreError):
    """Personal data of a subject that was forgotten can't be stored. Nothing was sent. ``subject`` is its text."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            f"the subject {subject!r} was forgotten, and nothing personal of it can be stored again: leave its "
            "personal fields at their placeholders, or record it under a new subject"
        )


class SubjectKeyError(EventStoreError):
    """The key of a subject can't be used: it is wrapped by another key-encryption key, or damaged.

    ``subject`` is the subject's text, or empty if the error concerns all of them.
    """

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(f"the key of subject {subject!r} can't be used: {reason}" if subject else reason)


class EventsLockError(EventStoreError):
    """A lock file, or a sample in it, can't be used. ``subject`` is the file or the class."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(f"{subject}: {reason}")


class SnapshotError(EventStoreError):
    """A snapshot can't be used or written. Repositories log it and replay the events; they never raise it."""


class SubscriptionFailed(EventStoreError):
    """A subscription has stopped at an event that it could not handle. The cause is what the handler raised.

    ``name`` is the name of the subscription, ``position`` is that of the event, and ``error`` says what happened. All
    events before it are handled.
    """

    def __init__(self, name: str, position: int, error: str) -> None:
        self.name = name
        self.position = position
        self.error = error
        super().__init__(
            f"subscription {name!r} has stopped at the event at position {position}: {error}; "
            "fix the handler or the data and restart it; it resumes at that event"
        )


class SubscriptionBehind(EventStoreError, TimeoutError):
    """A subscription did not reach a position in time.

    ``name`` is the name of the subscription, ``position`` is the position, and ``reached`` is its checkpoint, or None
    if it does not exist. ``held_back_by`` describes the open transaction that holds it back, or is None.
    """

    def __init__(
        self, name: str, position: int, reached: int | None, timeout: float, *, held_back_by: str | None = None
    ) -> None:
        self.name = name
        self.position = position
        self.reached = reached
        self.held_back_by = held_back_by
        where = "it does not exist yet" if reached is None else f"it is at {reached}"
        super().__init__(
            f"subscription {name!r} did not reach position {position} within {timeout:g} s, {where}: "
            f"{held_back_by or 'is a worker running?'}"
        )


class SchemaError(EventStoreError):
    """The schema is missing, is older or newer than this library, or was altered. ``schema`` is its name."""

    def __init__(self, schema: str, reason: str) -> None:
        self.schema = schema
        super().__init__(f"schema {schema!r}: {reason}")


class ArchiveError(EventStoreError):
    """An archive of events can't be read or written, was altered, or is not one of this store. Nothing was lost.

    ``archive`` is its place, and ``reason`` says what is wrong with it.
    """

    def __init__(self, archive: str, reason: str) -> None:
        self.archive = archive
        self.reason = reason
        super().__init__(f"archive {archive}: {reason}")


class StoreRefused(EventStoreError):
    """The server refuses a request, and will refuse it again. Nothing was stored.

    ``sqlstate`` is the server's error code, if there is one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


class AccessDenied(StoreRefused):
    """The role lacks a privilege or can't log in, or the database does not exist. Nothing was stored."""


class StoreUnavailable(EventStoreError):
    """The store can't be reached, or can't serve the request now (timeout, disk full, shutdown). Nothing was stored.

    The same call may succeed later. ``sqlstate`` is the server's error code, if there is one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


class AppendOutcomeUnknown(EventStoreError):
    """The answer to an append or a commit was lost, and its outcome could not be found out in time.

    Appending the *same* event objects again with the same expected version is safe: they are stored once.
    """

    def __init__(self, stream_id: str, event_ids: Sequence[UUID]) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        super().__init__(
            f"the answer to an append of {len(self.event_ids)} event(s) to {stream_id!r} was lost: they may or may not "
            "be stored; append the same event objects again: they are stored once"
        )
