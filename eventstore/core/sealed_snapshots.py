"""Snapshots of what personal data has made: sealed under the keys of all subjects that occur in it, or not taken."""

from __future__ import annotations

from typing import Any

from eventstore import codec
from eventstore.aggregate import Aggregate
from eventstore.codec.encoding import Ciphertext, packed_value
from eventstore.codec.personal import Path, Personal, PersonalValues, marks_of
from eventstore.codec.sealing import Keys, associated_data, opened, sealed_value
from eventstore.core.logs import repository_log as _log
from eventstore.core.requests import Operation
from eventstore.core.subject_keys import AnySubjectKeys, ciphers
from eventstore.errors import DeserializationError
from eventstore.store import Snapshot

MOST_SUBJECTS = 8
"""Subjects that may occur in a snapshot; each is one more layer of encryption around the state."""
_PLACE: Path = ("snapshot", "attributes")
_warned: set[type] = set()


def keys_to_take(aggregate: Aggregate[Any], keys: AnySubjectKeys | None) -> Operation[Keys | None]:
    """The keys to seal a snapshot with, empty if nothing in it is personal; None if none is to be taken."""
    subjects = {*aggregate._subjects, *_marked_subjects(aggregate)}
    if aggregate._unopened:
        return None  # Placeholders would be taken for what they stand for.
    if not subjects:
        return {}
    if "" in subjects or keys is None or len(subjects) > MOST_SUBJECTS:
        _warn(type(aggregate), "" in subjects, keys)
        return None
    found = yield from ciphers(keys, sorted(subjects), create=True)
    return None if None in found.values() else found  # Who is forgotten is not to come back out of a snapshot.


def _marked_subjects(aggregate: Aggregate[Any]) -> set[str]:
    """Whose data the fields of the class that are marked as personal hold; an empty text where nothing says that."""
    marks = marks_of(type(aggregate))
    found: set[str] = set()

    def note(subject: str | None, value: Any, personal: Personal, _: Path) -> Any:
        if subject is not None:
            found.add(subject)
        elif value != personal.placeholder and not aggregate._subjects:
            found.add("")
        return value

    if marks.personal:
        PersonalValues(type(aggregate).__qualname__, note).of_fields(marks, aggregate.__dict__, ("state",))
    return found


def _warn(cls: type, is_anonymous: bool, keys: AnySubjectKeys | None) -> None:
    if cls in _warned:
        return
    _warned.add(cls)
    if is_anonymous:
        why = "it has personal fields, and nothing says whose: mark a field with Subject"
    elif keys is None:
        why = "it has personal fields, and the store has no keys: give it subject_keys="
    else:
        why = f"its state holds personal data of more than {MOST_SUBJECTS} subjects"
    _log.warning("no snapshots of %s are taken: %s", cls.__qualname__, why)


def sealed_attributes(what: str, attributes: dict[str, Any], event_id: bytes, keys: Keys) -> Ciphertext:
    """The attributes of an aggregate, encrypted by one key after the other."""
    value: Any = attributes
    for subject, cipher in sorted(keys.items()):
        if cipher is not None:
            plaintext = packed_value(what, (), value)
            value = sealed_value(subject, cipher, plaintext, associated_data(event_id, _PLACE))
    return value if isinstance(value, Ciphertext) else Ciphertext(b"")


def subjects_of_snapshot(snapshot: Snapshot) -> list[str]:
    """Whose keys a snapshot is sealed under; none if it is not."""
    try:
        return [str(subject) for subject in codec.decode(snapshot.state, lenient=True, sealed=True)["subjects"]]
    except (DeserializationError, KeyError, TypeError):
        return []  # Whoever uses it finds out what is wrong.


def keys_to_use(subjects: list[str], keys: AnySubjectKeys | None) -> Operation[Keys | None]:
    """The keys that a snapshot is sealed under; None if it can't be opened any more, or not by this process."""
    if not subjects:
        return {}
    if keys is None:
        return None
    found = yield from ciphers(keys, subjects, create=False)
    return found if all(found.get(subject) for subject in subjects) else None


def opened_state(snapshot: Snapshot, keys: Keys) -> bytes:
    """The state of a snapshot, opened. Raises ValueError if it is damaged."""
    state = snapshot.state
    for _ in keys:
        state = opened(state, snapshot.event_id.bytes, _PLACE[0], keys).packed
    return state
