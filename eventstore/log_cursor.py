"""A place in the log that a program keeps outside of the store: in a file, a header, another database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, cast
from uuid import UUID

from eventstore.core.logs import store_log as _log
from eventstore.errors import InvalidArgument
from eventstore.event import Event
from eventstore.store import AsyncEventStore, EventStore

_LONGEST_TRAIL = 128


@dataclass(frozen=True, slots=True)
class LogCursor:
    """A place in the log, which is compared with the log before reading resumes.

    A position alone does not say which log it belongs to. After a failover that lost the last events, or a restore,
    other events get the same positions, and whoever resumes above the old one skips them. A cursor also has the id of
    the event that it stands at, and those of some events before it, to step back along::

        cursor = LogCursor.parse(path.read_text()) if path.exists() else LogCursor()
        cursor = cursor.resume(store)
        for event in store.read_all(cursor.position):
            handle(event)
            cursor = cursor.at(event)
            path.write_text(str(cursor))

    Subscriptions keep their checkpoints in the store, where they are restored with the log, and need no cursor.
    """

    trail: Sequence[tuple[int, UUID]] = ()
    """At most 128 positions and the ids of their events, oldest first. The last one is the place. The gaps grow with
    the distance from it."""

    @property
    def position(self) -> int:
        """The position of the event that it stands at; 0 before the first one."""
        return self.trail[-1][0] if self.trail else 0

    def at(self, event: Event) -> Self:
        """Return the cursor at an event that was read after this one's. Raises InvalidArgument for another."""
        if event.position <= self.position:
            raise InvalidArgument(
                f"the cursor is at position {self.position}, and the event is at {event.position}: give it "
                "later events only"
            )
        return type(self)(_thinned((*self.trail, (event.position, event.event_id))))

    def resume(self, store: EventStore) -> Self:
        """Return this cursor, or the last place before it that the log still has, with a logged warning.

        Events above that place are read again, with other events at the positions where the log differs. Raises what
        EventStore.read_all does.
        """
        for length, (position, event_id) in self._places():
            found = next(iter(store.read_all(position - 1, to_position=position, limit=1)), None)
            if found is not None and found.event_id == event_id:
                return self._resumed(length)
        return self._resumed(0)

    async def resume_async(self, store: AsyncEventStore) -> Self:
        """As ``resume``, for an async store."""
        for length, (position, event_id) in self._places():
            found = await _first(store.read_all(position - 1, to_position=position, limit=1))
            if found is not None and found.event_id == event_id:
                return self._resumed(length)
        return self._resumed(0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that ``str`` wrote. Raises InvalidArgument for anything else."""
        try:
            found: object = json.loads(text)
            if not isinstance(found, list):
                raise TypeError("it is not a list")
            pairs = cast("list[tuple[object, str]]", found)
            trail = [(_checked_position(position), UUID(event_id)) for position, event_id in pairs]
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgument(f"not the text of a LogCursor: {error}") from error
        if any(before >= after for (before, _), (after, _) in pairwise(trail)):
            raise InvalidArgument("not the text of a LogCursor: its positions must rise")
        return cls(tuple(trail))

    def __str__(self) -> str:
        return json.dumps([(position, str(event_id)) for position, event_id in self.trail])

    def _places(self) -> Iterator[tuple[int, tuple[int, UUID]]]:
        """The trail from its end, each with the length of the trail that ends there."""
        return zip(range(len(self.trail), 0, -1), reversed(self.trail), strict=True)

    def _resumed(self, length: int) -> Self:
        if length == len(self.trail):
            return self
        found = type(self)(self.trail[:length])
        _log.warning(
            "the log does not have the event that the cursor saw at position %d: reading resumes above position %d",
            self.position,
            found.position,
            extra={"position": found.position},
        )
        return found


def _checked_position(position: object) -> int:
    if type(position) is not int or position < 1:
        raise ValueError(f"{position!r} is not a position")
    return position


def _thinned(trail: tuple[tuple[int, UUID], ...]) -> tuple[tuple[int, UUID], ...]:
    """A trail that has become too long: of pairs at nearly the same distance from its end the older one stays."""
    if len(trail) < _LONGEST_TRAIL:
        return trail
    newest, farthest = trail[-1][0], float("inf")
    kept: list[tuple[int, UUID]] = []
    for pair in trail:
        distance = newest - pair[0]
        if distance <= farthest:
            kept.append(pair)
            farthest = distance / 1.5
    return tuple(kept)


async def _first(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
