"""The pages: what each address shows."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import flask

from eventstore.aggregate import Aggregate
from eventstore.cli.arguments import moment
from eventstore.cli.streams import page_of_streams
from eventstore.codec.record import EVENT_TYPE, STREAM_ID, Row
from eventstore.core.lines import json_object
from eventstore.core.operations import repeated
from eventstore.core.places import time_of
from eventstore.core.records import decode_each
from eventstore.core.subscription_requests import ListParked
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.explorer.lag import Lag
from eventstore.explorer.reading import NEWEST, PAGE, RANGES, Reading
from eventstore.explorer.revealing import opened_rows
from eventstore.explorer.searching import Wanted, part_of
from eventstore.explorer.values import Line, differences, shown_text, summary, tree
from eventstore.health import Health, check
from eventstore.names import check_category, check_name
from eventstore.postgres.stores import PostgresEventStore
from eventstore.tracing import trace

_HIGHEST = 2**63 - 2
_MOST_REPLAYED = 20_000
"""Events that are replayed to show a state; that of a later version is not shown."""


class Pages:
    """The views of one explorer."""

    def __init__(
        self,
        store: PostgresEventStore,
        aggregates: Iterable[type[Aggregate[Any]]],
        lag: Lag,
        reveals: Callable[[], bool],
    ) -> None:
        self._store = store
        self._reading = Reading(store)
        self._lag = lag
        self._reveals = reveals
        self._aggregates = {each.category: each for each in aggregates}

    def add_to(self, app: flask.Flask) -> None:
        app.jinja_env.filters["text"] = shown_text
        cast("dict[str, Any]", app.jinja_env.globals)["event_of"] = _event
        views: dict[str, Callable[..., str]] = {
            "/": self.overview,
            "/live": self.live,
            "/events": self.events,
            "/events/<int:position>": self.event,
            "/streams": self.streams,
            "/stream": self.stream,
            "/trace": self.trace,
            "/subscriptions": self.subscriptions,
            "/subscriptions/live": self.live_subscriptions,
            "/subscription": self.subscription,
        }
        for path, view in views.items():
            app.add_url_rule(path, view.__name__, view)

    def overview(self) -> str:
        which = RANGES.get(_argument("range") or "hour")
        if which is None:
            raise InvalidArgument("range must be hour, day or week")
        newest = self._reading.rows(0, _HIGHEST, NEWEST, backwards=True)
        counts = self._reading.counts(which)
        return flask.render_template(
            "overview.html",
            range=which.name,
            ranges=RANGES,
            bars=_bars(counts),
            most=max(count for _, count in counts),
            total=sum(count for _, count in counts),
            start=counts[0][0],
            categories=Counter(row[STREAM_ID].partition("-")[0] for row in newest).most_common(20),
            types=Counter(row[EVENT_TYPE] for row in newest).most_common(20),
            looked_at=len(newest),
            rows=self._shown(newest[:20]),
        )

    def live(self) -> str:
        newest = self._reading.rows(0, _HIGHEST, 20, backwards=True)
        return flask.render_template("live.html", rows=self._shown(newest))

    def events(self) -> str:
        category, event_type, since = _argument("category"), _argument("type"), _argument("since")
        before = _number("before", _HIGHEST)
        rows, following = self._reading.before(
            before,
            _moment(since),
            categories=None if category is None else [check_category(category)],
            event_types=None if event_type is None else [check_name("type", event_type)],
        )
        return flask.render_template(
            "events.html",
            rows=self._shown(rows),
            following=following,
            category=category,
            event_type=event_type,
            since=since,
        )

    def event(self, position: int) -> str:
        row = self._reading.at(min(position, _HIGHEST))
        if row is None:
            flask.abort(404)
        (row,) = self._shown([row])
        found = json_object(row)
        return flask.render_template(
            "event.html", row=row, event=found, data=tree(found["data"]), metadata=tree(found["metadata"])
        )

    def streams(self) -> str:
        category, event_type = _argument("category"), _argument("type")
        prefix = _argument("prefix") or ""
        for what, value in (("the beginning of a stream id", prefix), ("type", event_type)):
            if value:
                check_name(what, value)
        if category is not None:
            prefix = f"{check_category(category)}-{prefix.removeprefix(f'{category}-')}"
        since, until = _argument("since"), _argument("until")
        wanted = Wanted(prefix, event_type, _moment(since), _moment(until))
        asked = {
            "prefix": _argument("prefix"),
            "category": category,
            "type": event_type,
            "since": since,
            "until": until,
        }
        if event_type or since or until:
            part = part_of(self._reading, wanted, _number("upto", _HIGHEST), _number("before", _HIGHEST))
            following = part.following and {**asked, "upto": part.following[0], "before": part.following[1]}
            return flask.render_template("found_streams.html", asked=asked, part=part, following=following)
        after = _argument("after") or ""
        if after:
            check_name("after", after)
        found = page_of_streams(
            self._store, self._store.statements.schema, {"prefix": prefix, "after": after, "limit": PAGE}
        )
        following = {**asked, "after": found[-1].stream_id} if len(found) == PAGE else None
        return flask.render_template("streams.html", asked=asked, streams=found, following=following)

    def stream(self) -> str:
        stream_id = check_name("stream", _argument("id") or "")
        last = self._reading.last_version(stream_id)
        if not last:
            flask.abort(404)
        version = min(_number("version", last), last)
        above = max(version - PAGE, 0)
        rows = self._shown(self._reading.stream(stream_id, above, version))
        return flask.render_template(
            "stream.html",
            stream_id=stream_id,
            rows=rows[::-1],
            last=last,
            version=version,
            following=above or None,
            archived=self._reading.archived(stream_id),
            state=self._state(stream_id, version),
        )

    def _state(self, stream_id: str, version: int) -> Sequence[Line] | str | None:
        """An aggregate's state at a version, and what the event there changed; or why it can't be shown."""
        category, dash, aggregate_id = stream_id.partition("-")
        aggregate_type = self._aggregates.get(category) if dash else None
        if aggregate_type is None:
            return None
        if version > _MOST_REPLAYED:
            return f"The state is shown up to version {_MOST_REPLAYED:,}."
        rows = self._shown(self._reading.stream(stream_id, 0, version))
        try:
            aggregate = aggregate_type(aggregate_id)
            events = list(decode_each(rows, strict=False))
            aggregate.replay(events[:-1])
            before = _public(aggregate)
            aggregate.replay(events[-1:])
            return differences(before, _public(aggregate))
        except Exception as error:  # noqa: BLE001 whatever the application's class raises
            return f"The state can't be shown: {type(error).__name__}: {error}"

    def trace(self) -> str:
        name = _argument("id")
        found = None if name is None else trace(self._store, name)
        if found is not None and not found.events:
            flask.abort(404, f"Nothing is, or belongs to, {name!r}.")
        return flask.render_template(
            "trace.html", name=name, trace=found, lines=[] if found is None else list(found.tree())
        )

    def subscriptions(self) -> str:
        return flask.render_template("subscriptions.html", health=self._health(), lag=self._lag)

    def live_subscriptions(self) -> str:
        return flask.render_template("live_subscriptions.html", health=self._health(), lag=self._lag)

    def _health(self) -> Health:
        found = check(self._store)
        self._lag.note(found)
        return found

    def subscription(self) -> str:
        name = check_name("name", _argument("name") or "")
        health = self._health()
        found = next((each for each in health.subscriptions if each.name == name), None)
        if found is None:
            if health.error is not None:
                raise health.error
            flask.abort(404)
        parked = self._store.carry_out(repeated(ListParked(name)))
        return flask.render_template(
            "subscription.html",
            each=found,
            charts=self._lag.charts(name, 300),
            parked=parked[:200],
            more=max(len(parked) - 200, 0),
        )

    def _shown(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows as this request may see them."""
        keys = self._store.subject_keys
        if keys is None or not self._reveals():
            return rows
        try:
            opened = opened_rows(self._store, keys, rows)
        except EventStoreError as error:
            flask.g.personal = f"Personal fields can't be opened: {error}"
            return rows
        flask.g.personal = "Personal fields are shown: you may see them."
        return opened


