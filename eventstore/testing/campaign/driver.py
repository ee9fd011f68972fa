"""The campaign: a server, workers, faults, and at the end the checker."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL

from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer
from eventstore.testing.campaign import checker
from eventstore.testing.campaign.crew import Crew
from eventstore.testing.campaign.faults import ALL_THE_WHILE, ON_TURN, Faults
from eventstore.testing.campaign.followers import MODEL, create_model
from eventstore.testing.campaign.forgetting import prepare
from eventstore.testing.campaign.history import History
from eventstore.testing.campaign.meanwhile import Holder, Unrelated
from eventstore.testing.campaign.planted import BUGS, plant
from eventstore.testing.campaign.workers import Assignment
from eventstore.testing.proxy import Proxy

_ROUND_SECONDS = 4
"""After which a campaign with a planted bug looks whether it has shown."""
_FEW = 3
"""How many faults it delivers until then at least, if it can."""
_PAUSES = (0.0, 0.4)
"""Seconds between two faults, at least and at most."""
_TASKS = 4
"""How many calls an async writer has under way at a time."""
_SETTINGS = {"deadlock_timeout": "200ms", "max_connections": "200"}
"""Enough connections for the pools of all workers, which fill up as connections are lost."""
_PATIENCE = 4
"""How many times as long as it was told a campaign may take to deliver the least number of every fault."""
_QUIET_SECONDS = 60
_REST_SECONDS = 4
_EVENTS = "SELECT position, stream_id, version, event_id FROM eventstore.events"
_MODEL: LiteralString = f"SELECT position, times FROM {MODEL}"  # noqa: S608 a constant


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    seconds: float = 20
    writers: int = 6
    readers: int = 2
    streams: int = 5
    seed: int = 0
    minimum: int = 1
    appends: int = 100
    planted: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was delivered and what was found; ``missing``: the faults that fell short of the minimum."""

    options: Options
    seconds: float
    faults: dict[str, int]
    missing: list[str]
    facts: dict[str, Any]
    anomalies: dict[str, int]
    examples: dict[str, list[str]]
    problems: list[str]

    @property
    def clean(self) -> bool:
        """Whether the promises held, and were put to the test."""
        return not (self.missing or self.problems or any(self.anomalies.values()))

    @property
    def caught(self) -> bool:
        """Whether the planted bug has shown as what it is."""
        bug = BUGS.get(self.options.planted or "")
        return bug is not None and any(self.anomalies[kind] for kind in bug.shows_as)


