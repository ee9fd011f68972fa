"""Arrays of encoded elements, as parameters. psycopg's own way through lists costs several times as much.

The format is array_recv's: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from psycopg.adapt import Dumper
from psycopg.pq import Format

BYTEA, INT4, TEXT, TIMESTAMPTZ, UUID_ = (17, 1001), (23, 1007), (25, 1009), (1184, 1185), (2950, 2951)
"""Types by their oids: of an element, and of its array."""

_HEAD = struct.Struct(">iiIii").pack
_LENGTH = struct.Struct(">i").pack
_DIMENSIONS, _NO_NULLS, _LOWER_BOUND = 1, 0, 1


class Array:
    """One-dimensional, without nulls; its elements in PostgreSQL's binary format."""

    __slots__ = ("elements", "oids")

    def __init__(self, oids: tuple[int, int], elements: Sequence[bytes]) -> None:
        self.oids = oids
        self.elements = elements


class ArrayDumper(Dumper):
    """Dumps an Array with the oid of its type."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: Any) -> tuple[type, int]:  # type: ignore[override] # noqa: A002, ARG002 psycopg's name
        return (Array, obj.oids[1])

    def upgrade(self, obj: Array, format: Any) -> ArrayDumper:  # noqa: A002, ARG002
        dumper = ArrayDumper(Array)
        dumper.oid = obj.oids[1]
        return dumper

    def dump(self, obj: Array) -> bytes:
        parts = [_HEAD(_DIMENSIONS, _NO_NULLS, obj.oids[0], len(obj.elements), _LOWER_BOUND)]
        if not obj.elements:
            return struct.pack(">iiI", 0, _NO_NULLS, obj.oids[0])
        for element in obj.elements:
            parts.append(_LENGTH(len(element)))
            parts.append(element)
        return b"".join(parts)
