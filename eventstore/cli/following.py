"""``eventstore status``, ``run``, ``rebuild``, ``parked`` and ``retry``: subscriptions, from the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, TypeAlias, cast

from eventstore.cli.progress import Progress
from eventstore.core.blocking import run as run_operation
from eventstore.core.checkpoints import SubscriptionStatus
from eventstore.core.operations import repeated
from eventstore.core.subscription_requests import ListParked
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.postgres import PostgresEventStore
from eventstore.subscriptions import Projection, RebuildProgress, Subscription, statuses
from eventstore.subscriptions.following import drop_parked

Worker: TypeAlias = Subscription | Projection[Any]

_HEADINGS = ("NAME", "STATE", "POSITION", "BEHIND", "SECONDS", "PARKED", "PARTITIONS")


def status(dsn: str, schema: str, *, as_json: bool) -> int:
    """How far each subscription is."""
    with PostgresEventStore.connect(dsn, schema, max_size=1) as store:
        found = statuses(store)
    if as_json:
        for each in found:
            print(json.dumps({**dataclasses.asdict(each), "state": each.state.value}, ensure_ascii=False))
        return 0
    rows = [_HEADINGS, *(_row(each) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row, notes in zip(rows, [[], *map(_notes, found)], strict=True):
        name, state, *numbers = row
        cells = [name.ljust(widths[0]), state.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        print("  ".join(cells).rstrip(), *notes, sep="\n    ")
    return 0


def _notes(each: SubscriptionStatus) -> list[str]:
    notes: list[str] = []
    if each.error is not None:
        notes.append(f"at position {each.error_position}: {_one_line(each.error)}")
    if each.rebuilt_to is not None:
        notes.append(f"being rebuilt, at position {each.rebuilt_to:,}")
    return notes


def _row(each: SubscriptionStatus) -> tuple[str, ...]:
    return (
        _one_line(each.name),
        each.state.value,
        f"{each.position:,}",
        f"{each.positions_behind:,}",
        f"{each.seconds_behind:,.1f}",
        f"{each.parked:,}",
        f"{each.partitions}",
    )


def parked(dsn: str, schema: str, name: str, drop: int | None) -> int:
    """List the parked events of a subscription, or drop the one at position ``drop``."""
    with PostgresEventStore.connect(dsn, schema, max_size=1) as store:
        if drop is not None:
            run_operation(drop_parked(name, drop), store.execute)
            return 0
        found = run_operation(repeated(ListParked(name)), store.execute)
    for event in found:
        place = f"{event.stream_id} version {event.version}"
        print(
            f"{event.position:>10}  {event.parked_at.isoformat(' ', 'seconds')}  {event.event_type}  {_one_line(place)}"
            f"  after {event.attempts} attempt(s): {_one_line(event.error)}"
        )
    return 0


def run(targets: Sequence[str]) -> int:
    """Workers, each in a thread, until one fails or a signal comes. Returns when what they were at is stored."""
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
    with _stopping_at_signals(stop):
        print(f"eventstore: running {', '.join(worker.name for worker in workers)}; Ctrl-C ends it", file=sys.stderr)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for worker, error in failed:
        if not isinstance(error, EventStoreError):
            raise error
        print(f"eventstore: {worker.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def _stopping_at_signals(stop: Callable[[], None]) -> Generator[None, None, None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rebuild(target: str, from_position: int) -> int:
    """A projection's read model made anew, with a bar that shows how far it is."""
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

        projection.rebuild(from_position, progress=show)
    end = last[-1]
    print(f"rebuilt {projection.name}: {end.events:,} events, {end.rate:,.0f}/s, up to position {end.position:,}")
    return 0


def retry(target: str, positions: Sequence[int]) -> int:
    """Events that were put aside, handled again: those at these positions, or all."""
    worker = _worker(target)
    for position in positions or [event.position for event in worker.parked()]:
        worker.retry_parked(position)
        print(f"{worker.name}: handled the event at position {position}")
    return 0


def _worker(target: str) -> Worker:
    """What ``package.module:name`` names, with the working directory on the path."""
    module_name, colon, name = target.partition(":")
    if not (colon and module_name and name):
        raise InvalidArgument(f"{target!r}: name a subscription as package.module:name")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 a text for the path
        sys.path.insert(0, here)
    try:
        found: object = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # A module that this one imports.
        raise InvalidArgument(f"{target!r}: there is no module {error.name!r} in {here}, or installed") from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, (Subscription, Projection)):
        raise InvalidArgument(f"{target!r} is no Subscription or Projection of eventstore")
    return cast("Worker", found)


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
