"""Subscriptions of all four stores behind one blocking front, so that what they promise is written once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest
from psycopg_pool import AsyncConnectionPool
from waiting import PATIENCE

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncPostgresEventStore,
    AsyncProjection,
    AsyncSubscription,
    Event,
    ExpectedVersion,
    InMemoryEventStore,
    PostgresEventStore,
    Projection,
    Subscription,
    async_inline,
    inline,
)
from eventstore.subscriptions import async_statuses, statuses
from eventstore.testing import EventLoopThread, SyncFromAsyncEventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from eventstore import EventStore


def copy(event: Event, transaction: Any) -> None:
    """A handler whose effect is another event, in the same transaction."""
    transaction.append(COPIES, [copied(event)], ExpectedVersion.ANY)


async def async_copy(event: Event, transaction: Any) -> None:
    await transaction.append(COPIES, [copied(event)], ExpectedVersion.ANY)


COPIES = "copies"


def copied(event: Event) -> Event:
    return Event(event_type="Copied", data={"position": event.position})


class Front:
    """A blocking store, and what follows it."""

    copy = staticmethod(copy)

    def __init__(self, store: Any) -> None:
        self.followed = store
        self.store: EventStore = store

    def subscription(self, name: str, handler: Callable[[Event], object], **options: Any) -> Any:
        return Subscription(self.followed, name, handler, **options)

    def projection(self, name: str, handler: Callable[[Event, Any], object] | None = None, **options: Any) -> Any:
        return Projection(self.followed, name, handler or self.copy, **options)

    def inline(self, handler: Callable[[Event, Any], object], **options: Any) -> EventStore:
        return inline(self.followed, self.projection("inline", handler, **options))

    def statuses(self) -> Any:
        return statuses(self.followed)

    @contextmanager
    def running(self, worker: Any) -> Generator[Any, None, None]:
        """The worker runs in a thread as long as the block lasts; what it raises is raised at the end."""
        raised: list[BaseException] = []

        def work() -> None:
            try:
                worker.run()
            except BaseException as error:  # noqa: BLE001 raised again below
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if raised:
            raise raised[0]


class AsyncFront(Front):
    """An async store, and what follows it, on an event loop in a thread."""

    copy = staticmethod(async_copy)

    def __init__(self, store: Any, thread: EventLoopThread) -> None:
        super().__init__(store)
        self.store = SyncFromAsyncEventStore(store, thread)
        self._thread = thread

    def subscription(self, name: str, handler: Callable[[Event], object], **options: Any) -> Any:
        return Blocking(AsyncSubscription(self.followed, name, handler, **options), self._thread)

    def projection(self, name: str, handler: Callable[[Event, Any], object] | None = None, **options: Any) -> Any:
        return Blocking(AsyncProjection(self.followed, name, handler or self.copy, **options), self._thread)

    def inline(self, handler: Callable[[Event, Any], object], **options: Any) -> EventStore:
        projection = AsyncProjection(self.followed, "inline", handler, **options)
        return SyncFromAsyncEventStore(async_inline(self.followed, projection), self._thread)

    def statuses(self) -> Any:
        return self._thread.run(async_statuses(self.followed))


class Blocking:
    """An object whose async methods block."""

    def __init__(self, wrapped: object, thread: EventLoopThread) -> None:
        self._wrapped = wrapped
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if not iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._thread.run(found(*args, **options))


@pytest.fixture(params=["memory", "postgres", "async memory", "async postgres"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    if request.param == "memory":
        yield Front(InMemoryEventStore())
    elif request.param == "postgres":
        yield Front(PostgresEventStore(request.getfixturevalue("pool"), request.getfixturevalue("schema")))
    else:
        with EventLoopThread() as thread:
            if request.param == "async memory":
                yield AsyncFront(AsyncInMemoryEventStore(), thread)
                return
            schema, dsn = request.getfixturevalue("schema"), request.getfixturevalue("dsn")

            async def opened() -> AsyncConnectionPool:
                pool = AsyncConnectionPool(dsn, min_size=1, max_size=8, open=False, kwargs={"autocommit": True})
                await pool.open()
                return pool

            pool = thread.run(opened())
            yield AsyncFront(AsyncPostgresEventStore(pool, schema), thread)
            thread.run(pool.close())
