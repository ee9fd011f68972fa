"""A value of a type, out of the annotation alone: something that a class would store."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, get_args, get_origin
from uuid import UUID

from eventstore.codec.annotations import own_annotations, resolved
from eventstore.signals import raised_by_a_signal

_PLAIN: dict[Any, Any] = {
    bool: True,
    int: 1,
    float: 1.5,
    str: "text",
    bytes: b"bytes",
    UUID: UUID("018cc251-f400-7000-8000-000000000001"),
    Decimal: Decimal("1.50"),
    datetime: datetime(2024, 1, 1, 12, tzinfo=UTC),
    date: date(2024, 1, 1),
    time: time(12, 30),
    timedelta: timedelta(minutes=90),
    type(None): None,
    None: None,
}
_DEEPEST = 4


def sample_fields(cls: type, fields: Mapping[str, dataclasses.Field[Any]], depth: int = 0) -> dict[str, Any]:
    """A value for each field of a class."""
    return {name: _sample(hint_of(cls, field), depth) for name, field in fields.items()}


def sample_instance(cls: Any, depth: int = 0) -> Any:
    """An instance of a dataclass with a value for each field, made without its constructor."""
    made = object.__new__(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, value in sample_fields(cls, fields, depth + 1).items():
        object.__setattr__(made, name, value)
    return made


def hint_of(cls: type, field: dataclasses.Field[Any]) -> Any:
    """What the annotation of a field means; as it is where names in it are unknown."""
    try:
        return resolved(owner_of(cls, field.name), field.type)
    except Exception as error:  # an annotation is any expression, and its names may exist for type checkers only
        if raised_by_a_signal(error):
            raise
        return field.type


def owner_of(cls: type, name: str) -> type:
    """The class in whose body a field is annotated."""
    return next((base for base in cls.__mro__ if name in own_annotations(base)), cls)


def _sample(hint: Any, depth: int) -> Any:
    if isinstance(hint, collections.abc.Hashable) and hint in _PLAIN:
        return _PLAIN[hint]
    # `type Money = Decimal`; NewType; a TypeVar that is bound.
    for name in ("__value__", "__supertype__", "__bound__"):
        if getattr(hint, name, None) is not None:
            return _sample(getattr(hint, name), depth + 1)
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is typing.Literal:
        return parts[0]
    if origin is typing.Annotated:
        return _sample(parts[0], depth)
    if origin in {typing.Union, types.UnionType}:
        too_deep = type(None) in parts and depth > _DEEPEST
        return None if too_deep else _sample(next(p for p in parts if p is not type(None)), depth + 1)
    return _of_class(origin, parts, depth) if isinstance(origin, type) else _PLAIN[str]


def _of_class(cls: Any, parts: tuple[Any, ...], depth: int) -> Any:
    if issubclass(cls, enum.Enum):
        return next(iter(cls), None)
    if dataclasses.is_dataclass(cls):
        return sample_instance(cls, depth)
    if depth > _DEEPEST:
        parts = ()
    for kind, make in _CONTAINERS.items():
        if issubclass(cls, kind):
            return make([_sample(part, depth + 1) for part in parts if part is not Ellipsis])
    return _PLAIN[str]


_CONTAINERS: dict[type, Callable[[list[Any]], Any]] = {
    tuple: tuple,
    frozenset: frozenset,
    collections.abc.Set: set,
    collections.abc.Mapping: lambda pair: {pair[0]: pair[1]} if pair else {},
    collections.abc.Iterable: list,
}
