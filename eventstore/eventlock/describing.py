"""What a program stores: its classes of events, and the registered classes whose values may stand in them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from eventstore import codec
from eventstore.codec.annotations import described
from eventstore.codec.registry import (
    former_members_of,
    former_names_of,
    learn,
    reachable,
    registered_classes,
    registered_name,
)
from eventstore.codec.upcasting import revision_of, upcast
from eventstore.codec.values import is_required
from eventstore.core.records import decoded_data
from eventstore.errors import EventsLockError, EventStoreError, InvalidArgument, SerializationError
from eventstore.event import Event
from eventstore.event_types import event_classes, former_types_of
from eventstore.eventlock.samples import owner_of, sample_fields, sample_instance
from eventstore.eventlock.text import Lock, LockedType

VALUE = "value"
"""Under this name the sample of a registered dataclass stands in a map, as data is always one."""


def described_program(modules: Iterable[str], before: Lock | None = None) -> Lock:
    """What the classes of these modules, and of modules below them, are stored as.

    Samples of revisions that the program can't write any more are taken from the lock before. An instance at the top
    of one of the modules is the sample of its class; the others are made out of the annotations.

    Raises:
        InvalidArgument: there is no such module, or there is no class of events in one.
        RevisionError: the upcasters of a class don't fit together.
        EventsLockError: a sample can't be read any more.
    """
    names = tuple(dict.fromkeys(modules))
    loaded = [_module(name) for name in names]
    given: dict[type, Any] = {
        type(value): value for module in loaded for value in vars(module).values() if _is_instance(value)
    }
    events = sorted(
        (cls for cls in event_classes() if _belongs(cls, names)), key=lambda cls: (cls.__module__, cls.__qualname__)
    )
    for name in names:
        if not any(_belongs(cls, [name]) for cls in events):
            raise InvalidArgument(f"module {name!r} defines no class of events, and no module below it was imported")
    values: dict[type, None] = {}
    for cls in events:
        learn(cls)
        values |= dict.fromkeys(reachable(cls)[1:])
    values |= {cls: None for cls in registered_classes() if _belongs(cls, names)}
    types = {(True, cls.event_type): _event(cls, given.get(cls), before) for cls in events}
    types |= {(False, cast("str", registered_name(cls))): _value(cls, given.get(cls), before) for cls in values}
    return Lock(names, types)


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # A module that this one imports.
        raise InvalidArgument(f"there is no module {error.name!r}: name the modules that define the events") from None


def _is_instance(value: Any) -> bool:
    return not isinstance(value, type) and (isinstance(value, Event) or dataclasses.is_dataclass(value))


def _belongs(cls: type, modules: Iterable[str]) -> bool:
    return any(cls.__module__ == name or cls.__module__.startswith(f"{name}.") for name in modules)


def _event(cls: type[Event], given: Event | None, before: Lock | None) -> LockedType:
    fields = cls._fields or {}
    data = sample_fields(cls, fields) if given is None else given.data
    described_now = _described(cls, "event", former_types_of(cls), fields)
    return _with_samples(described_now, _before(before, True, (cls.event_type, *described_now.formerly)), cls, data)


def _value(cls: Any, given: Any, before: Lock | None) -> LockedType:
    formerly = former_names_of(cls)
    name = cast("str", registered_name(cls))
    if issubclass(cls, enum.Enum):
        is_flag = issubclass(cls, enum.Flag)
        members = {each: str(member.value) for each, member in cls.__members__.items()}
        return LockedType(
            "flag" if is_flag else "enum",
            _place(cls),
            formerly=formerly,
            members=members,
            former_members=former_members_of(cls),
        )
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given = sample_instance(cls) if given is None else given
    described_now = _described(cls, "dataclass", formerly, fields)
    return _with_samples(described_now, _before(before, False, (name, *formerly)), cls, {VALUE: given})


def _described(
    cls: type, kind: str, formerly: tuple[str, ...], fields: Mapping[str, dataclasses.Field[Any]]
) -> LockedType:
    return LockedType(
        kind,
        _place(cls),
        revision_of(cls),
        formerly,
        {name: described(owner_of(cls, name), field.type) for name, field in fields.items()},
        tuple(name for name, field in fields.items() if not is_required(field)),
    )


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _before(lock: Lock | None, is_event: bool, names: Iterable[str]) -> LockedType | None:
    """What a lock says of a class, under whichever of its names."""
    if lock is None:
        return None
    return next((lock.types[is_event, name] for name in names if (is_event, name) in lock.types), None)


def _with_samples(now: LockedType, before: LockedType | None, cls: type, data: dict[str, Any]) -> LockedType:
    samples = dict(before.samples) if before else {}
    changed = before is None or before.revision != now.revision or before.fields != now.fields
    if changed or now.revision not in samples:
        try:
            packed = codec.encode(now.cls, data)
        except SerializationError:
            pass  # What no annotation tells: an instance in the module would.
        else:
            samples[now.revision] = tuple(dict.fromkeys((*samples.get(now.revision, ()), packed)))
    reads = {
        revision: tuple(_packed_again(now, cls, each, revision) for each in packed)
        for revision, packed in samples.items()
        if revision < now.revision
    }
    return dataclasses.replace(now, samples=samples, reads=reads)


def _packed_again(now: LockedType, cls: type, sample: bytes, revision: int) -> bytes:
    try:
        return codec.encode(now.cls, read_sample(now.kind, cls, sample, revision))
    except EventStoreError as error:
        raise EventsLockError(
            now.cls,
            f"the sample of revision {revision} can't be read: {error}. If it is not what the program stores, take the "
            "lock file of that revision, put an instance with real values into the module, and lock again",
        ) from error


def read_sample(kind: str, cls: Any, sample: bytes, revision: int) -> dict[str, Any]:
    """What a sample is read as, without the defaults of what it lacks. Raises EventStoreError."""
    if kind != "event":
        return codec.decode(sample)
    read = decoded_data(cls.event_type, revision, sample)
    stored = upcast(cls, codec.decode(sample, lenient=True), revision)
    return {name: value for name, value in read.items() if name in stored}
