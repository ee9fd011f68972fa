"""Whether this program can read what is stored: page by page, what it counts and what it can't read. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eventstore import codec
from eventstore.codec.record import DATA, EVENT_TYPE, POSITION, REVISION, TIMESTAMP, UTC_OFFSET, Row, happened_at
from eventstore.codec.registry import registered_class
from eventstore.core.records import decode_each
from eventstore.errors import DeserializationError
from eventstore.event import Event
from eventstore.event_types import event_class, is_ignored


@dataclass(frozen=True)
class Trouble:
    """Events of one type and revision that can't be read for one kind of reason."""

    event_type: str
    revision: int
    kind: str
    """The name of the error's class, and that of its cause."""
    events: int
    first_position: int
    first_error: str


class Verification:
    """What was found in the pages so far."""

    def __init__(self) -> None:
        self.events = 0
        self.position = 0
        self.types: Counter[tuple[str, int]] = Counter()
        """Events, by stored type and revision."""
        self.missing: dict[str, int] = {}
        """Names of registered classes that are stored and that this program lacks, with the first position of each."""
        self._troubles: dict[tuple[str, int, str], Trouble] = {}

    def take(self, page: Sequence[Row]) -> None:
        """Read a page as a program does, and note what can't be read."""
        if not page:
            return
        types = Counter((row[EVENT_TYPE], row[REVISION]) for row in page)
        self.types += types
        self.events += len(page)
        self.position = page[-1][POSITION]
        try:
            for row in page:
                _check_time(row)
            self._read(page, types)
        except DeserializationError:
            self._read_singly(page, types)

    @property
    def troubles(self) -> list[Trouble]:
        """What can't be read, by the first position of each kind."""
        return sorted(self._troubles.values(), key=lambda trouble: trouble.first_position)

    @property
    def unreadable(self) -> int:
        """How many events can't be read."""
        return sum(trouble.events for trouble in self._troubles.values())

    def unreadable_of(self, event_type: str, revision: int) -> int:
        """How many events of one type and revision can't be read."""
        return sum(
            trouble.events
            for trouble in self._troubles.values()
            if (trouble.event_type, trouble.revision) == (event_type, revision)
        )

    @property
    def unknown_types(self) -> list[str]:
        """The stored types that have no class here, and that no aggregate ignores."""
        found = {event_type for event_type, _ in self.types}
        return sorted(each for each in found if event_class(each) is None and not is_ignored(each))

    def _read(self, rows: Iterable[Row], types: Iterable[tuple[str, int]]) -> None:
        plain = any(event_class(event_type) is None for event_type, _ in types)
        for event in decode_each(rows, strict=False):
            if plain and type(event) is Event:
                self._note_missing(event.data, event.position)

    def _read_singly(self, page: Iterable[Row], types: Iterable[tuple[str, int]]) -> None:
        for row in page:
            try:
                _check_time(row)
                self._read([row], types)
            except DeserializationError as error:
                self._note(row, error)

    def _note(self, row: Row, error: DeserializationError) -> None:
        kind = type(error).__name__
        if error.__cause__ is not None:
            kind += f" ({type(error.__cause__).__name__})"
        key = row[EVENT_TYPE], row[REVISION], kind
        before = self._troubles.get(key) or Trouble(*key, 0, row[POSITION], str(error))
        self._troubles[key] = Trouble(*key, before.events + 1, before.first_position, before.first_error)
        with suppress(DeserializationError):  # Damaged bytes name nothing.
            self._note_missing(codec.decode(row[DATA], lenient=True, sealed=True), row[POSITION])

    def _note_missing(self, value: Any, position: int) -> None:
        for each in codec.unregistered(value):
            if registered_class(each.name) is None:
                self.missing.setdefault(each.name, position)


def _check_time(row: Row) -> None:
    """Raise DeserializationError for a time that Python does not know, such as year 10,000."""
    # The first byte says whether it is within some thousand years: then nothing is made of it, which takes long.
    if row[TIMESTAMP][0] not in _WITHIN_MILLENNIA or abs(row[UTC_OFFSET]) >= _DAY:
        happened_at(row)


_DAY = 86_400
_WITHIN_MILLENNIA = frozenset({0xFF, 0x00, 0x01, 0x02})