class Campaign:
    """One campaign. Its histories, the dump of the table and the workers' errors lie in ``directory``."""

    def __init__(self, options: Options, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._bug = BUGS[options.planted] if options.planted else None
        self._random = Random(options.seed)  # noqa: S311 no secrets here
        self._counts: Counter[str] = Counter()
        self._count_lock = threading.Lock()
        self._log = History(directory / "faults.jsonl")
        self._problems: list[str] = []

    def run(self) -> Report:
        """Run it. Whatever ends it, nothing that it has started stays."""
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # That connections are lost is no news here.
        began = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._log.close)
            server = stack.enter_context(EmbeddedServer(settings=_SETTINGS))
            migrate(server.dsn)
            create_model(server.dsn)
            prepare(server.dsn)
            unrelated = Unrelated(server.dsn, self._count)
            if self._bug is not None:
                plant(self._bug, server.dsn)
            proxy = stack.enter_context(Proxy(server.dsn))
            crew = stack.enter_context(Crew(self._directory, self._child()))
            faults = Faults(
                server,
                proxy,
                self._child(),
                kill=crew.kill,
                interrupt=crew.interrupt,
                commits=0.5 if self._bug is None else 0,
            )
            stack.callback(faults.close)
            holder_history = History(self._directory / "holder.0001.jsonl")
            stack.callback(holder_history.close)
            holder = Holder(_named(proxy.dsn, "holder"), holder_history, self._child(), self._count)
            self._hire(crew, server.dsn, proxy.dsn)
            while True:
                seconds = self._options.seconds if self._bug is None else _ROUND_SECONDS
                with _running(holder.run), _running(unrelated.run):
                    self._deliver(crew, faults, seconds)
                self._come_to_rest(crew, faults)
                _dump(server.dsn, _EVENTS, self._directory / "events.tsv")
                _dump(server.dsn, _MODEL, self._directory / "counted.tsv")
                report = self._check(crew, time.monotonic() - began)
                if self._bug is None or report.caught or report.seconds > self._options.seconds:
                    return report
                crew.start()

    def _child(self) -> Random:
        return Random(self._random.random())  # noqa: S311

    def _count(self, kind: str, began: float) -> None:
        with self._count_lock:
            self._counts[kind] += 1
            self._log.write("fault", kind=kind, began=began)

    def _hire(self, crew: Crew, direct: str, proxied: str) -> None:
        def hire(role: str, number: int, dsn: str, tasks: int) -> None:
            name = f"{role}-{number}"
            crew.hire(
                name,
                Assignment(
                    role=role,
                    dsn=_named(dsn, name),
                    history="",
                    seed="",
                    streams=self._options.streams,
                    position=0,
                    planted=self._options.planted,
                    tasks=0 if self._options.planted else tasks,  # Bugs in a client are planted in the blocking one.
                ),
            )

        for number in range(1, self._options.writers + 1):
            hire("writer", number, proxied if number % 2 else direct, 0 if number % 3 else _TASKS)
        for number in range(1, self._options.readers + 1):
            hire("reader", number, proxied, 0 if number % 2 else 1)
        hire("follower", 1, proxied, 0)
        hire("forgetter", 1, proxied, 0)
        hire("watcher", 1, direct, 0)

    def _deliver(self, crew: Crew, faults: Faults, seconds: float) -> None:
        """Deliver faults until the time is up, and there are enough: of each, or with a planted bug a few."""
        began = time.monotonic()
        few = _FEW if self._bug is not None else 0
        turns = self._turns()
        pauses = _PAUSES if self._bug is None else self._bug.pauses
        while (passed := time.monotonic() - began) < seconds or (
            (few > 0 or (self._bug is None and self._missing())) and passed < _PATIENCE * seconds
        ):
            crew.watch()
            time.sleep(self._random.uniform(*pauses))
            began_fault = time.monotonic()
            if delivered := faults.deliver(next(turns)):
                self._count(delivered, began_fault)
                few -= 1

    def _turns(self) -> Iterator[str]:
        """Kinds of faults for ever, in a new order in every turn."""
        weights = ON_TURN if self._bug is None else dict.fromkeys(self._bug.faults, 1)
        while True:
            turn = [kind for kind, weight in weights.items() for _ in range(weight)]
            self._random.shuffle(turn)
            yield from turn

    def _missing(self) -> list[str]:
        return [kind for kind in (*ON_TURN, *ALL_THE_WHILE) if self._counts[kind] < self._options.minimum]

    def _come_to_rest(self, crew: Crew, faults: Faults) -> None:
        """Writers finish; then what is left of them in the server; then who follows them comes to the end."""
        time.sleep(_REST_SECONDS)  # What a writer has forgotten is still there, and nothing else is.
        self._log.write("left open", kind="left open", number=faults.left_open())
        crew.finish("writer")
        crew.finish("forgetter")
        deadline = time.monotonic() + _QUIET_SECONDS
        others = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'campaign-%'"
            " AND application_name NOT SIMILAR TO 'campaign-(reader|follower|watcher)-%'"
        )
        while faults.query(others):
            if time.monotonic() > deadline:
                self._problems.append(f"sessions of writers that had ended were still there after {_QUIET_SECONDS} s")
                break
            time.sleep(0.02)
        crew.finish("reader")
        crew.finish("follower")
        crew.finish("watcher")

    def _check(self, crew: Crew, seconds: float) -> Report:
        # On its own, so that nothing of this package can have a part in the verdict.
        command = [sys.executable, "-I", "-S", checker.__file__, str(self._directory)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603
        problems = self._problems + crew.problems
        if (acknowledged := found["facts"]["appends acknowledged"]) < self._options.appends:
            problems.append(f"only {acknowledged} appends were acknowledged, not {self._options.appends}")
        return Report(
            options=self._options,
            seconds=seconds,
            faults={kind: self._counts[kind] for kind in (*ON_TURN, *ALL_THE_WHILE)},
            missing=[] if self._bug is not None else self._missing(),
            problems=problems,
            **found,
        )


def _named(dsn: str, name: str) -> str:
    return make_conninfo(dsn, application_name=f"campaign-{name}")


@contextmanager
def _running(work: Callable[[threading.Event], None]) -> Generator[None, None, None]:
    """Work in a thread that stops at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_QUIET_SECONDS)


def _dump(dsn: str, query: LiteralString, path: Path) -> None:
    """What a query returns, by the server's own COPY."""
    copy = SQL("COPY ({}) TO STDOUT").format(SQL(query))
    with psycopg.connect(dsn) as connection, path.open("wb") as file, connection.cursor().copy(copy) as rows:
        for row in rows:
            file.write(row)
