"""Snapshots of aggregates: how one is taken, and when one is void. No I/O."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from typing import Any, TypeVar, cast
from uuid import UUID

from eventstore import codec
from eventstore.aggregate import Aggregate
from eventstore.codec.registry import described_fields, registered_class, registered_name
from eventstore.codec.sealing import Keys
from eventstore.codec.values import IMMUTABLE
from eventstore.core.sealed_snapshots import opened_state, sealed_attributes
from eventstore.errors import SerializationError, SnapshotError
from eventstore.signals import raised_by_a_signal
from eventstore.store import Snapshot
from eventstore.versions import StreamVersion

A = TypeVar("A", bound=Aggregate[Any])


def snapshot_of(aggregate: Aggregate[Any], keys: Keys | None = None) -> Snapshot:
    """A snapshot of an aggregate without pending events. Raises SerializationError for state that can't be stored.

    With ``keys`` it is sealed under all of them.
    """
    cls = type(aggregate)
    class_schema = cls.class_schema()  # First: it registers the types that the class mentions.
    attributes = aggregate.snapshot_state()
    what = f"snapshot of {cls.category} {aggregate.id}"
    held = {cast("str", registered_name(each)): _fingerprint(each) for each in _registered_types(what, attributes)}
    content: dict[str, Any] = {"attributes": attributes, "initial": _initial(cls(aggregate.id)), "types": held}
    if keys:
        event_id = cast("UUID", aggregate._event_id).bytes
        content["attributes"] = sealed_attributes(what, attributes, event_id, keys)
        content["subjects"] = sorted(keys)
    state = codec.encode(what, content)
    unsigned = Snapshot(
        aggregate_type=cls.category,
        aggregate_id=str(aggregate.id),
        class_schema=class_schema,
        version=aggregate.version,
        event_id=cast("UUID", aggregate._event_id),
        state=state,
        checksum=b"",
    )
    return dataclasses.replace(unsigned, checksum=checksum_of(unsigned))


def aggregate_from(cls: type[A], aggregate_id: UUID | str, snapshot: Snapshot, keys: Keys | None = None) -> A:
    """The aggregate that a snapshot holds. ``keys`` are those that it is sealed under.

    Raises SnapshotError if the snapshot is damaged, of another aggregate, or was taken when the class, or a class
    whose instances the state holds, had other fields. Whether it belongs to this stream is for its reader to check:
    the event at its version must have its event id.
    """
    what = f"the snapshot of {cls.category} {aggregate_id}"
    if snapshot.class_schema != cls.class_schema():
        raise SnapshotError(f"{what} was taken of other fields than {cls.__name__} has now")
    if snapshot.checksum != checksum_of(snapshot):
        raise SnapshotError(f"{what} is damaged")
    if (snapshot.aggregate_type, snapshot.aggregate_id) != (cls.category, str(aggregate_id)):
        raise SnapshotError(f"{what} is of {snapshot.aggregate_type} {snapshot.aggregate_id}")
    try:
        aggregate = cls(aggregate_id)
        state = codec.decode(opened_state(snapshot, keys) if keys else snapshot.state)
        if state["initial"] != _initial(aggregate):
            raise SnapshotError(f"{what} was taken when a new {cls.__name__} had other attributes")
        for name, fingerprint in state["types"].items():
            if (held := registered_class(name)) is None or _fingerprint(held) != fingerprint:
                raise SnapshotError(f"{what} was taken when {name} had other fields")
        aggregate.restore_state(state["attributes"])
    except SnapshotError:
        raise
    except Exception as error:  # also what a restore_state of the application's raises
        if raised_by_a_signal(error):
            raise
        raise SnapshotError(f"{what} can't be used: {error}") from error
    aggregate._version, aggregate._event_id = StreamVersion(snapshot.version), snapshot.event_id
    aggregate._subjects |= set(keys or ())
    return aggregate


def _initial(aggregate: Aggregate[Any]) -> str:
    """A fingerprint of what a new instance has, by names and types: including those that only its ``__init__`` sets."""
    attributes = sorted((name, type(value).__qualname__) for name, value in aggregate.snapshot_state().items())
    return _digest(f"{name}: {kind}" for name, kind in attributes)


def _registered_types(what: str, value: Any) -> Iterable[type]:
    """The Enums and dataclasses whose instances stand in a value, however deep.

    Raises SerializationError if it holds an object that changes at two places: from a snapshot they would come back as
    two, and an event that changes the one would leave the other as it was.
    """
    found: dict[type, None] = {}
    unseen: list[Any] = [value]
    met: dict[int, Any] = {}
    while unseen:
        current = unseen.pop()
        kind = cast("type[Any]", type(current))
        if _changes(kind):
            if id(current) in met:
                raise SerializationError(what, "", f"it holds one {kind.__name__} at two places, as one object")
            met[id(current)] = current
        if kind is dict:
            unseen += (each for pair in current.items() for each in pair if type(each) not in IMMUTABLE)
        elif kind in {list, tuple, set, frozenset}:
            unseen += (each for each in current if type(each) not in IMMUTABLE)
        elif registered_name(kind) is not None:
            found[kind] = None
            unseen += _fields_of(current)
    return found


def _changes(kind: type[Any]) -> bool:
    """Whether objects of a type change."""
    if kind in {dict, list, set}:
        return True
    parameters = kind.__dict__.get("__dataclass_params__")
    return parameters is not None and not parameters.frozen


def _fields_of(value: Any) -> Iterator[Any]:
    if not isinstance(value, enum.Enum):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name, None)


@cache
def _fingerprint(cls: type) -> str:
    return _digest(described_fields(cls))


def _digest(lines: Iterable[str]) -> str:
    return blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def checksum_of(snapshot: Snapshot) -> bytes:
    """BLAKE2b of all that a snapshot says, each part with its length before it."""
    digest = blake2b(digest_size=16)
    for part in (
        snapshot.aggregate_type.encode(),
        snapshot.aggregate_id.encode(),
        snapshot.class_schema.encode(),
        str(snapshot.version).encode(),
        snapshot.event_id.bytes,
        snapshot.state,
    ):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
