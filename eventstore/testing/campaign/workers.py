"""The clients, each a process: writers, readers and followers that use the library as applications do.

``python -m eventstore.testing.campaign.workers '{"role": "writer", …}'``. A worker ends when its standard input does,
which also happens when the campaign is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from eventstore import AsyncPostgresEventStore, ConcurrencyError, EventStore, ExpectedVersion, StoreUnavailable
from eventstore.testing.adapters import EventLoopThread, SyncFromAsyncEventStore
from eventstore.testing.campaign.appends import AHEAD, Interrupted, Outcome, Part, Recorder, carry_out, new_events
from eventstore.testing.campaign.followers import follow
from eventstore.testing.campaign.forgetting import forget, watch
from eventstore.testing.campaign.history import History
from eventstore.testing.campaign.planted import store_for

_PAGE = 500
_POLL_SECONDS = 0.05
_FAVOUR = 4
"""How often a writer takes to its favourite stream: were all streams equal, most appends would meet a conflict."""
_CALM_SECONDS = 0.05
"""What a client waits after it was told that the store is unavailable."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The orders for a worker."""

    role: str
    dsn: str
    history: str
    seed: str
    streams: int
    position: int
    """Where a reader resumes."""
    planted: str | None
    tasks: int
    """How many calls are under way at a time, on an async store; 0: one, on a blocking store."""


class Writer:
    """Appends in every way that the interface has, to a few streams that it shares with the other writers."""

    def __init__(self, store: EventStore, history: History, random: Random, streams: int) -> None:
        self._store = store
        self._recorder = Recorder(history)
        self._random = random
        self._streams = [f"stream-{number}" for number in range(1, streams + 1)]
        random.shuffle(self._streams)
        self._quiet = f"{AHEAD}{random.getrandbits(64):x}"
        self._weights = [_FAVOUR, *[1] * (streams - 1)]
        self._known: dict[str, int] = {}
        self._recent: deque[Sequence[Part]] = deque(maxlen=20)

    def step(self) -> None:
        """Make one call, and what follows from its outcome."""
        ways: list[Callable[[], None]] = [self._exact, self._any, self._two_streams, self._again, self._ahead]
        self._random.choices(ways, weights=(8, 8, 3, 1, 2))[0]()
        time.sleep(self._random.expovariate(1) * 0.002)

    def _exact(self) -> None:
        stream = self._stream()
        for _ in range(3):  # As an application: decide again, on what is there now.
            outcome = self._call([self._part(stream, exact=True)])
            if not isinstance(outcome.error, ConcurrencyError):
                break

    def _any(self) -> None:
        self._call([self._part(self._stream(), exact=False)])

    def _two_streams(self) -> None:
        streams = self._random.sample(self._streams, 2)
        if self._random.random() < 0.95:
            streams.sort()  # Opposite orders deadlock: rarely, for that costs a moment.
        self._call([self._part(stream, exact=self._random.random() < 0.5) for stream in streams])

    def _again(self) -> None:
        if self._recent:
            self._call(self._random.choice(self._recent))

    def _ahead(self) -> None:
        """Append where a stream of one's own is not yet, which is refused, and then bring it there."""
        known = self._known.get(self._quiet, 0)
        self._call([Part(self._quiet, new_events(1), known + 1)])
        self._call([Part(self._quiet, new_events(1), self._known.get(self._quiet, known))])

    def _stream(self) -> str:
        return self._random.choices(self._streams, self._weights)[0]

    def _part(self, stream: str, *, exact: bool) -> Part:
        count = self._random.choice((1, 1, 1, 2, 3, 10))
        return Part(stream, new_events(count), self._known.get(stream, 0) if exact else ExpectedVersion.ANY)

    def _call(self, parts: Sequence[Part]) -> Outcome:
        """Call, and again with the same events while the outcome is unknown."""
        while True:
            outcome = self._recorder.call(parts, lambda: carry_out(self._store, parts))
            if outcome.what != "unknown":
                break
        if outcome.what == "ok":
            self._recent.append(parts)
            for part, version in zip(parts, outcome.versions, strict=True):
                self._known[part.stream_id] = max(self._known.get(part.stream_id, 0), version)
        elif isinstance(outcome.error, ConcurrencyError):
            if outcome.error.actual_version is not None:
                self._known[outcome.error.stream_id] = outcome.error.actual_version
        else:
            time.sleep(_CALM_SECONDS)
        return outcome


class Reader:
    """Follows the log from where it is."""

    def __init__(self, store: EventStore, history: History, position: int) -> None:
        self._store = store
        self._history = history
        self._position = position
        history.write("from", position=position)

    def step(self) -> bool:
        """Read to the end as it is now; whether that was reached."""
        seen: list[tuple[int, str, int, str]] = []
        try:
            for event in self._store.read_all(self._position, _PAGE):
                seen.append((event.position, event.stream_id, event.version, event.event_id.hex))
                if len(seen) == _PAGE:
                    self._note(seen)
        except StoreUnavailable:
            time.sleep(_CALM_SECONDS)
            return False
        finally:
            self._note(seen)
        return True

    def _note(self, seen: list[tuple[int, str, int, str]]) -> None:
        if seen:
            self._history.write("read", events=seen)
            self._position = seen[-1][0]
            seen.clear()


_OF_PERSONAL_DATA = {"forgetter": forget, "watcher": watch}


def main() -> None:
    """Work until standard input ends; a reader then once more, for by then the writers have ended."""
    assignment = Assignment(**json.loads(sys.argv[1]))
    stop = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    if assignment.role == "follower":
        follow(assignment.dsn, History(Path(assignment.history)), stop, assignment.planted)
        return
    if assignment.role in _OF_PERSONAL_DATA:
        _OF_PERSONAL_DATA[assignment.role](assignment.dsn, History(Path(assignment.history)), stop, assignment.planted)
        return
    with _store_for(assignment) as store:
        if assignment.role == "reader":
            _read(assignment, store, stop)
        elif not assignment.tasks:
            signal.signal(signal.SIGUSR1, _interrupt)  # In this thread, as an application's soft time limit.
            _write(assignment, store, stop, 0)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        else:
            with ThreadPoolExecutor() as threads:
                list(threads.map(partial(_write, assignment, store, stop), range(assignment.tasks)))


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupted


def _write(assignment: Assignment, store: EventStore, stop: threading.Event, task: int) -> None:
    path = Path(assignment.history)
    history = History(path.with_suffix(f".{task}{path.suffix}"))
    writer = Writer(store, history, Random(f"{assignment.seed} {task}"), assignment.streams)  # noqa: S311 no secrets here
    while not stop.is_set():
        with suppress(Interrupted):  # Around the loop: nothing else is done between two interrupts.
            while not stop.is_set():
                writer.step()
    history.write("end")


def _read(assignment: Assignment, store: EventStore, stop: threading.Event) -> None:
    history = History(Path(assignment.history))
    reader = Reader(store, history, assignment.position)
    while not stop.wait(_POLL_SECONDS):
        reader.step()
    while not reader.step():
        pass
    history.write("end")


@contextmanager
def _store_for(assignment: Assignment) -> Generator[EventStore, None, None]:
    if not assignment.tasks:
        with store_for(assignment.planted, assignment.dsn) as store:
            yield store
        return
    with EventLoopThread() as loop:
        asynchronous = AsyncPostgresEventStore.connect(assignment.dsn)
        try:
            yield SyncFromAsyncEventStore(asynchronous, loop)
        finally:
            loop.run(asynchronous.close())


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 100):
        pass
    stop.set()


if __name__ == "__main__":
    main()
