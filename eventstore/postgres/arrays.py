"""Arrays of encoded elements, as parameters. psycopg's own way through lists costs several times as much.

The format is array_recv's: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Dumper
from psycopg.pq import Format

_HEAD = struct.Struct(">iiIii").pack
_EMPTY = struct.Struct(">iiI").pack
_LENGTH = struct.Struct(">i").pack
_DIMENSIONS, _NO_NULLS, _LOWER_BOUND = 1, 0, 1


class Array(bytes):
    """One-dimensional, without nulls, in PostgreSQL's binary format. A class below this one for each type."""

    element_oid: ClassVar[int]
    oid: ClassVar[int]

    @classmethod
    def of(cls, elements: Sequence[bytes]) -> Self:
        """The array of these elements, each in PostgreSQL's binary format."""
        if not elements:
            return cls(_EMPTY(0, _NO_NULLS, cls.element_oid))
        parts = [_HEAD(_DIMENSIONS, _NO_NULLS, cls.element_oid, len(elements), _LOWER_BOUND)]
        for element in elements:
            parts += _LENGTH(len(element)), element
        return cls(b"".join(parts))


class ByteaArray(Array):
    element_oid, oid = 17, 1001


class Int4Array(Array):
    element_oid, oid = 23, 1007


class TextArray(Array):
    element_oid, oid = 25, 1009

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Self:
        return cls.of([text.encode() for text in texts])


class TimestamptzArray(Array):
    element_oid, oid = 1184, 1185


class UuidArray(Array):
    element_oid, oid = 2950, 2951


def _with_arrays() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    for cls in Array.__subclasses__():
        dumper = type(f"{cls.__name__}Dumper", (_AsItIs,), {"oid": cls.oid})
        adapters.register_dumper(cls, dumper)
    return adapters


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj


ADAPTERS = _with_arrays()
"""What all statements are sent and read with, whatever was registered on a connection of the caller's."""
