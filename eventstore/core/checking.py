"""Whether what a store holds is whole: row by row, beside what the server knows about its neighbours. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from eventstore import codec
from eventstore.codec.record import EVENT_TYPE, Row, happened_at
from eventstore.core.sealed_snapshots import subjects_of_snapshot
from eventstore.core.snapshots import checksum_of
from eventstore.errors import DeserializationError, InvalidArgument
from eventstore.names import check_name
from eventstore.store import Snapshot
from eventstore.tombstone import TOMBSTONE


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a store that is not as it must be."""

    kind: str
    """Such as "version" or "payload"."""
    subject: str
    """Where it is."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.detail}"


class CheckedRow(NamedTuple):
    """An event, its marks, and its neighbours."""

    record: Row
    closing: bool
    tombstone: bool
    before: int | None
    """The position of the event before it in its stream, if there is one."""
    after_tombstone: bool
    """Whether that one retired the stream."""
    archived: bool
    """Whether it is recorded that the events before it were moved into an archive."""
    twin: int | None
    """The version of an earlier event of the stream with the same id."""


class LogCheck:
    """Checks rows in the order of their positions, or of their versions in one stream."""

    def __init__(self, after: int = 0) -> None:
        self.events = 0
        self.position = after
        """That of the last row."""

    def take(self, rows: Iterable[CheckedRow]) -> Iterator[Finding]:
        """What is wrong in the next rows."""
        for row in rows:
            self.events += 1
            yield from self._check(row)

    def _check(self, row: CheckedRow) -> Iterator[Finding]:
        stream_id, version, position, event_id, *_ = row.record
        where = f"version {version} of stream {stream_id!r}, at position {position}"
        if position <= self.position:
            yield Finding("position", where, f"it must be above {self.position}, that of the event before")
        self.position = position
        if version < 1:
            yield Finding("version", where, "versions begin at 1")
        elif version > 1 and row.before is None and not row.archived:
            yield Finding("version", where, f"version {version - 1} is missing, and is not recorded as archived")
        if row.before is not None and row.before >= position:
            yield Finding("order", where, f"version {version - 1} is at position {row.before}, which must be lower")
        if row.twin is not None:
            yield Finding("event id", where, f"version {row.twin} has the same id, {UUID(bytes=event_id)}")
        yield from _wrong_marks(row, where)
        yield from _unreadable(row.record, where)


def _wrong_marks(row: CheckedRow, where: str) -> Iterator[Finding]:
    event_type = row.record[EVENT_TYPE]
    if row.after_tombstone:
        yield Finding("tombstone", where, "the event before it retired the stream")
    if row.tombstone != (event_type == TOMBSTONE):
        yield Finding("tombstone", where, f"an event of type {event_type!r} has the mark tombstone={row.tombstone}")


def _unreadable(record: Row, where: str) -> Iterator[Finding]:
    stream_id, _, _, _, event_type, data, metadata, _, _, revision = record
    if revision < 1:
        yield Finding("revision", where, f"revision {revision} is below 1")
    for what, name in (("stream id", stream_id), ("event type", event_type)):
        try:
            check_name(what, name)
        except InvalidArgument as error:
            yield Finding("name", where, str(error))
    for kind, packed in (("payload", data), ("metadata", metadata)):
        if packed == codec.EMPTY_MAP:
            continue
        try:
            codec.decode(packed, lenient=True, sealed=True)
        except DeserializationError as error:
            yield Finding(kind, where, error.reason)
    try:
        happened_at(record)
    except DeserializationError as error:
        yield Finding("timestamp", where, error.reason)


def check_snapshot(snapshot: Snapshot, event_id: bytes | None) -> Finding | None:
    """What is wrong with a snapshot, beside the id of the event that its stream has at its version."""
    where = f"of {snapshot.aggregate_type} {snapshot.aggregate_id}, at version {snapshot.version}"
    if snapshot.checksum != checksum_of(snapshot):
        return Finding("snapshot", where, "its checksum is not that of its state: delete it")
    if event_id is None:
        return Finding("snapshot", where, "its stream has no event at that version: delete it")
    if event_id != snapshot.event_id.bytes:
        return Finding("snapshot", where, "its stream has another event at that version: delete it")
    return None


def compare_states(snapshot: Snapshot, replayed: Snapshot) -> Finding | None:
    """The difference between a snapshot and one that was taken of a replay up to the same version."""
    if subjects_of_snapshot(snapshot):
        return None  # It is sealed, and this program has no keys.
    states: list[Any] = [codec.decode(each.state) for each in (snapshot, replayed)]
    if states[0] == states[1]:
        return None
    stored, now = (state["attributes"] for state in states)
    names = sorted(name for name in stored.keys() | now.keys() if stored.get(name) != now.get(name))
    where = f"of {snapshot.aggregate_type} {snapshot.aggregate_id}, at version {snapshot.version}"
    what = f"attributes {', '.join(names)}" if names else "types"
    return Finding("replay", where, f"its {what} differ from a replay of the events: delete it")


def as_json(finding: Finding) -> dict[str, str]:
    """A finding for programs."""
    return dataclasses.asdict(finding)
