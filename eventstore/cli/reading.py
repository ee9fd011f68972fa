"""``eventstore read``: the events of one stream, for people or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from eventstore.cli.telling import complain
from eventstore.codec.showing import LINE, cleaned, json_of
from eventstore.core.lines import json_line
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
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        events = _read(store, stream_id, from_version, to_version, limit, backwards=backwards)
        shown = 0
        for shown, event in enumerate(events, 1):
            if shown == 1 and event.version > from_version + 1 and not backwards:
                complain(f"the versions below {event.version} were moved into an archive: `eventstore restore`")
            print(show(event))
        if shown or store.read(stream_id, limit=1):
            return 0
    complain(f"there is no stream {stream_id!r} in schema {schema!r}")
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
    moment = event.timestamp.isoformat(" ", "microseconds")
    return cleaned(f"{event.version:>6}  {moment}  {event.event_type}  {json_of(event.data, LINE)}")


def as_json_line(event: Event) -> str:
    """All of an event as one JSON object."""
    return json_line(event.__dict__["_record"])
