"""The twin of watchers.py: who makes the looks for the async followers of a store, in each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from eventstore.core.asynchronous import AsyncFollowableStore
from eventstore.errors import EventStoreError
from eventstore.subscriptions.watching import Waiter, Watch


class AsyncWatching:
    """As Watching, in one event loop."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._loop = asyncio.get_running_loop()
        self._leader: asyncio.Event | None = None
        self._hinted = False

    def hint(self) -> None:
        """As Watching.hint; from any thread."""
        if not self._hinted:
            self._hinted = True
            with suppress(RuntimeError):  # The loop has been closed.
                self._loop.call_soon_threadsafe(self._poke_leader)

    def _poke_leader(self) -> None:
        if self._leader is not None:
            self._leader.set()

    async def wait(
        self, store: AsyncFollowableStore, waiter: Waiter, pokes: asyncio.Event, stopping: Callable[[], bool]
    ) -> int | None:
        """As Watching.wait."""
        waiter.wake = pokes.set
        if self._watch.join(waiter):
            self.hint()
        try:
            while not (waiter.woken or stopping()):
                if self._leader is not None:
                    await pokes.wait()
                    pokes.clear()
                    continue
                try:
                    await self._look(store, waiter, pokes, stopping)
                finally:
                    self._leader = None
        finally:
            del self._watch.waiters[waiter]
            heir = next(iter(self._watch.waiters), None)
            if heir is not None and self._leader is None:
                heir.wake()
        return waiter.news

    async def _look(
        self, store: AsyncFollowableStore, waiter: Waiter, pokes: asyncio.Event, stopping: Callable[[], bool]
    ) -> None:
        self._leader = pokes
        while not (waiter.woken or stopping()):
            if not self._hinted:
                with suppress(TimeoutError):
                    await asyncio.wait_for(pokes.wait(), self._watch.seconds())
                pokes.clear()
                if stopping():
                    return
            self._hinted = False
            try:
                await store.carry_out(self._watch.look())
            except EventStoreError:
                self._watch.alarm_all()


_watchings: WeakKeyDictionary[AsyncFollowableStore, WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncWatching]] = (
    WeakKeyDictionary()
)


def watching(store: AsyncFollowableStore) -> AsyncWatching:
    """The followers of a store that wait in the running event loop."""
    of_store = _watchings.setdefault(store, WeakKeyDictionary())
    loop = asyncio.get_running_loop()
    if loop not in of_store:
        of_store[loop] = AsyncWatching()
    return of_store[loop]
