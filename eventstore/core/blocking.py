"""The driver of operations for blocking stores, and the rows of methods that every such store has."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from eventstore.store import EventStore, Snapshot, SnapshotStore

T = TypeVar("T")


def run(operation: Operation[T], execute: Callable[[Any], Any]) -> T:
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
                    time.sleep(request.seconds)
                else:
                    reply = execute(request)
            except Exception as raised:  # noqa: BLE001 the operation decides what to do about it; what it leaves, it raises
                error = raised
    finally:
        operation.close()  # Interrupted or cancelled, it can't know otherwise.


class BlockingStore(EventStore):
    """A store that carries out requests one by one."""

    _strict: bool

    @abstractmethod
    def _execute(self, request: Request) -> Any:
        """The reply to a request. Raises EventStoreErrors only."""

    def _run(self, operation: Operation[T]) -> T:
        return run(operation, self._execute)

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> int:
        return self._run(operations.append(stream_id, events, expected_version))

    def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        records = self._run(operations.read(stream_id, from_version, to_version, limit, backwards=backwards))
        return decode_events(records, strict=self._strict)

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        records = self._run(operations.read(stream_id, from_version, None, limit, backwards=False))
        return decode_each(records, strict=self._strict)

    def read_all(
        self,
        from_position: int = 0,
        batch_size: int = 1000,
        *,
        to_position: int | None = None,
        event_types: Sequence[str] | None = None,
        category: str | None = None,
    ) -> Iterator[Event]:
        pages = LogReader(from_position, batch_size, to_position, event_types, category, strict=self._strict)
        return self._events(pages)

    def _events(self, pages: LogReader) -> Iterator[Event]:
        while page := self._run(pages.next_page()):
            yield from pages.events(page)


class FollowableStore(BlockingStore):
    """A store that keeps checkpoints, so that subscriptions can follow it."""

    @property
    @abstractmethod
    def wakeups(self) -> WakeUps:
        """Whom to wake when something was committed."""

    def announce(self) -> None:
        """Tell subscriptions that there may be something to read.

        Appends and transactions of this store's own do so by themselves. Call it after a commit of your own that
        brought events through ``bind``.
        """
        self.wakeups.wake()

    def listening(self) -> AbstractContextManager[object]:
        """A block in which other processes' announcements wake subscriptions of this one, where that is possible."""
        return nullcontext()


class BlockingSnapshotStore(SnapshotStore):
    """A snapshot store that carries out requests one by one."""

    @abstractmethod
    def _execute(self, request: SnapshotRequest) -> Any:
        """The reply to a request. Raises EventStoreErrors only."""

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        request = LoadSnapshot(aggregate_type, aggregate_id, class_schema)
        found: Snapshot | None = run(operations.snapshot(request), self._execute)
        return found

    def save(self, snapshot: Snapshot) -> None:
        run(operations.snapshot(SaveSnapshot(snapshot)), self._execute)

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        run(operations.snapshot(DeleteSnapshot(aggregate_type, aggregate_id)), self._execute)
