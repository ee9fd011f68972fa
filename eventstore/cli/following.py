"""Subscriptions, from the command line: ``status``, ``run``, ``rebuild``, ``parked``, ``retry`` and ``remove``."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from eventstore.cli.modules import object_named
from eventstore.cli.progress import Progress
from eventstore.cli.telling import complain, log_to_stderr, stopping_at_signals
from eventstore.codec.showing import cleaned, cleaned_json
from eventstore.core.checkpoints import ParkedEvent, SubscriptionStatus
from eventstore.core.logs import store_log, subscription_log
from eventstore.errors import EventStoreError, InvalidArgument, StoreUnavailable
from eventstore.event import Event
from eventstore.health import Health, check
from eventstore.postgres import PostgresEventStore
from eventstore.subscriptions import (
    BlockingSession,
    Projection,
    RebuildProgress,
    Subscription,
    blocking_sessions,
    statuses,
)

Worker: TypeAlias = Subscription | Projection[Any]

_PATIENCE, _PAUSE = 5.0, 1.0
"""Seconds that a mark may take, and those after one that took longer."""
_HEADINGS = ("NAME", "STATE", "POSITION", "BEHIND", "SECONDS", "PARKED", "PARTITIONS")


def status(
    dsn: str,
    schema: str,
    *,
    max_lag: int | None,
    max_seconds: float | None,
    as_json: bool,
    as_prometheus: bool,
    fail: bool,
) -> int:
    """Who holds others back, then how far each subscription is; or metrics. With ``fail`` exit code 1 if any is ill."""
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        health = check(store, max_lag=max_lag, max_seconds=max_seconds) if as_json or as_prometheus or fail else None
        if health is not None and as_prometheus:
            print(health.as_prometheus(), end="")
        elif health is None or health.error is None:
            _print_status(store, health if as_json else None)
    code = 0
    if health is not None and health.error is not None and not as_prometheus:
        for session in health.sessions:  # Who has locked the table, for one.
            print(_session_as_json(session) if as_json else session.sentence())
        raise health.error
    if health is not None and fail and not health.ok:
        code = 1
        for problem in health.problems:
            complain(problem)
    return code


def _print_status(store: PostgresEventStore, health: Health | None) -> None:
    """For people; with a report of its health as JSON lines, the last of which is that report."""
    # First, as the other look waits for whoever has locked a table.
    for session in blocking_sessions(store):
        print(_session_as_json(session) if health else session.sentence(), flush=True)
    found = statuses(store)
    if health is not None:
        for each in found:
            print(_as_json(each, kind="subscription", state=each.state.value))
        print(cleaned_json(json.dumps({"kind": "health", "ok": health.ok, "problems": health.problems})))
        return
    rows = [_HEADINGS, *(_row(each) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row, notes in zip(rows, [[], *map(_notes, found)], strict=True):
        name, state, *numbers = row
        cells = [name.ljust(widths[0]), state.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        print("  ".join(cells).rstrip(), *notes, sep="\n    ")


def _notes(each: SubscriptionStatus) -> list[str]:
    notes: list[str] = []
    if each.error is not None:
        where = "" if each.error_position is None else f"at position {each.error_position}: "
        notes.append(where + cleaned(each.error))
    if each.rebuilt_to is not None:
        notes.append(f"being rebuilt, at position {each.rebuilt_to:,}")
    return notes


def _row(each: SubscriptionStatus) -> tuple[str, ...]:
    return (
        cleaned(each.name),
        each.state.value,
        f"{each.position:,}",
        f"{each.positions_behind:,}",
        f"{each.seconds_behind:,.1f}",
        f"{each.parked:,}",
        f"{each.partitions}",
    )


def _as_json(each: SubscriptionStatus | ParkedEvent | BlockingSession, **instead: str | None) -> str:
    return cleaned_json(json.dumps({**dataclasses.asdict(each), **instead}, ensure_ascii=False))


def _session_as_json(each: BlockingSession) -> str:
    since, waiting_since = (moment.isoformat() if moment else None for moment in (each.since, each.waiting_since))
    return _as_json(each, kind="session", since=since, waiting_since=waiting_since, sentence=each.sentence())


def parked(dsn: str, schema: str, name: str, drop: int | None, *, as_json: bool) -> int:
    """List the parked events of a subscription, or drop the one at position ``drop``."""
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        subscription = _stored(store, name)
        if drop is not None:
            subscription.drop_parked(drop)
            return 0
        found = subscription.parked()
    for event in found:
        moment = event.parked_at.isoformat(" ", "seconds")
        if as_json:
            print(_as_json(event, parked_at=event.parked_at.isoformat()))
            continue
        place = f"{event.stream_id} version {event.version}"
        line = f"{event.position:>10}  {moment}  {event.event_type}  {place}  after {event.attempts} attempt(s): "
        print(cleaned(line + event.error))
    return 0


def remove(dsn: str, schema: str, name: str, *, is_sure: bool) -> int:
    """Forget a subscription: its checkpoint and its parked events. Asks first, on a terminal."""
    with PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False) as store:
        subscription = _stored(store, name)
        status = subscription.status()
        what = f"subscription {name!r} at position {status.position:,}, with {status.parked:,} parked event(s)"
        if not is_sure:
            if not sys.stdin.isatty():
                complain(f"this would remove {what}: say --yes")
                return 1
            print(
                cleaned(f"Remove {what}? It handles all events again if it is run once more. [y/N] "),
                end="",
                flush=True,
            )
            if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
                print("Nothing was removed.")
                return 1
        subscription.remove()
    print(cleaned(f"removed {what}"))
    return 0


def _stored(store: PostgresEventStore, name: str) -> Subscription:
    """The subscription of a name, to be managed. Raises InvalidArgument, which lists those that there are."""
    names = [each.name for each in statuses(store)]
    if name not in names:
        there = f"there are {', '.join(map(repr, names))}" if names else "there are none"
        raise InvalidArgument(f"there is no subscription {name!r}: {there}")
    return Subscription(store, name, _handle_nothing)


def _handle_nothing(_: Event) -> None:
    raise AssertionError  # it is never run


def run(targets: Sequence[str]) -> int:
    """Workers, each in a thread, until one fails or a signal comes. Returns when what they were at is stored."""
    log_to_stderr()
    workers = [_worker(target) for target in targets]
    failed: list[tuple[Worker, BaseException]] = []

    def work(worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 told below
            failed.append((worker, error))
            stop()

    def stop() -> None:
        for worker in workers:
            worker.stop()

    threads = [threading.Thread(target=work, args=(worker,), name=worker.name) for worker in workers]
    with stopping_at_signals(stop):
        complain(f"running {', '.join(worker.name for worker in workers)}; Ctrl-C ends it")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for worker, error in failed:
        if not isinstance(error, EventStoreError):
            raise error
        complain(f"{worker.name}: {error}")
    return 1 if failed else 0


def mark(dsn: str, schema: str, every: float) -> int:
    """Mark how far standbys may read the log, again and again, until a signal comes. An outage only delays it."""
    log_to_stderr()
    stopped = threading.Event()
    complain(f"marking the log of schema {schema!r} every {every:g} s; Ctrl-C ends it")
    with (
        PostgresEventStore.connect(dsn, schema, max_size=1, prepare=False, timeout=_PATIENCE) as store,
        stopping_at_signals(stopped.set),
    ):
        while not stopped.wait(every):
            try:
                store.mark_log()
            except StoreUnavailable as error:
                store_log.warning("the log is not marked: %s; the next attempt follows", cleaned(str(error)))
                stopped.wait(_PAUSE)
    return 0


def rebuild(target: str, from_position: int, archives: Sequence[str] | None) -> int:
    """Rebuild a projection's read model, with a progress bar."""
    projection = _worker(target)
    if not isinstance(projection, Projection):
        raise InvalidArgument(f"{target} is a {type(projection).__name__}: only a Projection can be rebuilt")
    last: list[RebuildProgress] = []
    with Progress(f"rebuilding {projection.name}", total=1) as bar:

        def show(now: RebuildProgress) -> None:
            before = last[-1] if last else dataclasses.replace(now, position=now.first, events=0)
            span = max(now.target - now.first, 1)
            bar.advance(now.events - before.events, done=(now.position - before.position) / span)
            last[:] = [now]

        projection.rebuild(from_position, progress=show, archives=archives)
    end = last[-1]
    done = f"{end.events:,} events, {end.rate:,.0f}/s, up to position {end.position:,}"
    print(cleaned(f"rebuilt {projection.name}: {done}"))
    return 0


def retry(target: str, positions: Sequence[int]) -> int:
    """Handle parked events again: those at these positions, or all. Exit code 1 if any failed again."""
    log_to_stderr()
    worker = _worker(target)
    failures = 0
    for position in positions or [event.position for event in worker.parked()]:
        try:
            worker.retry_parked(position)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 a handler's, or one of ours
            failures += 1
            outcome = f"the event at position {position} failed again: {type(error).__name__}: {error}"
            if isinstance(error, EventStoreError):
                outcome = f"the event at position {position} was not handled: {error}"
            else:
                subscription_log.error(
                    "subscription %s: %s",
                    cleaned(worker.name),
                    cleaned(outcome),
                    exc_info=error,
                    extra={"subscription": worker.name, "position": position},
                )
        else:
            outcome = f"handled the event at position {position}"
        print(cleaned(f"{worker.name}: {outcome}"))
    return 1 if failures else 0


def _worker(target: str) -> Worker:
    found = object_named(target, "a subscription")
    if not isinstance(found, (Subscription, Projection)):
        raise InvalidArgument(f"{target!r} is not a Subscription or Projection of eventstore")
    return cast("Worker", found)
