"""The parts of an archive, each an export of its own that is compressed in memory and then written as a whole."""

from __future__ import annotations

import secrets
import zlib
from hashlib import sha256
from typing import Any

from eventstore.archives.manifest import Part
from eventstore.archives.places import Place
from eventstore.core.exporting import Digest, Exported, first_line, line_of

PART_EVENTS = 20_000
PART_BYTES = 2**25
"""A part ends when it has so many events, or so many bytes of lines."""
_GZIP = 31
"""The window of 32 KiB, in the format of gzip, in zlib's way to say so."""


class PartWriter:
    """Writes events to a place, in the order of their positions."""

    def __init__(self, place: Place, filters: dict[str, Any]) -> None:
        self.parts: list[Part] = []
        self._place = place
        self._first_line = first_line(filters)
        self._run = secrets.token_hex(6)
        """Two runs that write to one place do not write over each other's parts."""
        self._first_position = 0
        self._begin()

    def add(self, exported: Exported) -> None:
        """Write the next event. Raises ArchiveError, and DeserializationError for a time that Python does not know."""
        self._write(line_of(exported))
        position = exported.record.position
        self._first_position = self._first_position or position
        self._digest.events += 1
        self._digest.position = position
        if self._digest.events == PART_EVENTS or self._size >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the part that was begun."""
        events, last = self._digest.events, self._digest.position
        if not events:
            return
        content = b"".join((*self._chunks, self._compress.compress(self._digest.last_line()), self._compress.flush()))
        name = f"{self._run}-{len(self.parts) + 1:06}.jsonl.gz"
        part = Part(name, events, self._first_position, last, len(content), sha256(content).hexdigest())
        self.parts.append(part)
        self._place.write(name, content)
        self._begin()

    def discard(self) -> None:
        """Remove what was written."""
        self._place.remove(part.name for part in self.parts)

    def _begin(self) -> None:
        self._digest = Digest()
        self._compress = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        self._chunks: list[bytes] = []
        self._size = 0
        self._first_position = 0
        self._write(self._first_line)

    def _write(self, line: bytes) -> None:
        self._digest.add(line)
        self._size += len(line)
        if chunk := self._compress.compress(line):
            self._chunks.append(chunk)
