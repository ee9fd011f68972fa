"""Enums and dataclasses that may stand inside of events: found by registered name, never by importing a stored one."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, overload

from eventstore.codec.annotations import described, is_class_variable, own_annotations, resolved
from eventstore.codec.personal import note_type
from eventstore.codec.upcasting import chain_of, declare_revision, revision_of
from eventstore.errors import DuplicateType, InvalidArgument
from eventstore.names import check_name, check_names
from eventstore.signals import raised_by_a_signal

_T = TypeVar("_T", bound=type[Any])


class _Registration(NamedTuple):
    """How instances of a class are stored."""

    name: str
    formerly: tuple[str, ...]
    members: Mapping[str, str]


_classes: dict[str, type] = {}
"""The classes by their names, former ones too."""
_names: dict[type, _Registration] = {}
_learned: set[type] = set()
_lock = threading.RLock()
_NO_CLASS: Any = object()
"""Stands for the class where ``register_type`` is a decorator with arguments."""


@overload
def register_type(
    cls: _T,
    *,
    name: str | None = None,
    revision: int = 1,
    formerly: Iterable[str] = (),
    members: Mapping[str, str] | None = None,
) -> _T: ...
@overload
def register_type(
    *,
    name: str | None = None,
    revision: int = 1,
    formerly: Iterable[str] = (),
    members: Mapping[str, str] | None = None,
) -> Callable[[_T], _T]: ...
def register_type(
    cls: _T = _NO_CLASS,
    *,
    name: str | None = None,
    revision: int = 1,
    formerly: Iterable[str] = (),
    members: Mapping[str, str] | None = None,
) -> _T | Callable[[_T], _T]:
    """Let instances of an Enum or a dataclass stand in events and snapshots.

    Types that an event's or an aggregate's annotations mention are registered by themselves; this is for the others,
    for two of one name, and for what has changed. Also a decorator, with arguments or without.

    >>> @register_type(name="shop.Unit", formerly=["Unit"], members={"KILO": "KILOGRAM"})
    ... class Unit(Enum):
    ...     KILOGRAM = "kg"
    >>> encoded = Event(event_type="Weighed", data={"unit": Unit.KILOGRAM})
    >>> InMemoryEventStore().append("Scale-1", [encoded], 0)
    1

    Args:
        cls: the class.
        name: the name that instances are stored under; None: the class's own.
        revision: the revision of a dataclass, raised when its fields change so that older bytes need an upcaster.
        formerly: names that instances were stored under before.
        members: the former names of an Enum's members, each with the name that it has now.

    Raises:
        DuplicateType: the name, or a former one, belongs to another class.
        InvalidArgument: anything here is invalid.
    """
    if cls is _NO_CLASS:
        return partial(register_type, name=name, revision=revision, formerly=formerly, members=members)
    if not _is_storable(cls):
        raise InvalidArgument(f"{cls!r} is neither an Enum nor a dataclass: only those can be registered")
    name = check_name("name", cls.__name__ if name is None else name)
    registration = _Registration(name, former_names(cls, name, formerly), _former_members(cls, members))
    if isinstance(cls, enum.EnumMeta) and revision != 1:
        raise InvalidArgument(
            f"{cls.__qualname__} is an Enum, which has no revisions: map the former names of its members by members="
        )
    with _lock:
        claim(_classes, cls, (name, *registration.formerly))
        declare_revision(cls, revision)
        _names[cls] = registration
        if not isinstance(cls, enum.EnumMeta):
            note_type(cls)
    return cls


def former_names(cls: type, name: str, formerly: object) -> tuple[str, ...]:
    """Return the former names of a class that is called ``name`` now. Raises InvalidArgument."""
    found = tuple(dict.fromkeys(check_names(f"{cls.__qualname__}: formerly", formerly)))
    if name in found:
        raise InvalidArgument(f"{cls.__qualname__}: {name!r} is its name now, and can't be a former one as well")
    return found


def claim(classes: dict[str, Any], cls: type, names: Sequence[str]) -> None:
    """Enter a class under its names. Raises DuplicateType if another class has one of them.

    The same class may be defined again: a module reloaded, a notebook's cell run twice, a function called twice. It
    takes all names of the definition before.
    """
    before: set[type] = set()
    for name in names:
        owner = classes.get(name)
        if owner is None or owner is cls:
            continue
        if (owner.__module__, owner.__qualname__) != (cls.__module__, cls.__qualname__):
            raise DuplicateType(name, owner, cls)
        if name == names[0]:
            before.add(owner)
    for name in [name for name, owner in classes.items() if owner in before]:
        del classes[name]
    classes.update(dict.fromkeys(names, cls))


def _former_members(cls: type, members: Mapping[str, str] | None) -> Mapping[str, str]:
    if members is None:
        return {}
    if not isinstance(members, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"{cls.__qualname__}: members must be a mapping, not {type(members).__name__}")
    if not issubclass(cls, enum.Enum) or issubclass(cls, enum.Flag):
        what = "a Flag, whose values are stored" if issubclass(cls, enum.Flag) else "not an Enum"
        raise InvalidArgument(f"{cls.__qualname__} is {what}: members= is for an Enum, which is stored by names")
    for former, present in members.items():
        check_name(f"{cls.__qualname__}: a former member", former)
        if former in cls.__members__:
            raise InvalidArgument(
                f"{cls.__qualname__}: {former!r} is a member now, and can't be the former name of {present!r} as well"
            )
        if present not in cls.__members__:
            raise InvalidArgument(
                f"{cls.__qualname__}: {former!r} can't have become {present!r}, which is not a member: its members are "
                f"{', '.join(cls.__members__)}"
            )
    return dict(members)


def registered_name(cls: type) -> str | None:
    """The name that instances of this class are stored under, if it was registered."""
    registration = _names.get(cls)
    return None if registration is None else registration.name


def registered_classes() -> list[type]:
    """All registered classes."""
    return list(dict.fromkeys(_classes.values()))


def former_names_of(cls: type) -> tuple[str, ...]:
    """The names that instances of a registered class were stored under before."""
    return _names[cls].formerly


def former_members_of(cls: type) -> Mapping[str, str]:
    """The former names of a registered Enum's members, each with the present one."""
    return _names[cls].members


