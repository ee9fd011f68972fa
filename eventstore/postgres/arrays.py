"""Arrays of encoded elements, as parameters. psycopg's own way through lists costs several times as much.

The format is array_recv's: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Dumper
from psycopg.pq import Format

BYTEA, INT2, INT4, INT8, TEXT, TIMESTAMPTZ, UUID_ = 17, 21, 23, 20, 25, 1184, 2950
"""The types of elements, by the numbers that pg_type has for them everywhere."""

_HEAD = struct.Struct(">iiIii").pack
_EMPTY = struct.Struct(">iiI").pack
_LENGTH = struct.Struct(">i").pack
_DIMENSIONS, _NO_NULLS, _LOWER_BOUND = 1, 0, 1


class Array(bytes):
    """One-dimensional, without nulls, in PostgreSQL's binary format."""


def array(element_type: int, elements: Sequence[bytes]) -> Array:
    """The array of these elements, each in PostgreSQL's binary format."""
    if not elements:
        return Array(_EMPTY(0, _NO_NULLS, element_type))
    parts = [_HEAD(_DIMENSIONS, _NO_NULLS, element_type, len(elements), _LOWER_BOUND)]
    for element in elements:
        parts += _LENGTH(len(element)), element
    return Array(b"".join(parts))


class _ArrayDumper(Dumper):
    """Leaves it to the server to find the type, which the statement says."""

    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        return obj


ADAPTERS = AdaptersMap(psycopg.adapters)
"""What all statements are sent and read with, whatever was registered on your connection."""
ADAPTERS.register_dumper(Array, _ArrayDumper)
