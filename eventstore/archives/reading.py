"""An archive that is there: its manifest, and its events, part by part, each checked before it is used."""

from __future__ import annotations

import gzip
import struct
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import NamedTuple

from eventstore.archives.manifest import MANIFEST, Manifest, Part, digest_of, parsed_manifest
from eventstore.archives.places import Place, place_at
from eventstore.codec.record import POSITION, Record
from eventstore.core.exporting import Exported, check_first_line, event_of
from eventstore.errors import ArchiveError, InvalidArgument

_ROW = struct.Struct("!qq8sih??16si")
"""What a digest of a row begins with, up to the length of the event's type."""


class Archive:
    """An archive. Its methods raise ArchiveError for what was cut off or altered."""

    def __init__(self, place: Place) -> None:
        self.place = place
        packed = place.read(MANIFEST)
        self.digest = digest_of(packed)
        try:
            self.manifest: Manifest = parsed_manifest(packed)
        except InvalidArgument as error:
            raise ArchiveError(place.name, str(error)) from None

    def parts(self) -> Iterator[list[Exported]]:
        """The events of each part, in the order of their positions."""
        for part in self.manifest.parts:
            yield self.part(part)

    def part(self, part: Part) -> list[Exported]:
        """The events of one part."""
        content = self.place.read(part.name)
        if len(content) != part.bytes or sha256(content).hexdigest() != part.sha256:
            raise self._damaged(part, f"it is not the file that {MANIFEST} describes: it was cut off or altered")
        try:
            first, *lines, _ = gzip.decompress(content).splitlines()
            check_first_line(first)
            events = [event_of(line) for line in lines]
        except (InvalidArgument, OSError, EOFError, zlib.error, ValueError) as error:
            raise self._damaged(part, str(error)) from error
        ends = [events[0].record.position, events[-1].record.position] if events else []
        if (len(events), ends) != (part.events, [part.first_position, part.last_position]):
            raise self._damaged(part, f"it has other events than {MANIFEST} says")
        return events

    def _damaged(self, part: Part, reason: str) -> ArchiveError:
        return ArchiveError(self.place.name, f"{part.name}: {reason}")


def opened_archive(where: str) -> Archive:
    """The archive in a place. Raises ArchiveError, InvalidArgument."""
    place = place_at(where)
    if MANIFEST not in place.names():
        raise ArchiveError(place.name, f"there is no archive: it has no {MANIFEST}")
    return Archive(place)


class Moved(NamedTuple):
    """A stream with its events in an archive."""

    stream_id: str
    before: int
    """The version of the event that stays in the table as well."""
    digest: bytes
    """That of all events below it, as archived_digests in sql/0010 calculates it."""


def is_last(exported: Exported, before: int | None) -> bool:
    """Whether an event is the last of its stream in an archive: the one that stays in the table as well.

    ``before`` is that of the manifest.
    """
    return exported.tombstone if before is None else exported.record.version == before


class Digests:
    """The digests of streams, the events of which come in the order of their positions."""

    def __init__(self, before: int | None) -> None:
        self._before = before
        self._begun: dict[str, bytearray] = {}

    def take(self, events: Sequence[Exported]) -> Iterator[Moved]:
        """Take the next events, and return the streams that end with one of them."""
        for each in events:
            stream_id, version = each.record.stream_id, each.record.version
            if is_last(each, self._before):
                yield Moved(stream_id, version, sha256(self._begun.pop(stream_id, b"")).digest())
            else:
                self._begun.setdefault(stream_id, bytearray()).extend(_digest_of(each))


def _digest_of(exported: Exported) -> bytes:
    record, closing, tombstone = exported
    _, version, position, event_id, event_type, data, metadata, timestamp, utc_offset, revision = record
    name = event_type.encode()
    head = _ROW.pack(version, position, timestamp, utc_offset, revision, closing, tombstone, event_id, len(name))
    return sha256(b"".join((head, name, len(data).to_bytes(4), data, metadata))).digest()


class ArchivedLog:
    """The events of several archives as one log, in the order of their positions."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self._readers = [_Reader(archive) for archive in archives]

    def rows(
        self, after: int, upto: int, limit: int, event_types: Collection[str] | None, categories: Collection[str] | None
    ) -> list[Record]:
        """At most so many rows above one position, up to and with another, that a filter lets through."""
        found = merge(*(reader.rows(after, upto) for reader in self._readers), key=itemgetter(POSITION))
        return list(islice((row for row in found if _is_wanted(row, event_types, categories)), limit))


class _Reader:
    """One archive, with the part that was read last."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._last: tuple[str, list[Exported]] = ("", [])

    def rows(self, after: int, upto: int) -> Iterator[Record]:
        parts = [part for part in self._archive.manifest.parts if part.last_position > after]
        return chain.from_iterable(self._part(part, after, upto) for part in parts if part.first_position <= upto)

    def _part(self, part: Part, after: int, upto: int) -> Iterator[Record]:
        if self._last[0] != part.name:
            self._last = part.name, self._archive.part(part)
        events = self._last[1]
        first = bisect_right(events, after, key=lambda each: each.record.position)
        for each in events[first:]:
            if each.record.position > upto:
                return
            yield each.record


def _is_wanted(row: Record, event_types: Collection[str] | None, categories: Collection[str] | None) -> bool:
    category, dash, _ = row.stream_id.partition("-")
    return (event_types is None or row.event_type in event_types) and (
        categories is None or (bool(dash) and category in categories)
    )
