"""``eventstore tail``, ``find`` and ``trace``: events of all streams, for people or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from threading import Event as Flag
from typing import Any, cast

from eventstore import codec
from eventstore.cli.telling import complain, stopping_at_signals
from eventstore.codec.record import DATA, EVENT_TYPE, METADATA, POSITION, STREAM_ID, VERSION, Row
from eventstore.codec.showing import LINE, cleaned, json_of
from eventstore.core.blocking import pages_of
from eventstore.core.lines import json_line
from eventstore.core.operations import LogReader
from eventstore.core.places import begin_of, end_of_log, is_since, time_of
from eventstore.errors import DeserializationError, InvalidOperation, StoreUnavailable
from eventstore.postgres import PostgresEventStore
from eventstore.tracing import trace as trace_of

POLL_SECONDS = 0.5
"""Between two looks of `tail --follow`."""
NEWEST = 20
"""How many events `tail` begins with."""
LOOKED_AT = 1_000_000
"""How many positions `find` looks at unless it is told where to begin."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which events."""

    categories: Sequence[str] | None
    event_types: Sequence[str] | None
    since: datetime | None
    from_position: int | None

    def pages(self, after: int, upto: int | None, limit: int | None, *, backwards: bool) -> LogReader:
        return LogReader(
            after,
            1000,
            upto,
            self.event_types,
            self.categories,
            strict=False,
            backwards=backwards,
            limit=limit,
        )


def tail(dsn: str, schema: str, which: Which, limit: int | None, *, follow: bool, as_json: bool) -> int:
    """The newest events, then, if asked to follow, those that come, until Ctrl-C or SIGTERM."""
    show = _shower(as_json=as_json)
    stopped = Flag()
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        end = store.carry_out(end_of_log())
        start = _start(store, which)
        if start is None and limit is None:
            limit = NEWEST
        pages = which.pages(start or 0, end, limit, backwards=limit is not None)
        rows = [*_rows(store, pages)] if limit is not None else _rows(store, pages)
        for row in reversed(rows) if isinstance(rows, list) else rows:
            if _is_since(row, which.since):
                show(row)
        if not follow:
            return 0
        with stopping_at_signals(stopped.set):
            _follow(store, which, end, show, stopped)
    return 0


def _follow(store: PostgresEventStore, which: Which, after: int, show: Callable[[Row], None], stopped: Flag) -> None:
    said = False
    while not stopped.is_set():
        sys.stdout.flush()
        try:
            end = store.carry_out(end_of_log())
            if end < after:
                raise InvalidOperation(
                    f"the log ends at {end}, and was shown up to {after}: it was restored, or created again. Run this "
                    "command again"
                )
            for row in _rows(store, which.pages(after, end, None, backwards=False)):
                show(row)
                after = row[POSITION]
                if stopped.is_set():
                    return
            after, said = end, False
        except StoreUnavailable as error:
            if not said:
                complain(f"{error}; the next attempt follows")
            said = True
        stopped.wait(POLL_SECONDS)


def find(
    dsn: str,
    schema: str,
    which: Which,
    limit: int | None,
    *,
    metadata: Sequence[tuple[str, str]],
    data: Sequence[tuple[str, str]],
    as_json: bool,
) -> int:
    """The events of which all these values are so, in the order of their positions; exit code 1 if there is none."""
    show = _shower(as_json=as_json)
    shown = 0
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        start = _start(store, which)
        if start is None:
            start = max(store.carry_out(end_of_log()) - LOOKED_AT, 0)
            if start:
                complain(f"looking at positions above {start:,} only: --from-position 0 looks at all of them")
        for row in _rows(store, which.pages(start, None, None, backwards=False)):
            if shown == limit:
                break
            wanted = _has(row[METADATA], metadata) and _has(row[DATA], data) and _is_since(row, which.since)
            if wanted:
                show(row)
                shown += 1
    return 0 if shown or limit == 0 else 1


def trace(dsn: str, schema: str, name: str, *, as_json: bool) -> int:
    """What belongs together with an event or a correlation id, as a tree; exit code 1 if there is nothing."""
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        found = trace_of(store, name)
    if not found.events:
        complain(f"nothing in schema {schema!r} is, or belongs to, {name!r}")
        return 1
    show = _shower(as_json=as_json)
    for depth, event in found.tree():
        if as_json:
            show(event.row)
        else:
            moment = event.timestamp.isoformat(" ", "milliseconds") if event.timestamp else "?"
            mark = " *" if str(event.event_id) == name else ""
            place = f"{event.stream_id} {event.version}"
            print(cleaned(f"{moment}  {'  ' * min(depth, 20)}{event.event_type}  {place}  {event.event_id}{mark}"))
    if not found.complete:
        complain(f"these are the first {len(found.events):,} events: there are more")
    return 0


# --- which ------------------------------------------------------------------------------------------------------------


def _rows(store: PostgresEventStore, reader: LogReader) -> Iterator[Row]:
    return chain.from_iterable(pages_of(store, reader))


def _start(store: PostgresEventStore, which: Which) -> int | None:
    """The position above which the events begin; None if that was not said."""
    if which.since is None:
        return which.from_position
    found = store.carry_out(begin_of(which.since, store.carry_out(end_of_log())))
    return max(found, which.from_position or 0)


def _is_since(row: Row, moment: datetime | None) -> bool:
    return moment is None or is_since(row, moment)


def _has(packed: bytes, wanted: Sequence[tuple[str, str]]) -> bool:
    if not wanted:
        return True
    if any(name.partition(".")[0].encode() not in packed for name, _ in wanted):
        return False  # Without decoding: most events have nothing of the sort.
    try:
        found = codec.decode(packed, lenient=True, sealed=True)
    except DeserializationError:
        return False
    return all(value in _written(_at(found, name)) for name, value in wanted)


def _at(found: Any, path: str) -> Any:
    """What is at ``a.b.c``, or at a key that has these dots itself."""
    if not isinstance(found, dict):
        return _NOTHING
    values = cast("dict[Any, Any]", found)
    if path in values:
        return values[path]
    name, dot, rest = path.partition(".")
    return _at(values.get(name), rest) if dot else _NOTHING


_NOTHING = object()


def _written(value: Any) -> set[str]:
    """How somebody may write a value on a command line."""
    if value is _NOTHING:
        return set()
    return {str(value), json_of(value, LINE), json_of(value, LINE).strip('"')}


# --- how --------------------------------------------------------------------------------------------------------------


def _shower(*, as_json: bool) -> Callable[[Row], None]:
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if as_json and reconfigure:
        reconfigure(encoding="utf-8")  # JSON is UTF-8 wherever it is written.
    line = json_line if as_json else as_columns

    def show(row: Row) -> None:
        print(line(row))

    return show


def as_columns(row: Row) -> str:
    """An event for people: position, time, stream, version, type, data."""
    moment = time_of(row)
    happened = moment.isoformat(" ", "milliseconds") if moment else "?"
    try:
        data = json_of(codec.decode(row[DATA], lenient=True, sealed=True), LINE)
    except DeserializationError as error:
        data = f"<{len(row[DATA]):,} bytes that can't be read: {error.reason}>"
    place = f"{row[STREAM_ID]} {row[VERSION]}"
    return cleaned(f"{row[POSITION]:>10}  {happened}  {place}  {row[EVENT_TYPE]}  {data}")
