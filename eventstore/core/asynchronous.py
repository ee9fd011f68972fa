"""The driver of operations in async, and the rows of methods that every such store has: the twin of blocking.py."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from eventstore.core import operations
from eventstore.core.operations import (
    DeleteSnapshot,
    LoadSnapshot,
    LogReader,
    Operation,
    Pause,
    Request,
    SaveSnapshot,
    SnapshotRequest,
)
from eventstore.core.records import decode_each, decode_events
from eventstore.core.wakeups import WakeUps
from eventstore.event import Event
from eventstore.store import AsyncEventStore, AsyncSnapshotStore, Snapshot

T = TypeVar("T")


async def run(operation: Operation[T], execute: Callable[[Any], Awaitable[Any]]) -> T:
    """Carry out what an operation asks for, one request after the other, and return its result."""
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                request = operation.send(reply) if error is None else operation.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply = error = None
            # Outside of the try above: a StopIteration raised in here is no result.
            try:
                if isinstance(request, Pause):
                    await asyncio.sleep(request.seconds)
                else:
                    reply = await execute(request)
            except Exception as raised:  # noqa: BLE001 the operation decides what to do about it; what it leaves, it raises
                error = raised
    finally:
        operation.close()  # Interrupted or cancelled, it can't know otherwise.


class AsyncStore(AsyncEventStore):
    """A store that carries out requests one by one."""

    _strict: bool

    @abstractmethod
    async def _execute(self, request: Request) -> Any:
        """The reply to a request. Raises EventStoreErrors only."""

    async def _run(self, operation: Operation[T]) -> T:
        return await run(operation, self._execute)

    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        return await self._run(operations.append(stream_id, events, expected_version))

    async def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        records = await self._run(operations.read(stream_id, from_version, to_version, limit, backwards=backwards))
        return decode_events(records, strict=self._strict)

    async def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        records = await self._run(operations.read(stream_id, from_version, None, limit, backwards=False))
        return decode_each(records, strict=self._strict)

    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: Sequence[str] | None = None,
        category: str | None = None,
    ) -> AsyncIterator[Event]:
        pages = LogReader(from_position, batch_size, to_position, event_types, category, strict=self._strict)
        return self._events(pages)

    async def _events(self, pages: LogReader) -> AsyncIterator[Event]:
        while page := await self._run(pages.next_page()):
            for event in pages.events(page):
                yield event


class AsyncFollowableStore(AsyncStore):
    """FollowableStore in async."""

    @property
    @abstractmethod
    def wakeups(self) -> WakeUps:
        """As FollowableStore.wakeups."""

    def announce(self) -> None:
        """As FollowableStore.announce; returns at once."""
        self.wakeups.wake()

    def listening(self) -> AbstractContextManager[object]:
        """As FollowableStore.listening."""
        return nullcontext()


class AsyncRequestSnapshotStore(AsyncSnapshotStore):
    """A snapshot store that carries out requests one by one."""

    @abstractmethod
    async def _execute(self, request: SnapshotRequest) -> Any:
        """The reply to a request. Raises EventStoreErrors only."""

    async def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        request = LoadSnapshot(aggregate_type, aggregate_id, class_schema)
        found: Snapshot | None = await run(operations.snapshot(request), self._execute)
        return found

    async def save(self, snapshot: Snapshot) -> None:
        await run(operations.snapshot(SaveSnapshot(snapshot)), self._execute)

    async def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        await run(operations.snapshot(DeleteSnapshot(aggregate_type, aggregate_id)), self._execute)
