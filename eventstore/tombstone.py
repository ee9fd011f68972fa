"""The events that mark their stream: the last one of a retired stream, and the one at which loads begin."""

from __future__ import annotations

from eventstore.errors import InvalidArgument
from eventstore.event import Event, detached


class Tombstone(Event):
    """The last event of a retired stream. ``EventStore.retire`` appends it, and followers read it like any other.

    ``reason`` says why the stream was retired.
    """

    event_type: str = "eventstore.Tombstone"
    reason: str


TOMBSTONE = Tombstone.event_type


def tombstone(reason: str) -> Tombstone:
    """The event that retires a stream. Raises InvalidArgument."""
    if not isinstance(reason, str) or not reason.strip():  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"reason must say why the stream is retired, not {reason!r}")
    return Tombstone(reason=reason)


def closing(event: Event) -> Event:
    """The event as one that closes its stream. Raises InvalidArgument."""
    if not isinstance(event, Event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"a stream is closed by one event, not by {type(event).__name__}")
    if isinstance(event, Tombstone):
        raise InvalidArgument("a tombstone can't close a stream: retire it instead")
    marked = detached(event)
    marked.__dict__["_closing"] = True
    return marked
