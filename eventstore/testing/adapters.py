"""Async stores for blocking tests: the same contract holds for both, so it is written once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar
from uuid import UUID

from eventstore.event import Event
from eventstore.store import (
    Appends,
    AsyncEventStore,
    AsyncSnapshotStore,
    Categories,
    EventStore,
    EventTypes,
    Snapshot,
    SnapshotStore,
)
from eventstore.versions import ExpectedVersion, StreamVersion

T = TypeVar("T")


class EventLoopThread:
    """An event loop in its own thread. Use it as a context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


class SyncFromAsyncEventStore(EventStore):
    """An async store with blocking methods, which wait for the event loop. For running the contract against it."""

    def __init__(self, store: AsyncEventStore, thread: EventLoopThread) -> None:
        self._store = store
        self._thread = thread
        self.subject_keys = store.subject_keys

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        return self._thread.run(self._store.append(stream_id, events, expected_version))

    def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        return self._thread.run(self._store.append_many(appends))

    def close_stream(self, stream_id: str, event: Event, expected_version: int) -> StreamVersion:
        return self._thread.run(self._store.close_stream(stream_id, event, expected_version))

    def retire(
        self, stream_id: str, *, reason: str, expected_version: int = ExpectedVersion.STREAM_EXISTS
    ) -> StreamVersion:
        return self._thread.run(self._store.retire(stream_id, reason=reason, expected_version=expected_version))

    def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        return self._thread.run(self._store.read(stream_id, from_version, to_version, backwards=backwards, limit=limit))

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> list[Event]:
        return list(self._thread.run(self._store._read_page(stream_id, from_version, limit)))

    def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, list[Event]]:
        found, page = self._thread.run(self._store._read_page_and_find(stream_id, from_version, limit, event_id))
        return found, list(page)

    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: EventTypes | None = None,
        categories: Categories | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> Iterator[Event]:
        found = self._store.read_all(
            from_position,
            batch_size,
            to_position=to_position,
            event_types=event_types,
            categories=categories,
            backwards=backwards,
            limit=limit,
        )

        async def next_event() -> Event | None:
            return await anext(found, None)

        return iter(lambda: self._thread.run(next_event()), None)

    def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:
        return self._thread.run(self._store.forget(subject, reason))

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
        block = self._store.transaction()
        store = SyncFromAsyncEventStore(self._thread.run(block.__aenter__()), self._thread)
        try:
            yield store
        except BaseException as error:
            if not self._thread.run(_leave(block, error)):
                raise
        else:
            self._thread.run(_leave(block, None))

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._store.when_committed(callback)

    def bind(self, connection: Any) -> EventStore:
        return SyncFromAsyncEventStore(self._store.bind(connection), self._thread)


async def _leave(block: Any, error: BaseException | None) -> bool:
    return bool(await block.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None))


class SyncFromAsyncSnapshotStore(SnapshotStore):
    """An async snapshot store with blocking methods, which wait for the event loop."""

    def __init__(self, store: AsyncSnapshotStore, thread: EventLoopThread) -> None:
        self._store = store
        self._thread = thread

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        return self._thread.run(self._store.load(aggregate_type, aggregate_id, class_schema))

    def save(self, snapshot: Snapshot) -> None:
        self._thread.run(self._store.save(snapshot))

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        self._thread.run(self._store.delete(aggregate_type, aggregate_id))
