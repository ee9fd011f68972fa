"""A bounded cache of aggregates, for a repository. No I/O."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, Generic, TypeVar
from uuid import UUID

from eventstore.aggregate import Aggregate

A = TypeVar("A", bound=Aggregate[Any])


class AggregateCache(Generic[A]):
    """Keeps the aggregates that were used last, each as events that are known to be stored have made it.

    An aggregate is taken out by one caller at a time. Whoever asks meanwhile gets None and loads it, so nobody waits. A
    caller that fails does not put it back. What is in here is never lent to a program, which gets copies.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._empty()

    def _empty(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._kept: OrderedDict[UUID | str, A] = OrderedDict()

    def _check_process(self) -> None:
        if self._process != os.getpid():  # Forked: another thread may have held the lock.
            self._empty()

    def take(self, aggregate_id: UUID | str) -> A | None:
        """Take an aggregate out, if it is here."""
        self._check_process()
        with self._lock:
            return self._kept.pop(aggregate_id, None)

    def put(self, aggregate: A) -> None:
        """Put an aggregate in, unless it is here at a higher version, in place of the one that was not used longest."""
        self._check_process()
        with self._lock:
            there = self._kept.pop(aggregate.id, None)
            self._kept[aggregate.id] = there if there is not None and there.version > aggregate.version else aggregate
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Let all aggregates go."""
        self._check_process()
        with self._lock:
            self._kept.clear()
