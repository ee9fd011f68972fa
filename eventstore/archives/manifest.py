"""What an archive's manifest says: docs/format.md documents it. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final, cast

from eventstore.errors import InvalidArgument
from eventstore.names import check_name

FORMAT: Final = "eventstore-archive"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
"""The name of its file."""
_PART = re.compile(r"[0-9a-f]{12}-[0-9]{6}\.jsonl\.gz")
_UNFINISHED = re.compile(r"manifest\.json\.[0-9a-f]{12}\.part")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of an archive."""

    name: str
    events: int
    first_position: int
    last_position: int
    bytes: int
    sha256: str
    """Of the file as it is."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds."""

    schema: str
    """That of the store."""
    category: str | None
    """Of the retired streams that it holds; or None."""
    stream_id: str | None
    """Else the stream, the events of which below a version it holds."""
    before: int | None
    """That version. Else it is the tombstone's of each stream."""
    streams: int
    events: int
    parts: Sequence[Part]

    def packed(self) -> bytes:
        """The file."""
        values = {"format": FORMAT, "version": VERSION}
        values |= {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=False, indent=1).encode() + b"\n"


def is_ours(name: str) -> bool:
    """Whether a file is called as those that are written here."""
    return name == MANIFEST or bool(_PART.fullmatch(name) or _UNFINISHED.fullmatch(name))


def digest_of(packed: bytes) -> bytes:
    """By what a store knows the archive."""
    return sha256(packed).digest()


def parsed_manifest(packed: bytes) -> Manifest:
    """The manifest of a file. Raises InvalidArgument."""
    try:
        values: Any = json.loads(packed)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{MANIFEST} is not JSON: it was cut off or altered") from None
    if not isinstance(values, dict) or cast("dict[str, Any]", values).get("format") != FORMAT:
        raise InvalidArgument(f"{MANIFEST} is not that of an archive")
    found = cast("dict[str, Any]", values)
    if found.get("version") != VERSION:
        raise InvalidArgument(
            f"{MANIFEST} has version {found.get('version')} of the format, and this eventstore reads version {VERSION}"
            ": use the release that wrote it, or a newer one"
        )
    try:
        parts = [_part(each) for each in found["parts"]]
        manifest = Manifest(
            check_name("schema", found["schema"]),
            found.get("category"),
            found.get("stream_id"),
            found.get("before"),
            found["streams"],
            found["events"],
            parts,
        )
        if sum(part.events for part in parts) != manifest.events:
            raise InvalidArgument("its parts have another number of events")
    except (KeyError, TypeError, AttributeError, InvalidArgument) as error:
        raise InvalidArgument(f"{MANIFEST} was altered: {type(error).__name__}: {error}") from None
    return manifest


def _part(values: dict[str, Any]) -> Part:
    part = Part(**values)
    numbers = part.events, part.first_position, part.last_position, part.bytes
    # A name of another form could lead out of the archive.
    if not _PART.fullmatch(part.name) or not all(type(number) is int for number in numbers):
        raise InvalidArgument(f"a part is called {part.name!r}, or a number is none")
    return part
