"""Events as JSON objects, one on each line: the same for every command and page. docs/format.md says how."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

from eventstore.codec.record import Row, happened_at
from eventstore.codec.showing import cleaned_json
from eventstore.codec.typed_json import to_json
from eventstore.errors import DeserializationError


def json_line(row: Row) -> str:
    """An event as one JSON object, clean for a terminal. What can't be read of it is shown as bytes."""
    return cleaned_json(json.dumps(json_object(row), ensure_ascii=False, allow_nan=False))


def json_object(row: Row) -> dict[str, Any]:
    """An event as one JSON object."""
    stream_id, version, position, event_id, event_type, data, metadata, timestamp, utc_offset, revision = row
    try:
        moment: Any = happened_at(row).isoformat()
    except DeserializationError:  # Python does not know the year.
        moment = {"$undecodable": [int.from_bytes(timestamp, signed=True), utc_offset]}
    return {
        "event_id": str(UUID(bytes=bytes(event_id))),
        "stream_id": stream_id,
        "version": version,
        "position": position,
        "event_type": event_type,
        "revision": revision,
        "timestamp": moment,
        "data": _shown(data),
        "metadata": _shown(metadata),
    }


def _shown(packed: bytes) -> Any:
    try:
        return to_json(packed)
    except DeserializationError:
        return {"$undecodable": base64.b64encode(packed).decode()}
