"""Threads for calls that wait for the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, as_completed
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Workers:
    """Some threads. Those of an executor would keep the process after Ctrl-C, for as long as they wait for a server."""

    def __init__(self, threads: int) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
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
        futures = [self._submit(call) for call in calls]
        try:
            for future in as_completed(futures):
                if future.cancelled() or future.exception() is not None:
                    _cancel(futures)
                else:
                    yield future.result()
        finally:
            _cancel(futures)
        for future in futures:
            if not future.cancelled():
                future.result()

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        while task := self._calls.get():
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001 it is raised where the results are waited for
                    future.set_exception(error)


def _cancel(futures: list[Future[T]]) -> None:
    for future in futures:
        future.cancel()
