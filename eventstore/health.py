"""Whether a store and its subscriptions are well, and what is wrong if not: ``health.check(store)``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.core import asynchronous, blocking
from eventstore.core.appending import LOOK_SECONDS
from eventstore.core.asynchronous import AsyncFollowableStore
from eventstore.core.blocking import FollowableStore
from eventstore.core.checkpoints import Examined, SubscriptionRow, above_the_log
from eventstore.core.deadlines import afterwards, within
from eventstore.core.requests import ListBlockingSessions, Operation, ask
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import Examine
from eventstore.errors import EventStoreError, InvalidArgument, SchemaError, StoreUnavailable
from eventstore.postgres.migrations import migrations

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Health", "SubscriptionHealth", "asgi_app", "async_check", "check", "wsgi_app"]

Condition: TypeAlias = Literal["idle", "behind", "held back", "unattended", "stuck"]

TIMEOUT = 5.0
"""Seconds that a check may take, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """How one subscription is, all its partitions together."""

    name: str
    condition: Condition
    """What it is at: "idle", there is nothing to do; "behind", but at work; "held back" by an open transaction;
    "unattended", nobody works on it; "stuck" at an event that could not be handled, retried or given up."""
    ok: bool
    """Whether that is tolerable."""
    position: int
    """The checkpoint of the partition that is furthest behind."""
    positions_behind: int
    """The positions from there to the newest event; those that were never used are counted as well."""
    seconds_behind: float
    """The age of the oldest event above the checkpoint, by its own timestamp; 0 if there is none."""
    seconds_unmoved: float
    """Since the checkpoint was last stored."""
    error: str | None
    """What the handler raised at the event that it is stuck at, or None."""
    error_position: int | None
    """The position of that event, or None."""
    error_since: datetime | None
    """When that event could not be handled for the first time, or None."""
    held_back_by: BlockingSession | None
    """The open transaction that it waits for, or None."""
    parked: int
    """How many events are parked."""
    sentence: str
    """All this for people, on one line."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a store is, and each of its subscriptions."""

    ok: bool
    """Whether there is no problem."""
    problems: tuple[str, ...]
    """What is wrong, one sentence each; the sentences of subscriptions that are not ok are among them."""
    error: EventStoreError | None
    """Why the store could not be looked at, or None."""
    position: int | None
    """The position of the newest event; None if it could not be found out."""
    subscriptions: tuple[SubscriptionHealth, ...]
    """By name."""
    sessions: tuple[BlockingSession, ...]
    """Who holds readers of the log, or writers, back at this moment. That alone is no problem."""

    def as_json(self) -> str:
        """The whole as one JSON object, as the web applications of this module send it."""
        found: dict[str, Any] = dataclasses.asdict(self) | {"error": None if self.error is None else str(self.error)}
        for session, shown in zip(self.sessions, found["sessions"], strict=True):
            shown["sentence"] = session.sentence()
        return cleaned_json(json.dumps(found, ensure_ascii=False, default=datetime.isoformat))

    def as_prometheus(self) -> str:
        """The whole as metrics in the text format of Prometheus."""
        return "\n".join(_metrics(self)) + "\n"


@dataclass(frozen=True, slots=True)
class _Limits:
    max_lag: int | None
    max_seconds: float | None

    def __post_init__(self) -> None:
        if self.max_lag is not None and (type(self.max_lag) is not int or self.max_lag < 0):
            raise InvalidArgument(f"max_lag must be a number of positions of at least 0, not {self.max_lag!r}")
        seconds = self.max_seconds
        if seconds is not None and (type(seconds) not in {int, float} or not seconds >= 0):
            raise InvalidArgument(f"max_seconds must be a number of seconds of at least 0, not {seconds!r}")

    def exceeded_by(self, row: SubscriptionRow, behind: int) -> bool:
        return bool(behind) and (
            (self.max_lag is not None and behind > self.max_lag)
            or (self.max_seconds is not None and row.seconds_behind > self.max_seconds)
        )


def check(
    store: object, *, max_lag: int | None = None, max_seconds: float | None = 60.0, timeout: float = TIMEOUT
) -> Health:
    """Find out how a store and its subscriptions are, by one short query on a connection of its own.

    A subscription is well as long as somebody works on it and it is not too far behind. One on which nobody works is
    well only as long as there is nothing to do. It does not matter why one is too far behind: stuck, held back or
    slow. One that has given up at an event, or whose checkpoint is above the log, is never well.

    >>> store = InMemoryEventStore()
    >>> mails = Subscription(store, "mails", print)
    >>> mails.run_until_caught_up()
    >>> _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
    >>> report = check(store)
    >>> report.ok, report.problems
    (False, ('nobody works on subscription mails, which is 1 position(s) behind: start a worker',))

    Args:
        store: a store that keeps checkpoints.
        max_lag: how many positions a subscription may be behind; None: any number.
        max_seconds: how old the oldest event may be, by its own timestamp, that a subscription has not handled; None:
            any age. Events that were imported from elsewhere may be old.
        timeout: how many seconds it may take.

    Returns:
        A Health, also if the store can't be reached or its schema is not that of this library: then ``error`` says why.

    Raises:
        InvalidArgument: an argument is invalid.
    """
    if not isinstance(store, FollowableStore):
        raise InvalidArgument(f"a {type(store).__name__} keeps no checkpoints, so there is nothing to check")
    limits = _Limits(max_lag, max_seconds)
    with within(timeout):
        return blocking.run(_check(limits), store.execute_apart)


