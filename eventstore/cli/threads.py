"""Threads for calls that wait for the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Outcome:
    """What became of a call. One that was never begun has neither a result nor an error."""

    number: int
    result: Any = None
    error: Exception | None = None
    is_done: bool = False


@dataclass(slots=True)
class _Batch:
    """Some calls. Nothing in here has a lock that an interrupt could leave taken."""

    outcomes: SimpleQueue[_Outcome] = field(default_factory=SimpleQueue[_Outcome])
    is_cancelled: bool = False


class Workers:
    """Some threads. Those of an executor would keep the process after Ctrl-C, for as long as they wait for a server.

    Ctrl-C may come at any moment, even while one is being handled. So threads meet in a SimpleQueue only, which is made
    for that.
    """

    def __init__(self, threads: int) -> None:
        self._calls: SimpleQueue[tuple[_Batch, int, Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def results(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Make these calls; what they return, as it comes.

        When one raises, no other is begun; once those that were are done, the first error in their order is raised.
        """
        batch = _Batch()
        errors: dict[int, Exception] = {}
        try:
            count = 0
            for count, call in enumerate(calls, 1):
                self._calls.put((batch, count, call))
            for _ in range(count):
                outcome = batch.outcomes.get()
                if outcome.error is not None:
                    batch.is_cancelled = True
                    errors[outcome.number] = outcome.error
                elif outcome.is_done:
                    yield outcome.result
        finally:
            batch.is_cancelled = True
        if errors:
            raise errors[min(errors)]

    def _work(self) -> None:
        while task := self._calls.get():
            batch, number, call = task
            outcome = _Outcome(number)
            if not batch.is_cancelled:
                try:
                    outcome.result = call()
                    outcome.is_done = True
                except Exception as error:  # noqa: BLE001 it is raised where the results are waited for
                    outcome.error = error
            batch.outcomes.put(outcome)
