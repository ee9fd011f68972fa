"""Versions of streams: what an append expects, and what it returns."""

from __future__ import annotations

import enum
from typing import Self


class ExpectedVersion(enum.IntEnum):
    """Where an append expects the stream to be, other than at a certain version."""

    NO_STREAM = 0
    """The stream must not exist yet. The same as the version 0."""
    ANY = -1
    """Anywhere. Events that the stream holds already, by their ids, are not appended again."""
    STREAM_EXISTS = -2
    """Anywhere, but it must exist."""

    def __repr__(self) -> str:
        return f"ExpectedVersion.{self.name}"

    __str__ = __repr__


class StreamVersion(int):
    """The version of a stream, as an int that also knows the position of the event at that version.

    Appends and saves return one, so that a program can wait until a read model has seen its events::

        stored = orders.save(order)
        totals.wait_until_processed(stored.position)
    """

    position: int
    """The event's place in the log of all streams; 0 if the stream has no event, or none that a store has seen."""

    repeated: bool
    """Whether an earlier append had stored the events: the same ids, at the same place. An append may also be its own
    repetition, when the answer to its first attempt was lost."""

    def __new__(cls, version: int, position: int = 0, *, repeated: bool = False) -> Self:
        made = super().__new__(cls, version)
        made.position, made.repeated = position, repeated
        return made
