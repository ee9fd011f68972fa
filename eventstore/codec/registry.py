"""Enums and dataclasses that may stand inside of events: found by registered name, never by importing a stored one."""

from __future__ import annotations

import dataclasses
import enum
import threading
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from eventstore.codec.annotations import described, is_class_variable, own_annotations, resolved
from eventstore.errors import DuplicateType, InvalidArgument
from eventstore.names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = TypeVar("_T", bound=type[Any])

_classes: dict[str, type] = {}
_names: dict[type, str] = {}
_learned: set[type] = set()
_lock = threading.RLock()


def register_type(cls: _T, *, name: str | None = None) -> _T:
    """Let instances of an Enum or a dataclass stand in events and snapshots, stored under ``name`` (the class's own).

    Types that an event's or an aggregate's annotations mention are registered by themselves; this is for the others,
    and for two of one name. Also a decorator. Raises DuplicateType if the name belongs to another class.
    """
    if not _is_storable(cls):
        raise InvalidArgument(f"{cls!r} is neither an Enum nor a dataclass: only those can be registered")
    name = check_name("name", cls.__name__ if name is None else name)
    with _lock:
        owner = _classes.get(name)
        # The same class defined again: a module reloaded, a function called twice.
        if owner and owner is not cls and (owner.__module__, owner.__qualname__) != (cls.__module__, cls.__qualname__):
            raise DuplicateType(name, owner, cls)
        _classes[name] = cls
        _names[cls] = name
    return cls


def registered_name(cls: type) -> str | None:
    """The name that instances of this class are stored under, if it was registered."""
    return _names.get(cls)


def registered_class(name: str) -> type | None:
    """The class that was registered under a stored name, if any."""
    return _classes.get(name)


def learn(cls: type) -> None:
    """Register the Enums and dataclasses that a class's annotations mention, and those that theirs do."""
    if cls in _learned:
        return
    with _lock:
        for mentioned in _reachable(cls)[1:]:
            if mentioned not in _names:
                register_type(mentioned)
        _learned.add(cls)


def described_fields(cls: type) -> list[str]:
    """What a class consists of, in words: its annotated names with their types, and those of the types they mention.

    The words are the same on every Python and in every form of annotations, as processes share snapshots.
    """
    words: list[str] = []
    for current in _reachable(cls):
        words.append(f"class {current.__name__}")
        for base in current.__mro__:
            words += [
                f"{name}: {described(base, annotation)}"
                for name, annotation in own_annotations(base).items()
                if not is_class_variable(annotation)
            ]
    return words


def _reachable(cls: type) -> list[type]:
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
            try:
                found.append(resolved(base, annotation))
            except Exception:  # noqa: BLE001 an annotation is any expression; a type that it hides can be registered
                found.append(annotation)
    return found