def _public(aggregate: Aggregate[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(aggregate).items() if not name.startswith("_") and name != "id"}


def _event(row: Row) -> dict[str, Any]:
    """What a line of a list shows."""
    found = json_object(row)
    happened = time_of(row)
    return {
        **found,
        "time": "?" if happened is None else happened.isoformat(" "),
        "summary": summary(found["data"]),
    }


def _bars(counts: Sequence[tuple[datetime, int]]) -> list[tuple[float, float, float, str]]:
    """Place, height and width of each bar in a picture of 1,000 by 100, and what it says."""
    most = max([count for _, count in counts] or [0]) or 1
    width = 1000 / len(counts)
    return [
        (
            round(number * width, 2),
            round(100 * count / most, 2),
            round(width * 0.8, 2),
            f"{start:%Y-%m-%d %H:%M}: {count:,}",
        )
        for number, (start, count) in enumerate(counts)
    ]


def _argument(name: str) -> str | None:
    return flask.request.args.get(name) or None


def _number(name: str, default: int) -> int:
    text = _argument(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:30]) <= _HIGHEST:
        raise InvalidArgument(f"{name} must be a whole number from 1 to 2**63 - 2")
    return int(text)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return moment(text)
    except ArgumentTypeError as error:
        raise InvalidArgument(str(error)) from None
