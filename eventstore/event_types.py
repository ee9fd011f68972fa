"""The stored names of events: which class has which, now or formerly, and which are known without a class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from eventstore.codec.registry import claim, former_names
from eventstore.codec.upcasting import declare_revision
from eventstore.names import check_name

if TYPE_CHECKING:
    from eventstore.event import Event

_event_classes: dict[str, type[Event]] = {}
"""The classes by their names, former ones too."""
_former_names: dict[type[Event], tuple[str, ...]] = {}
_ignored: set[str] = set()


def event_class(event_type: str) -> type[Event] | None:
    """The class that was defined with this event type, or had it formerly, if any."""
    return _event_classes.get(event_type)


def event_classes() -> list[type[Event]]:
    """All classes of events that are defined."""
    return list(dict.fromkeys(_event_classes.values()))


def claim_event_type(cls: type[Event], event_type: str, revision: object, formerly: Iterable[str]) -> int:
    """Enter a class of events under its names, and return its revision. Raises InvalidArgument, DuplicateType."""
    check_name(f"{cls.__qualname__}.event_type", event_type)
    former = former_names(cls, event_type, formerly)
    checked = declare_revision(cls, revision)
    claim(_event_classes, cls, (event_type, *former))
    _former_names[cls] = former
    return checked


def former_types_of(cls: type[Event]) -> tuple[str, ...]:
    """The names that events of a class were stored under before."""
    return _former_names[cls]


def stored_types(event_types: Iterable[str]) -> list[str]:
    """Event types, with every other name that events of the same classes are stored under."""
    found: dict[str, None] = {}
    for name in event_types:
        found[name] = None
        cls = event_class(name)
        if cls is not None:
            found |= dict.fromkeys((cls.event_type, *former_types_of(cls)))
    return list(found)


def ignore_types(event_types: Iterable[str]) -> None:
    """Note that the program knows these types, though they have no class."""
    _ignored.update(event_types)


def is_ignored(event_type: str) -> bool:
    """Whether a type needs no class, as an aggregate ignores it."""
    return event_type in _ignored
