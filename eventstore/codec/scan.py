"""Weighing msgpack bytes without building anything of them, so that a few bytes can't become gigabytes of objects.

The markers are those of the msgpack specification: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

_NUMBER_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_SHORT_TEXT_BYTES = {0xA0 + length: length for length in range(32)}
_MAP_HEAD_BYTES = {0xDE: 2, 0xDF: 4}  # Its members follow.
_FIXED_BYTES = _NUMBER_BYTES | _SHORT_TEXT_BYTES | _MAP_HEAD_BYTES
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSION_BYTES = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_EXTENSION_LENGTH_BYTES = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_ARRAY_LENGTH_BYTES = {0xDC: 2, 0xDD: 4}


class Weight(NamedTuple):
    """What some bytes would become."""

    values: int
    """How many there are, or are announced by the heads of arrays: room is made for them before they are looked for."""
    copied: int
    """Bytes of the extension types that are containers: each is a copy, while what stands in it is decoded."""


def weigh(packed: bytes, containers: AbstractSet[int], limit: int) -> Weight:
    """Looks into the extension types ``containers``; stops when there are more than ``limit`` values.

    Says nothing of whether the bytes are well formed: it goes to their end, or to the first marker that is none.
    """
    offset = count = announced = copied = 0
    end = len(packed)
    while offset < end and count <= limit:
        marker = packed[offset]
        offset += 1
        count += 1
        if marker <= 0x7F or marker >= 0xE0 or 0x80 <= marker <= 0x9F:
            continue  # A small int, or the head of a small map or array: its members follow.
        if marker in _FIXED_BYTES:
            offset += _FIXED_BYTES[marker]
        elif marker in _LENGTH_BYTES:
            size = _LENGTH_BYTES[marker]
            offset += size + int.from_bytes(packed[offset : offset + size])
        elif marker in _ARRAY_LENGTH_BYTES:
            size = _ARRAY_LENGTH_BYTES[marker]
            announced += int.from_bytes(packed[offset : offset + size])
            if announced > limit:
                break
            offset += size
        elif marker in _EXTENSION_BYTES or marker in _EXTENSION_LENGTH_BYTES:
            if marker in _EXTENSION_BYTES:
                length = _EXTENSION_BYTES[marker]
            else:
                size = _EXTENSION_LENGTH_BYTES[marker]
                length = int.from_bytes(packed[offset : offset + size])
                offset += size
            if offset < end and packed[offset] in containers:
                copied += length  # What is in it is msgpack again, and comes next.
                offset += 1
            else:
                offset += 1 + length
    return Weight(max(count, announced), copied)
