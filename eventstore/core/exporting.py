"""The lines of an export: docs/format.md documents them. No I/O."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from eventstore.codec.record import Record, happened_at, timestamp_parts
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.names import check_name

FORMAT: Final = "eventstore-export"
VERSION: Final = 1
_MAX = 2**63 - 1


class ExportError(EventStoreError):
    """An export that can't be read or written. ``path`` is the file, ``line`` is the number of the line, or 0."""

    def __init__(self, path: object, line: int, reason: str) -> None:
        self.path = str(path)
        self.line = line
        self.reason = reason
        super().__init__(f"{path}:{line}: {reason}" if line else f"{path}: {reason}")


class Exported(NamedTuple):
    """An event with the marks of its row."""

    record: Record
    closing: bool
    tombstone: bool


class Digest:
    """What the last line of an export says of the lines before it."""

    def __init__(self) -> None:
        self.events = 0
        self.position = 0
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        """Count a line, with its line end."""
        self._hash.update(line)

    def last_line(self) -> bytes:
        """The line that ends an export."""
        end = {"events": self.events, "position": self.position, "sha256": self._hash.hexdigest()}
        return _line({"end": end})


def first_line(filters: dict[str, Any], anonymized: str | None = None) -> bytes:
    """The line that begins an export, of what these filters let through. ``anonymized`` names what changed it."""
    begin = {"format": FORMAT, "version": VERSION, "filters": filters}
    return _line(begin if anonymized is None else begin | {"anonymized": anonymized})


def line_of(exported: Exported) -> bytes:
    """The line of an event. Raises DeserializationError for a time that Python does not know."""
    record = exported.record
    timestamp: datetime = happened_at(record)
    values: dict[str, Any] = {
        "position": record.position,
        "stream_id": record.stream_id,
        "version": record.version,
        "event_id": str(UUID(bytes=record.event_id)),
        "event_type": record.event_type,
        "revision": record.revision,
        "timestamp": timestamp.isoformat(),
    }
    if exported.closing:
        values["closing"] = True
    if exported.tombstone:
        values["tombstone"] = True
    values["data"] = b64encode(record.data).decode()
    values["metadata"] = b64encode(record.metadata).decode()
    return _line(values)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def parsed(line: bytes) -> dict[str, Any]:
    """A line as a JSON object. Raises InvalidArgument."""
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidArgument("this line is not JSON: the file was cut off or altered") from None
    if not isinstance(values, dict):
        raise InvalidArgument("this line is not a JSON object: the file is not an export")
    return cast("dict[str, Any]", values)


def check_first_line(line: bytes) -> dict[str, Any]:
    """The filters of an export that begins with this line. Raises InvalidArgument."""
    values = parsed(line)
    if values.get("format") != FORMAT:
        raise InvalidArgument("this is not an export of `eventstore export`")
    version = values.get("version")
    if version != VERSION:
        raise InvalidArgument(
            f"this export has version {version} of the format, and this eventstore reads version {VERSION}: use the "
            "release that wrote it, or a newer one"
        )
    return cast("dict[str, Any]", values.get("filters", {}))


def event_of(line: bytes) -> Exported:
    """The event of a line. Raises InvalidArgument."""
    values = parsed(line)
    try:
        moment = datetime.fromisoformat(values["timestamp"])
        if moment.tzinfo is None:
            raise InvalidArgument("timestamp has no offset")
        timestamp, utc_offset = timestamp_parts(moment)
        record = Record(
            check_name("stream_id", values["stream_id"]),
            _number("version", values["version"], 1, _MAX),
            _number("position", values["position"], 1, _MAX),
            UUID(values["event_id"]).bytes,
            check_name("event_type", values["event_type"]),
            b64decode(values["data"], validate=True),
            b64decode(values["metadata"], validate=True),
            timestamp,
            utc_offset,
            _number("revision", values["revision"], 1, 2**15 - 1),
        )
    except KeyError as error:
        raise InvalidArgument(f"the field {error} is missing") from None
    except InvalidArgument:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"a field has an invalid value: {error}") from None
    return Exported(record, values.get("closing") is True, values.get("tombstone") is True)


def _number(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidArgument(f"{name} must be an int from {least} to {most}, not {value!r}")
    return value