async def async_check(
    store: object,
    *,
    max_lag: int | None = None,
    max_seconds: float | None = 60.0,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 the same signature
) -> Health:
    """As check, for an async store."""
    if not isinstance(store, AsyncFollowableStore):
        raise InvalidArgument(f"a {type(store).__name__} keeps no checkpoints, so there is nothing to check")
    limits = _Limits(max_lag, max_seconds)
    with within(timeout):
        return await asynchronous.run(_check(limits), store.execute_apart)


# --- what is wrong ----------------------------------------------------------------------------------------------------


def _check(limits: _Limits) -> Operation[Health]:
    try:
        found = yield from ask(Examine())
    except (EventStoreError, OSError) as error:
        failure = error if isinstance(error, EventStoreError) else StoreUnavailable(str(error))
        what = "the schema is not that of this library" if isinstance(error, SchemaError) else "the store can't be used"
        sessions = tuple((yield from _who_has_locked_the_table()) if isinstance(error, StoreUnavailable) else ())
        problems = [cleaned(f"{what}: {error}"), *(each.sentence() for each in sessions)]
        return Health(False, tuple(problems), failure, None, (), sessions)
    now = datetime.now(UTC)
    subscriptions = tuple(_subscription(row, found, limits, now) for row in found.subscriptions)
    problems = [*_problems_of_the_log(found), *(each.sentence for each in subscriptions if not each.ok)]
    return Health(not problems, tuple(problems), None, found.highest, subscriptions, tuple(found.sessions))


def _who_has_locked_the_table() -> Operation[list[BlockingSession]]:
    """Those for whom a look at the log waits in vain; none where that can't be found out either."""
    with afterwards(LOOK_SECONDS):
        try:
            found = yield from ask(ListBlockingSessions())
        except (EventStoreError, OSError):
            return []
    return [each for each in found if each.holds == "table"]


@cache
def _newest_migration() -> int:
    return max(each.number for each in migrations())


def _problems_of_the_log(found: Examined) -> Iterable[str]:
    known = _newest_migration()  # A newer schema is well: programs of the last release work with that of the next.
    if found.migration is not None and found.migration < known:
        yield f"the schema is old: it has migration {found.migration}, not {known}: run `eventstore migrate`"
    if found.trouble is not None:
        yield cleaned(found.trouble)


def _subscription(row: SubscriptionRow, found: Examined, limits: _Limits, now: datetime) -> SubscriptionHealth:
    behind = max(row.highest - row.position, 0)
    is_above = row.position > row.highest
    holder = next((s for s in found.sessions if s.holds == "readers" and (s.position or 0) <= row.position), None)
    error, position = row.error, row.error_position
    since = None if row.seconds_failing is None else now - timedelta(seconds=row.seconds_failing)
    unattended = row.is_unattended
    condition: Condition
    if is_above:
        condition, error, position = "stuck", above_the_log(row.name, row.position, row.highest), row.position
        sentence = error
    elif error is not None:
        condition = "stuck"
        sentence = f"subscription {row.name} has {'given up' if row.failed else 'failed'} at position {position}"
        sentence += f" since {since.isoformat(' ', 'seconds')}" if since else ""
        sentence += f": {error}" + ("" if row.failed or not unattended else "; and nobody works on it: start a worker")
    elif unattended:
        condition = "unattended"
        sentence = f"nobody works on subscription {row.name}"
        sentence += f", which is {behind:,} position(s) behind: start a worker" if behind else ", and nothing is to do"
    elif behind and found.safe is not None and row.position >= found.safe:
        condition = "held back"
        sentence = f"subscription {row.name} is held back at position {row.position:,}"
        sentence += f": {holder.sentence()}" if holder else " by an open transaction"
    elif behind:
        condition = "behind"
        sentence = f"subscription {row.name} is {behind:,} position(s) and {row.seconds_behind:,.1f} s behind, and "
        sentence += f"moved {row.seconds_unmoved:,.1f} s ago"
    else:
        condition, sentence = "idle", f"subscription {row.name} has nothing to do"
    ok = not (is_above or row.failed or (unattended and behind) or limits.exceeded_by(row, behind))
    return SubscriptionHealth(
        row.name,
        condition,
        ok,
        row.position,
        behind,
        row.seconds_behind,
        row.seconds_unmoved,
        error,
        position,
        since,
        holder if condition == "held back" else None,
        row.parked,
        cleaned(sentence),
    )


