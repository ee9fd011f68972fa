"""Who makes the looks of watching.py: one of the blocking followers of a store that wait in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from weakref import WeakKeyDictionary

from eventstore.core.blocking import FollowableStore
from eventstore.errors import EventStoreError
from eventstore.subscriptions.watching import Waiter, Watch


class Watching:
    """The followers of one store that wait. The first of them looks for all; when it leaves, the next one does."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._watch = Watch()
        self._lock = threading.Lock()
        self._lead = threading.Lock()
        self._leader: SimpleQueue[None] | None = None
        self._hinted = False

    def hint(self) -> None:
        """Say that a look may be worth it. Can be called in a signal handler, whatever it interrupts."""
        self._hinted = True
        leader = self._leader
        if leader is not None:
            poke(leader)

    def wait(
        self, store: FollowableStore, waiter: Waiter, pokes: SimpleQueue[None], stopping: Callable[[], bool]
    ) -> int | None:
        """Wait until there is something for a follower, or it is stopped; the reply to WaitForNews.

        ``pokes`` is the follower's own: something is put there to have it look around.
        """
        waiter.wake = lambda: poke(pokes)
        with self._lock:
            late = self._watch.join(waiter)
        if late:
            self.hint()
        try:
            while not (waiter.woken or stopping()):
                if not self._lead.acquire(blocking=False):
                    pokes.get()
                    continue
                try:
                    self._look(store, waiter, pokes, stopping)
                finally:
                    self._leader = None
                    self._lead.release()
        finally:
            with self._lock:
                del self._watch.waiters[waiter]
                heir = next(iter(self._watch.waiters), None)
            if heir is not None and not self._lead.locked():
                heir.wake()
        return waiter.news

    def _look(
        self, store: FollowableStore, waiter: Waiter, pokes: SimpleQueue[None], stopping: Callable[[], bool]
    ) -> None:
        self._leader = pokes
        while not (waiter.woken or stopping()):
            if not self._hinted:
                with suppress(Empty):
                    pokes.get(timeout=self._watch.seconds())
                if stopping():
                    return
            self._hinted = False
            try:
                store.carry_out(self._watch.look())
            except EventStoreError:
                self._watch.alarm_all()


def poke(pokes: SimpleQueue[None]) -> None:
    """Have whoever waits there look around."""
    if pokes.empty():
        pokes.put(None)


_watchings: WeakKeyDictionary[FollowableStore, Watching] = WeakKeyDictionary()
_making = threading.Lock()


def watching(store: FollowableStore) -> Watching:
    """The followers of a store that wait in this process."""
    found = _watchings.get(store)
    if found is None or found.process != os.getpid():
        with _making:
            found = _watchings.get(store)
            if found is None or found.process != os.getpid():
                found = _watchings[store] = Watching()
    return found