def registered_class(name: str) -> type | None:
    """The class that was registered under a stored name, if any."""
    return _classes.get(name)


def learn(cls: type) -> None:
    """Register the Enums and dataclasses that a class's annotations mention, and those that theirs do.

    Raises RevisionError if the upcasters of one of them, or of the class, are not complete.
    """
    if cls in _learned:
        return
    with _lock:
        for each in reachable(cls):
            if each is not cls and each not in _names:
                register_type(each)
            chain_of(each)
        _learned.add(cls)


def described_fields(cls: type) -> list[str]:
    """What a class consists of, in words: its annotated names with their types, and those of the types they mention.

    The words are the same on every Python and in every form of annotations, as processes share snapshots.
    """
    words: list[str] = []
    for current in reachable(cls):
        revision = revision_of(current)
        words.append(f"class {current.__name__}" if revision == 1 else f"class {current.__name__} {revision}")
        for base in current.__mro__:
            words += [
                f"{name}: {described(base, annotation)}"
                for name, annotation in own_annotations(base).items()
                if not is_class_variable(annotation)
            ]
    return words


def reachable(cls: type) -> list[type]:
    """A class, and the Enums and dataclasses that its annotations mention, directly or through others."""
    found = [cls]
    for current in found:
        found += dict.fromkeys(part for hint in _hints(current) for part in _storable(hint) if part not in found)
    return found


def _storable(hint: Any, aliases: tuple[object, ...] = ()) -> Iterator[type]:
    if hasattr(hint, "__value__") and hint not in aliases:  # `type Parts = list[Part]`, which may name itself.
        yield from _storable(hint.__value__, (*aliases, hint))
    for part in get_args(hint):
        yield from _storable(part, aliases)
    cls = get_origin(hint) or hint  # Of Box[int], Box.
    if _is_storable(cls):
        yield cls


def _is_storable(cls: object) -> bool:
    return isinstance(cls, enum.EnumMeta) or (isinstance(cls, type) and dataclasses.is_dataclass(cls))


def _hints(cls: type) -> list[Any]:
    """The annotations of a class, resolved where that is possible: names may be imported for type checkers only."""
    found: list[Any] = []
    for base in cls.__mro__:
        for annotation in own_annotations(base).values():
            if is_class_variable(annotation):
                continue  # It is not stored.
            try:
                found.append(resolved(base, annotation))
            except Exception as error:  # an annotation is any expression; a type that it hides can be registered
                if raised_by_a_signal(error):
                    raise
                found.append(annotation)
    return found
