"""One row a request: its SQL, its parameters, and how rows become the reply.

Parameters are named after the request's fields, ``%(stream_id)b``, and are sent by place. Where they are computed, the
text has ``%b`` for each and the row has a function. Values come and go in binary; ids and timestamps as raw bytes,
which are decoded only on demand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

from eventstore.core.requests import Request
from eventstore.postgres.arrays import TEXT, Array, array
from eventstore.postgres.statements.schema import for_schema

R = TypeVar("R")
T = TypeVar("T")

Rows: TypeAlias = Sequence[Any]
"""The rows that a statement returned, plain tuples. A command that returns none has one row: its status."""
Parameters: TypeAlias = Sequence[Any]

_NAMED = re.compile(r"%\((\w+)\)b")


@dataclass(frozen=True, slots=True)
class Statement(Generic[R]):
    """How one kind of request is carried out."""

    kind: type[Request[R]]
    text: bytes
    parameters: Callable[[Any], Parameters]
    """The parameters for a request."""
    reply: Callable[[Rows], R]
    """The reply that the rows stand for."""
    when: Callable[[Any], bool] | None
    """Which requests of this kind it is for; None: for all that no statement before it is for."""
    conflict: R | None
    """The reply where another transaction was there first; None: that is an error."""

    def for_schema(self, schema: str) -> Statement[R]:
        """The statement for the tables and functions of one schema."""
        # A percent sign in a name would be read as the beginning of a parameter.
        return replace(self, text=for_schema(self.text.decode(), schema.replace("%", "%%")).encode())


def statement(
    kind: type[Request[R]],
    text: str,
    *,
    reply: Callable[[Rows], R],
    parameters: Callable[[Any], Parameters] | None = None,
    when: Callable[[Any], bool] | None = None,
    conflict: R | None = None,
) -> Statement[R]:
    """The statement for a kind of request. A type checker compares ``reply`` with what the request promises."""
    names = _NAMED.findall(text)
    return Statement(kind, _NAMED.sub("%b", text).encode(), parameters or _fields(names), reply, when, conflict)


def _fields(names: list[str]) -> Callable[[Any], Parameters]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda request: [getattr(request, name) for name in names]


def nothing(_: Rows) -> None:
    """The reply to a request that only changes something."""


def found(rows: Rows) -> bool:
    """Whether there is a row."""
    return bool(rows)


def value(_: type[T]) -> Callable[[Rows], T]:
    """The first value of the first row, which is of this type."""
    return _first


def optional_value(_: type[T]) -> Callable[[Rows], T | None]:
    """The first value of the first row, which may be NULL."""
    return _first


def _first(rows: Rows) -> Any:
    return rows[0][0]


def one(make: Callable[..., T]) -> Callable[[Rows], T]:
    """The first row, made into an object."""
    return lambda rows: make(*rows[0])


def optional(make: Callable[..., T]) -> Callable[[Rows], T | None]:
    """The first row, made into an object; None without rows."""
    return lambda rows: make(*rows[0]) if rows else None


def each(make: Callable[..., T]) -> Callable[[Rows], list[T]]:
    """Every row, made into an object."""
    return lambda rows: [make(*row) for row in rows]


def names(given: Sequence[str] | None) -> Array | None:
    """An array of texts, as a parameter."""
    return None if given is None else array(TEXT, [name.encode() for name in given])
