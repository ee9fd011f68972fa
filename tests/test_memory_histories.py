"""The memory store under many threads, judged as a campaign is: by histories, and a program that knows nothing else."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from eventstore import InMemoryEventStore
from eventstore.testing.campaign.checker import Checker
from eventstore.testing.campaign.history import History
from eventstore.testing.campaign.workers import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from eventstore import EventStore

THREADS, READERS = 16, 2
FEW = 150
STEPS = 2000 if os.environ.get("EVENTSTORE_TEST_CAMPAIGN") == "full" else FEW


def judged(store: InMemoryEventStore, directory: Path, steps: int) -> dict[str, Any]:
    """What the checker says of so many steps of so many threads on a store."""
    done = threading.Event()

    def write(number: int) -> None:
        with closing(History(directory / f"writer-{number}.0001.jsonl")) as history:
            writer = Writer(store, history, Random(number), 5)  # noqa: S311 no secret
            for _ in range(steps):
                writer.step()

    def read(number: int) -> None:
        with closing(History(directory / f"reader-{number}.0001.jsonl")) as history:
            reader = Reader(store, history, 0)
            while not done.wait(0.01):
                reader.step()
            reader.step()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    (directory / "events.tsv").write_text(
        "".join(f"{e.position}\t{e.stream_id}\t{e.version}\t{e.event_id}\n" for e in store.read_all())
    )
    return Checker(directory).report()


def test_the_memory_store_keeps_every_promise_in_every_interleaving(tmp_path: Path) -> None:
    report = judged(InMemoryEventStore(), tmp_path, STEPS)
    assert {kind: number for kind, number in report["anomalies"].items() if number} == {}, report["examples"]
    assert report["facts"]["appends acknowledged"] > THREADS * STEPS / 2
    assert report["facts"]["calls that ended with ConcurrencyError"] > 0


class Unlocked(InMemoryEventStore):
    """Holds no stream while a transaction goes on: another one may build on the same version."""

    def __init__(self) -> None:
        super().__init__()
        self._engine.try_lock = lambda *_: True

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
        with super().transaction() as transaction:
            yield transaction
            time.sleep(0.001)  # For others to come.


def test_a_store_that_takes_no_locks_is_found_out(tmp_path: Path) -> None:
    assert judged(Unlocked(), tmp_path, FEW)["anomalies"]["duplicate version"] > 0
