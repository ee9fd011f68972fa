"""``eventstore read``: the events of one stream, for people or as JSON lines."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
import sys
from collections.abc import Iterator
from datetime import date, time, timedelta
from typing import Any, cast

from eventstore.event import Event
from eventstore.postgres import PostgresEventStore
from eventstore.store import EventStore

_PAGE = 1000


def run(
    dsn: str,
    schema: str,
    stream_id: str,
    *,
    from_version: int,
    to_version: int | None,
    backwards: bool,
    limit: int | None,
    as_json: bool,
) -> int:
    """Print the events; exit code 1 where the stream does not exist."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if as_json and reconfigure:
        reconfigure(encoding="utf-8")  # JSON is UTF-8 wherever it is written
    show = as_json_line if as_json else as_line
    with PostgresEventStore.connect(dsn, schema, max_size=1) as store:
        events = _read(store, stream_id, from_version, to_version, limit, backwards=backwards)
        shown = 0
        for shown, event in enumerate(events, 1):  # noqa: B007 counted
            print(show(event))
        if shown or store.read(stream_id, limit=1):
            return 0
    print(f"eventstore: there is no stream {stream_id!r} in schema {schema!r}", file=sys.stderr)
    return 1


def _read(
    store: EventStore, stream_id: str, above: int, upto: int | None, limit: int | None, *, backwards: bool
) -> Iterator[Event]:
    """EventStore.read, page by page."""
    while limit is None or limit > 0:
        size = _PAGE if limit is None else min(_PAGE, limit)
        page = store.read(stream_id, above, upto, backwards=backwards, limit=size)
        yield from page
        if len(page) < size:
            return
        if backwards:
            upto = page[-1].version - 1
        else:
            above = page[-1].version
        limit = limit and limit - size


def as_line(event: Event) -> str:
    """An event for people: on one line, and with nothing that a terminal would obey."""
    data = json.dumps(jsonable(event.data, readable=True), ensure_ascii=False)
    line = f"{event.version:>6}  {event.timestamp.isoformat(' ', 'microseconds')}  {event.event_type}  {data}"
    return line if line.isprintable() else "".join(map(_printable, line))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def as_json_line(event: Event) -> str:
    """All of an event as one JSON object."""
    record = {
        "event_id": str(event.event_id),
        "stream_id": event.stream_id,
        "version": event.version,
        "position": event.position,
        "event_type": event.event_type,
        "timestamp": event.timestamp.isoformat(),
        "data": jsonable(event.data),
        "metadata": jsonable(event.metadata),
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any, *, readable: bool = False) -> Any:  # noqa: C901, PLR0911 one branch a kind
    """A stored value as JSON can say it; the help of ``eventstore read`` tells how. ``readable``: without any bytes."""

    def inner(part: Any) -> Any:
        return jsonable(part, readable=readable)

    match value:
        case enum.Enum():  # before the plain types: it may be an int or a str as well
            return value.name or value.value  # a Flag of none has no name
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case None | bool() | int() | float() | str():
            return value
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case bytes():
            return f"<{len(value):,} bytes>" if readable else base64.b64encode(value).decode()
        case dict():
            items = cast("dict[Any, Any]", value)
            if all(isinstance(key, str) for key in items):
                return {key: inner(item) for key, item in items.items()}
            return [[inner(key), inner(item)] for key, item in items.items()]
        case list() | tuple():
            return [inner(item) for item in cast("list[Any]", value)]
        case set() | frozenset():
            return sorted((inner(item) for item in cast("set[Any]", value)), key=json.dumps)
        case _ if dataclasses.is_dataclass(value):
            return {field.name: inner(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return str(value)  # UUID, Decimal


def _duration(value: timedelta) -> str:
    """ISO 8601, in seconds: ``PT90.5S``, ``-PT1S``."""
    microseconds = abs(value) // timedelta(microseconds=1)
    seconds = f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}".rstrip("0").rstrip(".")
    return f"{'-' if value < timedelta() else ''}PT{seconds}S"
