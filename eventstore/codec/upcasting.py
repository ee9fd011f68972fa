"""Revisions of classes, and the upcasters that turn what one revision stored into what the next one has.

An upcaster is a function from a dict to a dict. It sees nothing else, neither a store nor other values, so that what a
stored value means never depends on who reads it, or when.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, TypeVar, cast

from eventstore.errors import InvalidArgument, RevisionError
from eventstore.signals import raised_by_a_signal

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

_F = TypeVar("_F", bound=Upcaster)

MAX_REVISION = 32_767
"""The highest revision: the database keeps it in two bytes."""

_revisions: dict[type, int] = {}
_upcasters: dict[type, dict[int, Upcaster]] = {}
_chains: dict[type, tuple[Upcaster, ...]] = {}
"""The upcasters of each class in their order, once they were checked."""


class UpcastFailed(ValueError):
    """An upcaster raised, which is the cause then, or returned something that is not data."""


def declare_revision(cls: type, revision: object) -> int:
    """Note which revision of a class this program has, and return it. Raises InvalidArgument."""
    _revisions[cls] = checked = check_revision(f"{cls.__qualname__}: revision", revision)
    _chains.pop(cls, None)
    return checked


def check_revision(what: str, revision: object) -> int:
    """Return a number if it can be a revision; else raise InvalidArgument."""
    if type(revision) is not int:
        raise InvalidArgument(f"{what} must be an int, not {type(revision).__name__}")
    if not 1 <= revision <= MAX_REVISION:
        raise InvalidArgument(f"{what} must be from 1 to {MAX_REVISION}, not {revision}")
    return revision


def revision_of(cls: type) -> int:
    """The revision of a class that this program has: 1 unless the class says more."""
    return _revisions.get(cls, 1)


def upcasts(cls: type[Any], *, from_revision: int) -> Callable[[_F], _F]:
    """Declare a function as the upcaster of a class from one revision to the next.

    The function takes the data as ``from_revision`` stored it, a dict that it may change, and returns the data as the
    next revision has it. Values in it are those of the present classes; one whose class is gone is an
    ``Unregistered(name, value)``. The function must be pure: it is called whenever the data is read.

    >>> class ParcelWeighed(Event, revision=2):
    ...     grams: int
    >>> @upcasts(ParcelWeighed, from_revision=1)
    ... def _(data: dict[str, Any]) -> dict[str, Any]:
    ...     return {"grams": round(data["kilograms"] * 1000)}

    Raises:
        InvalidArgument: ``cls`` is neither a class of events nor a dataclass, or ``from_revision`` is not a revision.
        RevisionError: the class has another upcaster for this step already.
    """
    if isinstance(cls, enum.EnumMeta):
        raise InvalidArgument(
            f"{cls.__qualname__} is an Enum, which is stored by the names of its members: map former names by "
            "@register_type(members={...})"
        )
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
        raise InvalidArgument(f"@upcasts needs a class of events or a registered dataclass, not {cls!r}")
    if type(from_revision) is not int or not 1 <= from_revision < MAX_REVISION:
        raise InvalidArgument(f"from_revision must be an int from 1 to {MAX_REVISION - 1}, not {from_revision!r}")

    def declare(function: _F) -> _F:
        if not callable(function) or iscoroutinefunction(function):
            raise InvalidArgument(f"an upcaster must be a plain function from a dict to a dict, not {function!r}")
        steps = _upcasters.setdefault(cls, {})
        there = steps.get(from_revision)
        if there is not None and not _is_same(there, function):
            raise RevisionError(
                cls,
                from_revision,
                f"there are two upcasters from revision {from_revision}, in {_place(there)} and in {_place(function)}: "
                "remove one",
            )
        steps[from_revision] = function
        if _chains.pop(cls, None) is not None:
            chain_of(cls)
        return function

    return declare


def _is_same(one: Upcaster, other: Upcaster) -> bool:
    """Whether two functions are one that was defined again, as a module that is reloaded does."""
    code = getattr(one, "__code__", one)
    return bool(code == getattr(other, "__code__", other) and one.__module__ == other.__module__)


def _place(function: Upcaster) -> str:
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    return function.__module__ if line is None else f"{function.__module__}, line {line}"


def chain_of(cls: type) -> tuple[Upcaster, ...]:
    """The upcasters of a class in their order, one for each revision before its own. Raises RevisionError for a gap."""
    found = _chains.get(cls)
    if found is None:
        revision, steps = revision_of(cls), _upcasters.get(cls, {})
        for step in sorted(steps):
            if step >= revision:
                raise RevisionError(
                    cls,
                    step,
                    f"{_place(steps[step])} has an upcaster from revision {step}, but the class is at revision "
                    f"{revision}: give the class revision={step + 1}, or remove the upcaster",
                )
        for step in range(1, revision):
            if step not in steps:
                raise RevisionError(
                    cls,
                    step,
                    f"there is no upcaster from revision {step} to {step + 1}: add one with "
                    f"@upcasts({cls.__name__}, from_revision={step}), and import its module wherever the class is used",
                )
        found = _chains[cls] = tuple(steps[step] for step in range(1, revision))
    return found


def upcast(cls: type, values: dict[Any, Any], revision: int) -> dict[Any, Any]:
    """What a revision of a class stored, as the present one has it. Raises UpcastFailed, RevisionError."""
    chain = chain_of(cls)
    for step in range(revision, len(chain) + 1):
        try:
            made: object = chain[step - 1](values)
        except Exception as error:
            if raised_by_a_signal(error):
                raise
            raise UpcastFailed(f"{_step_of(cls, step)} raised {type(error).__name__}: {error}") from error
        if type(made) is not dict:
            raise UpcastFailed(f"{_step_of(cls, step)} returned {type(made).__name__}, not a dict")
        values = cast("dict[Any, Any]", made)
    if {*map(type, values)} != _TEXT and values:
        raise UpcastFailed(f"{_step_of(cls, len(chain))} returned a dict with keys that are not the names of fields")
    return values


_TEXT = {str}


def _step_of(cls: type, step: int) -> str:
    return f"the upcaster of {cls.__qualname__} from revision {step}"
