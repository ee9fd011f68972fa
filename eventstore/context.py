"""Who causes what: metadata that the events recorded inside a block get by themselves."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final
from uuid import UUID

from eventstore import codec
from eventstore.codec.values import copied
from eventstore.errors import InvalidArgument
from eventstore.event import Event, detached
from eventstore.names import check_name

__all__ = ["causing"]

CORRELATION_ID: Final = "correlation_id"
CAUSATION_ID: Final = "causation_id"


class _Cause:
    """One block, inside others. An event's metadata is decoded only if something is recorded in its block."""

    __slots__ = ("_event", "_given", "_metadata", "_outer")

    def __init__(self, outer: _Cause | None, event: Event | None, given: Mapping[str, Any]) -> None:
        self._outer, self._event, self._given = outer, event, given
        self._metadata: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            found = {} if self._outer is None else {**self._outer.metadata}
            if self._event is not None:
                found[CORRELATION_ID] = self._event.metadata.get(CORRELATION_ID, self._event.event_id)
                found[CAUSATION_ID] = self._event.event_id
            self._metadata = {**found, **self._given}
        return self._metadata


_current: ContextVar[_Cause | None] = ContextVar("eventstore_cause", default=None)


@contextmanager
def causing(
    event: Event | None = None,
    /,
    *,
    correlation_id: UUID | str | None = None,
    causation_id: UUID | str | None = None,
    **metadata: Any,
) -> Generator[None, None, None]:
    """Give metadata to every event that is recorded or appended inside the block, in this thread or task.

    What an event's own metadata says wins, then what ``save`` and ``update`` are given as ``metadata``, then the
    innermost block. Handlers of subscriptions and projections run inside ``causing(event)`` by themselves. A block can
    also decorate a function. Threads that you start inside a block are outside of it.

    >>> store = InMemoryEventStore()
    >>> with causing(correlation_id="request-17", user="ann"):
    ...     _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
    >>> store.read("Order-7")[0].metadata
    {'correlation_id': 'request-17', 'user': 'ann'}

    Args:
        event: the event that is the cause. Its id becomes the ``causation_id``; its ``correlation_id``, or its id if it
            has none, becomes the ``correlation_id``.
        correlation_id: what everything has in common that follows from one request, message or command.
        causation_id: the id of the event or message that is the direct cause.
        metadata: anything else that can be stored, such as the user.

    Raises:
        InvalidArgument: an id is neither a UUID nor a valid text, or ``event`` is not an Event.
        SerializationError: a value can't be stored.
    """
    if event is not None and not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(
            f"causing() takes an event, and everything else by name, as in causing(user='ann'): "
            f"not {type(event).__name__}"
        )
    given: dict[str, Any] = {}
    for name, value in ((CORRELATION_ID, correlation_id), (CAUSATION_ID, causation_id)):
        if value is not None:
            given[name] = value if isinstance(value, UUID) else check_name(name, value)
    given |= copied(metadata, {})
    codec.encode("metadata of causing()", given)
    token = _begin(event, given)
    try:
        yield
    finally:
        _current.reset(token)


def _begin(event: Event | None, given: Mapping[str, Any]) -> Token[_Cause | None]:
    return _current.set(_Cause(_current.get(), event, given))


def begin(correlation_id: str) -> None:
    """As ``causing`` does, until the end of the whole context: the caller runs in a copy that it drops."""
    _begin(None, {CORRELATION_ID: correlation_id})


class handling:  # noqa: N801 a block like causing
    """``causing(event)``, as cheap as it can be, for those who hand events to handlers one after the other."""

    __slots__ = ("_cause", "_token")
    _token: Token[_Cause | None]

    def __init__(self, event: Event) -> None:
        self._cause = _Cause(_current.get(), event, {})

    def __enter__(self) -> None:
        self._token = _current.set(self._cause)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def current_metadata() -> Mapping[str, Any] | None:
    """What events get as metadata here; None outside of any block."""
    cause = _current.get()
    return None if cause is None else cause.metadata


def in_context(event: Event) -> Event:
    """The event with the block's metadata beside its own, which wins; the same event outside of any block.

    Its attribute ``_caused`` names what it did not have itself.
    """
    metadata = current_metadata()
    if metadata is None:
        return event
    added = detached(event)
    own = added.metadata
    added.__dict__.update(metadata={**metadata, **own}, _caused=tuple(metadata.keys() - own.keys()))
    return added


def with_metadata(event: Event, metadata: Mapping[str, Any]) -> Event:
    """The event with metadata beside its own, which wins, and in place of what a block gave it."""
    added = detached(event)
    found = added.metadata
    caused = added.__dict__.get("_caused", ())
    own = {name: value for name, value in found.items() if name not in caused}
    added.__dict__["metadata"] = {**found, **metadata, **own}
    return added
