"""Values and bytes: msgpack, lossless or refused. docs/format.md says what each byte is."""

from __future__ import annotations

from eventstore.codec.decoding import SealedFound, Unregistered, completed, decode, unregistered
from eventstore.codec.encoding import encode
from eventstore.codec.format import EMPTY_MAP, MAX_BYTES, MAX_COPIED, MAX_DEPTH, MAX_VALUES, UNCOUNTED_BYTES

__all__ = [
    "EMPTY_MAP",
    "MAX_BYTES",
    "MAX_COPIED",
    "MAX_DEPTH",
    "MAX_VALUES",
    "UNCOUNTED_BYTES",
    "SealedFound",
    "Unregistered",
    "completed",
    "decode",
    "encode",
    "unregistered",
]
