"""Commands that may be delivered more than once: the events that one records have ids that follow from its own."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID, uuid5

from eventstore.errors import InvalidArgument
from eventstore.event import Event, detached
from eventstore.names import check_name

_NAMESPACE = UUID("7d2c1c52-6f3b-5d0e-9a53-1f6e8d0b2a47")
"""Of the version 5 UUIDs (RFC 9562) that events of commands have."""


class Command:
    """A command's id, in one stream. Raises InvalidArgument for what is neither a UUID nor a text."""

    def __init__(self, command_id: UUID | str, stream_id: str) -> None:
        if not isinstance(command_id, (UUID, str)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"command_id must be a UUID or a str, not {type(command_id).__name__}")
        if isinstance(command_id, str):
            check_name("command_id", command_id)
        # No name holds a NUL, so that no two pairs give one text.
        self._text = f"{stream_id}\0{command_id}\0"

    @property
    def mark(self) -> UUID:
        """The id of its first event, by which the stream shows that the command was carried out."""
        return self._event_id(1)

    def identify(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """The events of the command with the ids that they have whenever it is carried out."""
        return tuple(self._identified(event, number) for number, event in enumerate(events, 1))

    def _identified(self, event: Event, number: int) -> Event:
        identified = detached(event)
        identified.__dict__.update(event_id=self._event_id(number), _id_given=True)  # The class may be frozen.
        return identified

    def _event_id(self, number: int) -> UUID:
        return uuid5(_NAMESPACE, f"{self._text}{number}")
