"""Counting what msgpack bytes hold without building any of it, so that a few bytes can't become gigabytes of objects.

The markers are those of the msgpack specification: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

_FIXED_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSION_BYTES = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_EXTENSION_LENGTH_BYTES = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_ARRAY_LENGTH_BYTES = {0xDC: 2, 0xDD: 4}
_MAP_LENGTH_BYTES = {0xDE: 2, 0xDF: 4}


def count_values(packed: bytes, containers: AbstractSet[int], limit: int) -> int:
    """How many values there are, those inside of the extension types ``containers`` included; stops above ``limit``.

    Says nothing of whether the bytes are well formed: it counts to their end, or to the first marker that is none.
    """
    offset = count = 0
    end = len(packed)
    while offset < end and count <= limit:
        marker = packed[offset]
        offset += 1
        count += 1
        if marker <= 0x7F or marker >= 0xE0 or 0x80 <= marker <= 0x9F:
            continue  # A small int, or the head of a small map or array: its members follow.
        if 0xA0 <= marker <= 0xBF:
            offset += marker & 0x1F
        elif marker in _FIXED_BYTES:
            offset += _FIXED_BYTES[marker]
        elif marker in _LENGTH_BYTES:
            size = _LENGTH_BYTES[marker]
            offset += size + int.from_bytes(packed[offset : offset + size])
        elif marker in _ARRAY_LENGTH_BYTES:
            offset += _ARRAY_LENGTH_BYTES[marker]
        elif marker in _MAP_LENGTH_BYTES:
            offset += _MAP_LENGTH_BYTES[marker]
        elif marker in _EXTENSION_BYTES:
            offset += 1 + _skipped(packed, offset, _EXTENSION_BYTES[marker], containers)
        elif marker in _EXTENSION_LENGTH_BYTES:
            size = _EXTENSION_LENGTH_BYTES[marker]
            length = int.from_bytes(packed[offset : offset + size])
            offset += size
            offset += 1 + _skipped(packed, offset, length, containers)
    return count


def _skipped(packed: bytes, offset: int, length: int, containers: AbstractSet[int]) -> int:
    """The bytes to pass over of an extension whose type is at offset: none of a container's, which is msgpack again."""
    return 0 if packed[offset : offset + 1] and packed[offset] in containers else length
