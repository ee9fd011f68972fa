"""Many commands at once: from threads and tasks on one pool, from processes, and all of them on one aggregate."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection as Pipe
from typing import Any, Self, TypeAlias
from uuid import uuid4

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import Raw
from benchmarks.measuring import Rounds, Table
from benchmarks.samples import Order, values
from eventstore import AsyncPostgresEventStore, AsyncRepository, ConcurrencyError, Repository

AT_ONCE = (1, 8, 64)
COMMANDS = 128
"""In a round, however many are under way at a time; each is on an aggregate of its own."""
HISTORY = 20
PROCESSES = 8
APPENDS = 25
UPDATES = 10
"""In a round, by each process."""
ATTEMPTS = 50
Work: TypeAlias = Callable[[Any], object]
"""Something that is done to the aggregate with an id. A process may return how many conflicts it met."""


def beside_others(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """Threads and tasks beside a hand-written loop; processes beside that and eventsourcing."""
    _on_one_pool(pool, dsn, rounds)
    _in_processes(pool, dsn, rounds)


def _on_one_pool(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    ours, raw = Ours(pool), Raw(pool)
    order_ids = [_filled(ours) for _ in range(COMMANDS)]
    raw_ids = [_filled(ours) for _ in range(COMMANDS)]  # Ours can't read what it stores there.
    table = Table(
        "Commands at once, on a pool of 8 connections",
        "at once",
        "threads: time as a multiple of a hand-written loop in threads",
        "tasks: the same",
    )
    with (
        ThreadPoolExecutor(max(AT_ONCE)) as threads,
        asyncio.Runner() as runner,
        _async_orders(dsn, runner) as tasks,
    ):
        for at_once in AT_ONCE:
            found = Rounds(
                {
                    "threads": partial(
                        _in_threads, threads, partial(ours.orders.update, change=_add), order_ids, at_once
                    ),
                    "raw": partial(_in_threads, threads, raw.command, raw_ids, at_once),
                    "tasks": lambda at_once=at_once: runner.run(_in_tasks(tasks, order_ids, at_once)),
                },
                rounds,
            )
            table.row(at_once, found.ratio("threads", "raw"), found.ratio("tasks", "raw"))


@contextmanager
def _async_orders(dsn: str, runner: asyncio.Runner) -> Iterator[AsyncRepository[Order]]:
    async def opened() -> AsyncConnectionPool[Any]:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            dsn, min_size=8, max_size=8, kwargs={"autocommit": True}, open=False
        )
        await pool.open(wait=True)
        return pool

    pool = runner.run(opened())
    try:
        yield AsyncRepository(AsyncPostgresEventStore(pool), Order)
    finally:
        runner.run(pool.close())


def _filled(ours: Ours) -> str:
    order_id = str(uuid4())
    ours.fill(order_id, HISTORY)
    return order_id


def _in_threads(threads: ThreadPoolExecutor, work: Work, order_ids: Sequence[str], at_once: int) -> None:
    def each(mine: Sequence[str]) -> None:
        for order_id in mine:
            work(order_id)

    for done in [threads.submit(each, order_ids[number::at_once]) for number in range(at_once)]:
        done.result()


async def _in_tasks(orders: AsyncRepository[Order], order_ids: Sequence[str], at_once: int) -> None:
    async def each(mine: Sequence[str]) -> None:
        for order_id in mine:
            await orders.update(order_id, _add)

    await asyncio.gather(*(each(order_ids[number::at_once]) for number in range(at_once)))


def _add(order: Order) -> None:
    order.add(values())


def _insisting(work: Work, order_id: Any) -> int:
    """Do it until nobody else is faster. Returns how often somebody was."""
    conflicts = 0
    while True:
        try:
            work(order_id)
        except psycopg.errors.UniqueViolation:
            conflicts += 1
        else:
            return conflicts


def _in_processes(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

    ours, peer = Ours(pool), Eventsourcing(dsn)
    Raw(pool)  # Makes its table.
    with ExitStack() as stack:
        crews = {name: stack.enter_context(Crew(name, dsn)) for name in CONTENDERS}
        found = Rounds({name: partial(crew.go, "append", None, APPENDS) for name, crew in crews.items()}, rounds)
        others = [name for name in CONTENDERS if name not in {"update", "update, cache"}]
        table = Table(f"{PROCESSES} processes: our speed as a multiple of", "work", *others)
        table.row("1 event to a new stream", *(found.speed("update", other) for other in others))

        made: Mapping[str, Callable[[], Any]] = {"eventsourcing": partial(peer.fill, HISTORY)}
        runs = {name: _Hot(crew, made.get(name, partial(_filled, ours))) for name, crew in crews.items()}
        found = Rounds({name: run.go for name, run in runs.items()}, rounds)
        for name in ("update", "update, cache"):
            table.row(f"{name}: one aggregate for all", *(found.speed(name, other) for other in others))
        table = Table(
            f"{PROCESSES} processes on one aggregate",
            "contender",
            "conflicts for each command",
            "longest command, as a multiple of the median",
            "slowest process, as a multiple of the fastest",
        )
        for name, run in runs.items():
            table.row(name, *run.summary())
    peer.close()


class _Hot:
    """A crew on one aggregate: another one in each round, so that its history stays short."""

    def __init__(self, crew: Crew, make: Callable[[], Any]) -> None:
        self._crew = crew
        self._make = make
        self._next = make()
        self._seen: list[Sequence[Sequence[tuple[float, int]]]] = []

    def go(self) -> None:
        self._seen.append(self._crew.go("command", self._next, UPDATES))
        self._next = self._make()

    def summary(self) -> Iterator[str]:
        commands = [each for seen in self._seen for process in seen for each in process]
        seconds = [each for each, _ in commands]
        yield f"{sum(conflicts for _, conflicts in commands) / len(commands):.2f}"
        yield f"{max(seconds) / statistics.median(seconds):.0f}"
        totals = [[sum(each for each, _ in process) for process in seen] for seen in self._seen]
        yield f"{statistics.median(max(each) / min(each) for each in totals):.2f}"


class Crew:
    """Processes that each do the same, with a connection of their own."""

    def __init__(self, name: str, dsn: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Pipe] = []
        self._processes: list[Any] = []
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(name, dsn, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()

    def go(self, what: str, order_id: Any, times: int) -> Sequence[Sequence[tuple[float, int]]]:
        """Have each process do it so many times. Returns the seconds and conflicts of each time, for each process."""
        for pipe in self._pipes:
            pipe.send((what, order_id, times))
        return [pipe.recv() for pipe in self._pipes]


def _serve(name: str, dsn: str, pipe: Pipe) -> None:
    with ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}) as pool:
        works = CONTENDERS[name](pool, dsn)
        pipe.send("ready")
        while (order := pipe.recv()) is not None:
            what, order_id, times = order
            done: list[tuple[float, int]] = []
            for _ in range(times):
                started = time.perf_counter()
                conflicts = works[what](order_id)
                done.append((time.perf_counter() - started, conflicts if isinstance(conflicts, int) else 0))
            pipe.send(done)


def _of_ours(pool: ConnectionPool[Any], _: str, **options: Any) -> Mapping[str, Work]:
    ours = Ours(pool)
    orders = Repository(ours.store, Order, **options)
    tries = 0

    def change(order: Order) -> None:
        nonlocal tries
        tries += 1
        _add(order)

    def update(order_id: str) -> int:
        before = tries
        while True:
            try:
                orders.update(order_id, change, ATTEMPTS)
            except ConcurrencyError:
                continue
            return tries - before - 1

    return {"append": lambda _: ours.append(1), "command": update}


def _of_raw(pool: ConnectionPool[Any], _: str) -> Mapping[str, Work]:
    raw = Raw(pool)
    return {"append": lambda _: raw.append(1), "command": partial(_insisting, raw.command)}


def _of_peer(_: ConnectionPool[Any], dsn: str) -> Mapping[str, Work]:
    from eventsourcing.persistence import IntegrityError

    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

    peer = Eventsourcing(dsn)

    def command(order_id: Any) -> int:
        conflicts = 0
        while True:
            try:
                peer.command(order_id)
            except IntegrityError:
                conflicts += 1
            else:
                return conflicts

    return {"append": lambda _: peer.append(1), "command": command}


CONTENDERS: Mapping[str, Callable[[ConnectionPool[Any], str], Mapping[str, Work]]] = {
    "update": _of_ours,
    "update, cache": partial(_of_ours, cache=1_000),
    "raw": _of_raw,
    "eventsourcing": _of_peer,
}