# --- for machines -----------------------------------------------------------------------------------------------------

_CONDITIONS: tuple[Condition, ...] = ("idle", "behind", "held back", "unattended", "stuck")


def _metrics(health: Health) -> Iterable[str]:
    def gauge(name: str, what: str, *samples: tuple[dict[str, str], float]) -> Iterable[str]:
        yield f"# HELP eventstore_{name} {what}"
        yield f"# TYPE eventstore_{name} gauge"
        for labels, value in samples:
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            number = int(value) if value == int(value) else round(value, 3)
            yield f"eventstore_{name}{f'{{{shown}}}' if shown else ''} {number}"

    yield from gauge("ok", "Whether the store and its subscriptions are well.", ({}, health.ok))
    yield from gauge("up", "Whether the store can be used.", ({}, health.error is None))
    if health.position is not None:
        yield from gauge("last_position", "The position of the newest event.", ({}, health.position))
    now = datetime.now(UTC)
    held = [(now - each.since).total_seconds() for each in health.sessions if each.holds == "readers" and each.since]
    yield from gauge(
        "open_append_seconds", "The age of the oldest append that holds readers back.", ({}, max(held, default=0))
    )
    each_of: list[tuple[str, str, Callable[[SubscriptionHealth], float]]] = [
        ("subscription_ok", "Whether a subscription is well.", lambda each: each.ok),
        ("subscription_position", "The checkpoint.", lambda each: each.position),
        ("subscription_lag_positions", "Positions to the newest event.", lambda each: each.positions_behind),
        ("subscription_lag_seconds", "The age of the oldest event to handle.", lambda each: each.seconds_behind),
        ("subscription_parked_events", "How many events are parked.", lambda each: each.parked),
    ]
    for name, what, value in each_of:
        yield from gauge(name, what, *(({"subscription": each.name}, value(each)) for each in health.subscriptions))
    yield from gauge(
        "subscription_condition",
        "1 for the condition that a subscription is in.",
        *(
            ({"subscription": each.name, "condition": condition}, each.condition == condition)
            for each in health.subscriptions
            for condition in _CONDITIONS
        ),
    )


def _escaped(text: str) -> str:
    return cleaned(text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))


# --- on the web -------------------------------------------------------------------------------------------------------


def answer(method: str, health: Callable[[], Health]) -> tuple[int, str]:
    """The status and the JSON text that a request for the health of a store gets: 200, 503, or 405."""
    if method not in {"GET", "HEAD"}:
        return 405, '{"error": "use GET"}'
    found = health()
    return (200 if found.ok else 503), found.as_json()


_REASONS = {200: "200 OK", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


def wsgi_app(store: FollowableStore, **limits: Any) -> WSGIApplication:
    """Return a WSGI application that answers with the health of a store as JSON: 200 if it is well, else 503.

    ``limits`` are those of ``check``. The report has the errors of handlers, so don't show it to everybody.
    """
    check_arguments(limits)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, text = answer(environ["REQUEST_METHOD"], lambda: check(store, **limits))
        body = text.encode()
        start_response(_REASONS[status], [*HEADERS, ("Content-Length", str(len(body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return app


_Message: TypeAlias = MutableMapping[str, Any]


def asgi_app(
    store: FollowableStore | AsyncFollowableStore, **limits: Any
) -> Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]:
    """As wsgi_app, as an ASGI application, for a store of either kind. A blocking one is checked in a thread."""
    check_arguments(limits)

    async def app(
        scope: _Message, _receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            raise InvalidArgument(f"this application answers requests over HTTP, not {scope['type']}")
        method = scope["method"]
        if method not in {"GET", "HEAD"}:
            status, text = answer(method, _unasked)
        else:
            found = (
                await async_check(store, **limits)
                if isinstance(store, AsyncFollowableStore)
                else await asyncio.to_thread(check, store, **limits)
            )
            status, text = answer(method, lambda: found)
        body = text.encode()
        headers = [*HEADERS, ("Content-Length", str(len(body)))]
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    return app


def _unasked() -> Health:
    raise AssertionError("a request that is refused needs no report")


def check_arguments(limits: dict[str, Any]) -> None:
    """Refuse invalid limits when an application is made, not at its first request. Raises InvalidArgument."""
    unknown = limits.keys() - {"max_lag", "max_seconds", "timeout"}
    if unknown:
        raise InvalidArgument(f"{min(unknown)!r} is no limit: they are max_lag, max_seconds and timeout")
    _Limits(limits.get("max_lag"), limits.get("max_seconds"))
