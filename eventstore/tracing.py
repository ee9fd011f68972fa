"""What caused what, across streams: ``trace(store, id)``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from eventstore import codec
from eventstore.codec.record import EVENT_ID, EVENT_TYPE, METADATA, POSITION, STREAM_ID, VERSION, Row, happened_at
from eventstore.context import CAUSATION_ID, CORRELATION_ID
from eventstore.core.asynchronous import AsyncRequestStore
from eventstore.core.blocking import RequestStore
from eventstore.core.operations import repeated
from eventstore.core.requests import Operation, ReadByIds, ReadRelated, Request
from eventstore.errors import DeserializationError, InvalidArgument
from eventstore.names import check_name

__all__ = ["Trace", "TracedEvent", "async_trace", "trace"]

MOST_EVENTS = 1_000
"""How many events one trace shows."""


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """An event of a trace, with what is known of its cause."""

    event_id: UUID
    event_type: str
    stream_id: str
    version: int
    position: int
    timestamp: datetime | None
    """When it happened; None for a moment that Python does not know."""
    correlation_id: Any
    """What its metadata says, or None."""
    causation_id: Any
    """What its metadata says, or None."""
    row: Row
    """The whole event, as it is stored."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Events that belong together, in the order of their positions."""

    events: tuple[TracedEvent, ...]
    complete: bool
    """Whether these are all; at most 1,000 are looked up."""

    def tree(self) -> Iterator[tuple[int, TracedEvent]]:
        """Each event after its cause, with how many causes of it stand above it."""
        known = {str(event.event_id) for event in self.events}
        effects: dict[str, list[TracedEvent]] = {}
        roots: list[TracedEvent] = []
        for event in self.events:
            cause = str(event.causation_id)
            (effects.setdefault(cause, []) if cause in known and cause != str(event.event_id) else roots).append(event)
        shown: set[UUID] = set()
        # What causes itself in a circle, as made-up metadata may say, has no root.
        for root in (*roots, *self.events):
            waiting = [(0, root)]
            while waiting:
                depth, event = waiting.pop()
                if event.event_id not in shown:
                    shown.add(event.event_id)
                    yield depth, event
                    below = effects.get(str(event.event_id), ())
                    waiting += [(depth + 1, effect) for effect in reversed(below)]


def trace(store: RequestStore, id: UUID | str) -> Trace:  # noqa: A002 whatever has it
    """Return the events that belong together with one event, or that have a correlation id.

    These are the events with the same ``correlation_id``, those that it was caused by, and those that any of them
    caused. A trace without events means that there is no such id.

    >>> store = InMemoryEventStore()
    >>> _ = store.append("Order-7", [OrderShipped(tracking_number="1Z", metadata={"correlation_id": "request-17"})], 0)
    >>> with causing(store.read("Order-7")[0]):
    ...     _ = store.append("Mail-1", [Event(event_type="MailSent")], 0)
    >>> for depth, event in trace(store, "request-17").tree():
    ...     print("  " * depth + event.event_type, event.stream_id)
    OrderShipped Order-7
      MailSent Mail-1

    Args:
        store: the store; not one in a transaction.
        id: the id of an event, or a correlation id.

    Raises:
        InvalidArgument: ``id`` is neither a UUID nor a valid text, or the store can't be asked for it.
    """
    if not isinstance(store, RequestStore):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"a {type(store).__name__} has no traces")
    return store.carry_out(_trace(id))


async def async_trace(store: AsyncRequestStore, id: UUID | str) -> Trace:  # noqa: A002
    """As trace, for an async store."""
    if not isinstance(store, AsyncRequestStore):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"a {type(store).__name__} has no traces")
    return await store.carry_out(_trace(id))


def _trace(id: UUID | str) -> Operation[Trace]:  # noqa: A002
    if not isinstance(id, UUID):
        check_name("id", id)
    found: dict[int, TracedEvent] = {}
    ids, correlations = _uuids([id]), {str(id)}
    asked_ids: set[UUID] = set()
    asked_causes: set[str] = set()
    asked_correlations: set[str] = set()
    while (new := ids - asked_ids) or correlations - asked_correlations:
        requests: list[Request[Sequence[Row]]] = [
            ReadByIds([each.bytes for each in sorted(new)]),
            ReadRelated(CORRELATION_ID, _encoded(correlations - asked_correlations), MOST_EVENTS + 1),
            ReadRelated(CAUSATION_ID, _encoded({str(each) for each in ids} - asked_causes), MOST_EVENTS + 1),
        ]
        asked_ids |= ids
        asked_correlations |= correlations
        asked_causes |= {str(each) for each in ids}
        for request in requests:
            rows: Sequence[Row] = yield from repeated(request)
            for row in rows:
                event = _traced(row)
                wanted = event.event_id in ids or str(event.correlation_id) in correlations
                if wanted or str(event.causation_id) in asked_causes:  # Not what only mentions an id somewhere.
                    found[event.position] = event
        if len(found) > MOST_EVENTS:
            break
        ids = ids | {event.event_id for event in found.values()}
        ids |= _uuids([event.causation_id for event in found.values()])
        correlations = correlations | {str(e.correlation_id) for e in found.values() if e.correlation_id is not None}
    events = [found[position] for position in sorted(found)]
    return Trace(tuple(events[:MOST_EVENTS]), len(events) <= MOST_EVENTS)


def _uuids(values: Collection[Any]) -> set[UUID]:
    found: set[UUID] = set()
    for value in values:
        try:
            found.add(value if isinstance(value, UUID) else UUID(str(value)))
        except ValueError:
            continue
    return found


def _encoded(ids: Collection[str]) -> list[bytes]:
    """Ids as they may be stored: as texts, and as UUIDs. A map's bytes without its head and key."""
    values: list[Any] = [*sorted(ids), *sorted(_uuids(ids))]
    return [codec.encode("id", {"": value})[2:] for value in values]


def _traced(row: Row) -> TracedEvent:
    try:
        metadata: dict[Any, Any] = codec.decode(row[METADATA], lenient=True, sealed=True)
    except DeserializationError:
        metadata = {}
    try:
        timestamp = happened_at(row)
    except DeserializationError:
        timestamp = None
    return TracedEvent(
        UUID(bytes=bytes(row[EVENT_ID])),
        row[EVENT_TYPE],
        row[STREAM_ID],
        row[VERSION],
        row[POSITION],
        timestamp,
        metadata.get(CORRELATION_ID),
        metadata.get(CAUSATION_ID),
        row,
    )
