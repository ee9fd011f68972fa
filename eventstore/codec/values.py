"""Values and fields that events hold: copies of those that change, and UUIDs and time zones made quickly."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast
from uuid import UUID, SafeUUID

IMMUTABLE: frozenset[type] = frozenset(
    {str, int, float, bool, type(None), bytes, UUID, Decimal, date, datetime, time, timedelta}
)
"""The types themselves: a class below one of them may well have attributes that change."""

MAX_COLLISIONS = 100
"""How many members of one set, or keys of one dict, may share their hash with another one.

Integers (Decimals and UUIDs too) that differ by a multiple of 2**61 - 1 have the same hash in every process. Python
compares each of them with all others: 100,000 of them, one megabyte, would take minutes.
"""

MICROSECOND = timedelta(microseconds=1)
"""A number times this is made in half the time of ``timedelta(microseconds=number)``."""


class Sealed:
    """Stands for a personal value that could not be opened, in the data that upcasters and plain events have.

    Its subject was forgotten, or the store that read it has no keys. An upcaster passes it on as it is, to whichever
    field the value belongs to now. ``subject`` says whose it is.
    """

    __slots__ = ("_ciphertext", "subject")

    def __init__(self, subject: str, ciphertext: bytes = b"") -> None:
        self.subject = subject
        self._ciphertext = ciphertext

    def __repr__(self) -> str:
        return "<sealed>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self.subject == other.subject

    def __hash__(self) -> int:
        return hash(self.subject)


_UNKNOWN = SafeUUID.unknown
_set_int, _set_safety = (UUID.__dict__[name].__set__ for name in ("int", "is_safe"))


def uuid_of(number: int) -> UUID:
    """``UUID(int=number)``, in a third of its time, for numbers that are known to be in its range."""
    made = object.__new__(UUID)
    _set_int(made, number)
    _set_safety(made, _UNKNOWN)
    return made


def copied(value: Any, copies: dict[int, Any]) -> Any:
    """``copy.deepcopy(value, copies)``, in a tenth of its time for what events hold.

    Args:
        value: the value; what it holds more than once, itself included, is copied once.
        copies: the copy of each object by its ``id``; an empty dict to begin with.
    """
    kind = cast("type[object]", type(value))
    if kind in IMMUTABLE:
        return value
    if kind is dict:
        if (made := copies.get(id(value))) is None:
            made = copies[id(value)] = cast("dict[Any, Any]", {})
            for key, item in value.items():  # What can't change is passed over here: a call would double the time.
                copy_of = item if type(item) in IMMUTABLE else copied(item, copies)
                made[key if type(key) in IMMUTABLE else copied(key, copies)] = copy_of
        return made
    if kind is list:
        if (made := copies.get(id(value))) is None:
            made = copies[id(value)] = cast("list[Any]", [])
            for item in value:
                made.append(item if type(item) in IMMUTABLE else copied(item, copies))
        return made
    return copy.deepcopy(value, copies)


@lru_cache(maxsize=256)
def fixed_zone(utc_offset: int) -> timezone:
    """The zone that is so many seconds east of UTC."""
    return timezone(timedelta(seconds=utc_offset)) if utc_offset else UTC


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has neither a default nor a factory of one."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value of a field that is not required, where none is given."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def check_hashes(members: Collection[Any]) -> None:
    """Raise ValueError for members of a set, or keys of a dict, too many of which have one hash."""
    if len(members) > MAX_COLLISIONS and len(members) - len({hash(each) for each in members}) > MAX_COLLISIONS:
        raise ValueError(f"more than {MAX_COLLISIONS} members of one set, or keys of one map, share a hash")
