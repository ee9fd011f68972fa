"""Every error that the library raises, under one root.

An error says what happened, carries the facts that a handler needs as attributes, and ends with what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


class EventStoreError(Exception):
    """The root: ``except EventStoreError`` catches whatever this library raises."""


class InvalidArgument(EventStoreError, ValueError):
    """An argument that can't be: refused before anything was sent or changed."""


class InvalidOperation(EventStoreError):
    """An operation that the present state does not allow. Aggregates raise it for their own rules."""


class DuplicateType(EventStoreError):
    """Two classes claim one stored name, as their present or as a former one.

    ``name`` is the name, ``first`` and ``second`` are the classes.
    """

    def __init__(self, name: str, first: type, second: type) -> None:
        self.name = name
        self.first = first
        self.second = second
        super().__init__(
            f"the name {name!r} already belongs to {first.__module__}.{first.__qualname__}, so "
            f"{second.__module__}.{second.__qualname__} can't have it too: rename the class, or give it "
            'a name of its own, an event by `event_type: str = "..."` in its body, another type by '
            '`register_type(cls, name="...")`; a former name can be of one class only'
        )


class ConcurrencyError(EventStoreError):
    """The stream is not where the append expected it. Nothing of the append was stored.

    ``actual_version`` is the stream's version at that moment, or None where the server could not tell it: two
    transactions that waited for each other, or a snapshot of the caller's transaction that is too old to see it.
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
            "read the stream again and decide again"
        )


class EventAlreadyStored(EventStoreError):
    """The stream holds an event with one of these ids already, at another place. Nothing of the append was stored.

    It is not a conflict: the same append fails again after a reload. ``version`` and ``position`` are where the stored
    event is.
    """

    def __init__(self, stream_id: str, version: int, position: int) -> None:
        self.stream_id = stream_id
        self.version = version
        self.position = position
        super().__init__(
            f"stream {stream_id!r} holds an event with one of these ids already, at version {version} (position "
            f"{position}); nothing was stored: what the events record was done before, so don't append them again"
        )


class AggregateNotFound(EventStoreError):
    """No event of this aggregate is stored. ``aggregate_type`` is its class, ``aggregate_id`` the id asked for."""

    def __init__(self, aggregate_type: type, aggregate_id: object) -> None:
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        super().__init__(f"there is no {aggregate_type.__name__} with id {aggregate_id}: no event of it is stored")


class SerializationError(EventStoreError):
    """A value that can't be stored so that it comes back equal. Nothing was sent.

    ``subject`` names what holds it (an event type, or a snapshot), ``path`` the way to the value: ``items[0].price``.
    """

    def __init__(self, subject: str, path: str, reason: str) -> None:
        self.subject = subject
        self.path = path
        self.reason = reason
        super().__init__(f"{subject}: {path or 'the data'} can't be stored: {reason}")


class DeserializationError(EventStoreError):
    """Stored bytes that don't give what they should. ``subject`` names what was read.

    Of an event ``stream_id`` and ``version`` say where it is, and ``revision`` which revision of its class stored it;
    otherwise they are empty and 0. The cause is what an upcaster or the decoder raised.
    """

    def __init__(self, subject: str, reason: str, *, stream_id: str = "", version: int = 0, revision: int = 0) -> None:
        self.subject = subject
        self.reason = reason
        self.stream_id = stream_id
        self.version = version
        self.revision = revision
        super().__init__(f"{subject} can't be read: {reason}")


class UnknownEventType(DeserializationError):
    """An event type without a class, met by a strict reader or by an aggregate without a handler for it."""

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
    """An event, or a value in one, that a newer release of the program has stored.

    ``name`` is the stored name of its class, ``stored`` the revision that wrote it, and ``known`` the highest revision
    that this program can read.
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
            "program that wrote the event, deploy the newer one here too"
        )
        super().__init__(subject, reason, stream_id=stream_id, version=version, revision=revision)


class RevisionError(EventStoreError):
    """The revisions and upcasters of a class don't fit together, so nothing of it is written or read.

    ``cls`` is the class, ``module`` the name of its module, and ``step`` the revision whose upcaster is at fault.
    """

    def __init__(self, cls: type, step: int, reason: str) -> None:
        self.cls = cls
        self.module = cls.__module__
        self.step = step
        super().__init__(f"{cls.__module__}.{cls.__qualname__}: {reason}")


class EventsLockError(EventStoreError):
    """A lock file, or a sample in it, that can't be used. ``subject`` is the file or the class."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(f"{subject}: {reason}")


class SnapshotError(EventStoreError):
    """A snapshot that can't be used or written. Repositories log it and replay; they never raise it."""


class SubscriptionFailed(EventStoreError):
    """A subscription has given up at an event, which it could not handle. Its cause is what the handler raised.

    ``name`` is the subscription's, ``position`` the event's, ``error`` what happened. Everything before is handled.
    """

    def __init__(self, name: str, position: int, error: str) -> None:
        self.name = name
        self.position = position
        self.error = error
        super().__init__(
            f"subscription {name!r} has stopped at the event at position {position}: {error}; "
            "mend the handler or the data and start it again, it goes on there"
        )


class SubscriptionBehind(EventStoreError, TimeoutError):
    """A subscription has not come to a position in time. ``name``, ``position``, and where it is: ``reached``.

    ``held_back_by`` says which open transaction holds it back; None where none does.
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
            f"subscription {name!r} has not come to position {position} within {timeout:g} s, {where}: "
            f"{held_back_by or 'is a worker running?'}"
        )


class SchemaError(EventStoreError):
    """The database's schema is missing, older or newer than this library, or was altered. ``schema`` is its name."""

    def __init__(self, schema: str, reason: str) -> None:
        self.schema = schema
        super().__init__(f"schema {schema!r}: {reason}")


class StoreRefused(EventStoreError):
    """The server refuses what was asked of it, and will again. Nothing was stored.

    ``sqlstate`` is the server's code, where there is one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


class AccessDenied(StoreRefused):
    """The role may not do that, can't log in, or there is no such database. Nothing was stored."""


class StoreUnavailable(EventStoreError):
    """The store could not be reached, or refused for now (time-out, disk full, shutdown). Nothing was stored.

    The same call may succeed later. ``sqlstate`` is the server's code, where there is one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


class AppendOutcomeUnknown(EventStoreError):
    """The answer to an append or a commit was lost, and whether it is stored could not be found out in time.

    Appending the *same* event objects again with the same expected version is safe: they are stored once.
    """

    def __init__(self, stream_id: str, event_ids: Sequence[UUID]) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        super().__init__(
            f"the answer to an append of {len(self.event_ids)} event(s) to {stream_id!r} was lost: they may or may not "
            "be stored; append the same event objects again, they will be stored once"
        )
