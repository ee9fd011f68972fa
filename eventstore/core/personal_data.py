"""Personal data of events: sealed on its way into a record, opened on its way out. No I/O: the keys are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from eventstore.codec import EMPTY_MAP
from eventstore.codec.encoding import packed_value
from eventstore.codec.personal import Marks, Path, Personal, PersonalValues, marks_of, may_hold_personal, path_text
from eventstore.codec.record import DATA, EVENT_ID, METADATA, Row
from eventstore.codec.sealing import Keys, Opened, associated_data, is_sealed_in, opened, sealed_value
from eventstore.context import current_metadata
from eventstore.errors import ForgottenSubject, InvalidOperation, SerializationError
from eventstore.event import Event
from eventstore.event_types import event_class

_NO_MARKS = Marks({}, ())


@cache
def _is_marked(cls: Any) -> bool:
    return bool(marks_of(cls).personal or cls._personal_metadata)


def is_personal(event: Event) -> bool:
    """Whether an event may hold personal data."""
    cls: Any = event_class(event.event_type) if type(event) is Event else type(event)
    return may_hold_personal() or (cls is not None and _is_marked(cls))


def subjects_of(events: Iterable[Event]) -> list[str]:
    """Whose personal data events hold. Raises InvalidArgument for what can't be a subject, SerializationError."""
    found: set[str] = set()

    def note(subject: str | None, value: Any, *_: object) -> Any:
        if subject is not None:
            found.add(subject)
        return value

    caused = current_metadata()
    for event in events:
        if isinstance(event, Event) and is_personal(event):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            _visited(event, metadata_of(event, caused), PersonalValues(event.event_type, note))
    return sorted(found)


def metadata_of(event: Event, caused: Mapping[str, Any] | None) -> dict[Any, Any] | None:
    """The metadata that an event is stored with: its own, and that of the block around it, where it was not recorded.

    Made when it is first asked for: not there, it is empty.
    """
    metadata: dict[Any, Any] | None = event.__dict__.get("metadata")
    if caused is not None and "_caused" not in event.__dict__:
        return {**caused, **(metadata or {})}
    return metadata


def sealed_parts(
    event: Event, metadata: dict[Any, Any] | None, keys: Keys | None
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The data and the metadata of an event, in which personal values are encrypted.

    A value that is its placeholder already stays as it is if there is no key to seal it with.

    Raises ForgottenSubject; SerializationError for a personal value without a subject, and one that can't be stored.
    """
    what, event_id = event.event_type, event.event_id.bytes
    if event.sealed:
        raise SerializationError(
            what,
            event.sealed[0],
            "it shows a placeholder, which would be stored: the store that read the event could not open it",
        )

    def seal(subject: str | None, value: Any, personal: Personal, path: Path) -> Any:
        cipher = keys.get(subject) if keys is not None and subject is not None else None
        if cipher is not None and subject is not None:
            plaintext = packed_value(what, path[1:], value)
            return sealed_value(subject, cipher, plaintext, associated_data(event_id, path))
        if type(value) is type(personal.placeholder) and value == personal.placeholder:
            return value
        if subject is None:
            raise SerializationError(what, path_text(path[1:]), "it is personal, and nothing says whose it is")
        if keys is None:
            raise InvalidOperation(f"{what} holds personal data, and this store has no keys: give it subject_keys=")
        raise ForgottenSubject(subject)

    return _visited(event, metadata, PersonalValues(what, seal))


def _visited(
    event: Event, metadata: dict[Any, Any] | None, values: PersonalValues
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    cls = event_class(event.event_type) if type(event) is Event else type(event)
    marks = _NO_MARKS if cls is None else marks_of(cls)
    marked: Mapping[str, Personal] = {} if cls is None else cls._personal_metadata
    data = event.data
    made = values.of_fields(marks, data, ("data",))
    return made, values.of_metadata(marks, marked, data, metadata) if metadata else {}


def opened_data(row: Row, keys: Keys | None) -> Opened:
    """The data of a row, opened as far as there are keys. Raises ValueError."""
    return opened(row[DATA], row[EVENT_ID], "data", keys)


def opened_metadata(row: Row, keys: Keys | None) -> Opened:
    """The metadata of a row, opened as far as there are keys. Raises ValueError."""
    if row[METADATA] == EMPTY_MAP or not is_sealed_in(row[METADATA]):
        return Opened(row[METADATA], frozenset())
    return opened(row[METADATA], row[EVENT_ID], "metadata", keys)
