"""The driver of operations in async, and the rows of methods that every such store has: the twin of blocking.py."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import isawaitable
from typing import Any, TypeVar
from uuid import UUID

from eventstore.codec.record import Row
from eventstore.codec.sealing import Keys
from eventstore.core import appending, forgetting, operations
from eventstore.core.deadlines import DEFAULT_TIMEOUT, within
from eventstore.core.forgetting import Forgotten
from eventstore.core.operations import LogReader
from eventstore.core.own_transactions import check_not_held
from eventstore.core.records import decode_each, decode_events
from eventstore.core.requests import Call, Operation, Pause, Request, WithTransaction
from eventstore.core.subject_keys import AsyncSubjectKeys
from eventstore.core.wakeups import WakeUps
from eventstore.event import Event
from eventstore.names import check_subject
from eventstore.store import (
    Appends,
    AsyncEventStore,
    AsyncSnapshotStore,
    Categories,
    EventTypes,
    Snapshot,
    SnapshotAndEvents,
    SnapshotKey,
)
from eventstore.versions import StreamVersion

R = TypeVar("R")
T = TypeVar("T")


async def _refuse(request: Request[Any]) -> Any:
    raise AssertionError(f"no store was given to carry out {request!r}")


async def run(operation: Operation[T], execute: Callable[[Request[Any]], Awaitable[Any]] = _refuse) -> T:
    """Carry out what an operation asks for, one request after the other, and return its result.

    ``execute`` replies to what is neither a Pause nor a Call.
    """
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
            # Outside of the try above: a StopIteration raised in here is not a result.
            try:
                if isinstance(request, Pause):
                    await asyncio.sleep(request.seconds)
                elif isinstance(request, Call):
                    result_or_awaitable = request.function()
                    reply = await result_or_awaitable if isawaitable(result_or_awaitable) else result_or_awaitable
                elif isinstance(request, WithTransaction):
                    async with request.store.transaction() as transaction:
                        reply = await run(request.operation(transaction), execute)
                else:
                    reply = await execute(request)
            except Exception as raised:  # noqa: BLE001 the operation decides what to do about it; what it leaves, it raises
                error = raised
    finally:
        operation.close()  # Interrupted or cancelled, it can't know otherwise.


class AsyncExecutor(ABC):
    """Whatever carries out requests one by one, and so operations."""

    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds that a call may take in all; None: as long as it takes."""

    @abstractmethod
    async def execute(self, request: Request[R]) -> R:
        """Carry out a request and return its reply. Raises EventStoreErrors only."""

    async def carry_out(self, operation: Operation[T]) -> T:
        """Run an operation within the timeout, and return its result."""
        with within(self.timeout):
            return await run(operation, self.execute)


class AsyncRequestStore(AsyncExecutor, AsyncEventStore):
    """A store that carries out requests one by one."""

    in_transaction: bool = False
    """Whether it is one transaction, which somebody commits later."""
    strict: bool
    """Whether events of unknown types are refused on reading."""
    subject_keys: AsyncSubjectKeys | None = None
    """The keys of personal data; None: it reads as placeholders, and can't be appended."""
    sees_commit: bool = True
    """Whether it knows when what was appended is committed: not in your own transaction."""

    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        observer = self.observer
        if observer is None:
            return await self._append_unobserved(stream_id, events, expected_version)
        with observer.appending(stream_id) as seen:
            version = await self._append_unobserved(stream_id, events, expected_version)
            seen.stored = not version.repeated
        if seen.stored:
            observer.appended([event.event_type for event in events])
        return version

    async def _append_unobserved(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        self._begin_appends([stream_id])
        operation = appending.append(
            stream_id, events, expected_version, in_transaction=self.in_transaction, subject_keys=self.subject_keys
        )
        version = await self.carry_out(operation)
        self._end_appends([(stream_id, version, events)])
        return version

    def _begin_appends(self, stream_ids: Iterable[str]) -> None:
        """Called before appends to these streams."""
        if not self.in_transaction:
            for stream_id in stream_ids:
                check_not_held(self, asyncio.current_task(), stream_id)

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:
        """Called after them, with each stream, its new version, and the events that led to it."""

    async def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        operation = operations.read(stream_id, from_version, to_version, limit, backwards=backwards)
        records = await self.carry_out(operation)
        return decode_events(records, strict=self.strict, keys=await self._keys_of(records))

    async def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        records = await self.carry_out(operations.read_page(stream_id, from_version, limit))
        return decode_each(records, strict=self.strict, keys=await self._keys_of(records))

    async def _read_from_snapshot(
        self, stream_id: str, key: SnapshotKey, limit: int, event_id: UUID | None
    ) -> SnapshotAndEvents:
        operation = operations.read_from_snapshot(stream_id, key, limit, event_id)
        snapshot, found, records = await self.carry_out(operation)
        return SnapshotAndEvents(
            snapshot, found, decode_each(records, strict=self.strict, keys=await self._keys_of(records))
        )

    async def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        operation = operations.read_page_and_find(stream_id, from_version, limit, event_id)
        found, records = await self.carry_out(operation)
        return found, decode_each(records, strict=self.strict, keys=await self._keys_of(records))

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
    ) -> AsyncIterator[Event]:
        pages = LogReader(
            from_position,
            batch_size,
            to_position,
            event_types,
            categories,
            strict=self.strict,
            backwards=backwards,
            limit=limit,
        )
        return self._events(pages)

    async def _events(self, pages: LogReader) -> AsyncIterator[Event]:
        while page := await self.carry_out(pages.next_page()):
            for event in pages.events(page, await self._keys_of(page)):
                yield event

    async def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:
        if self.in_transaction:
            return await self.carry_out(forgetting.forget(self, subject, reason))
        check_subject("subject", subject)
        async with self.transaction() as transaction:
            return await transaction.forget(subject, reason)

    def destroy_after_commit(self, forgotten: Forgotten) -> None:
        """Destroy a subject's key once this transaction is committed."""
        self.when_committed(partial(self._committed_forgetting.append, forgotten))

    @property
    def _committed_forgetting(self) -> list[Forgotten]:
        found: list[Forgotten] = vars(self).setdefault("_forgotten", [])
        return found

    async def finish_forgetting(self) -> None:
        """Destroy the keys of subjects that a transaction which is committed has forgotten. Raises StoreUnavailable."""
        if self.subject_keys is not None and self._committed_forgetting:
            await self.carry_out(forgetting.destroy(self.subject_keys, self._committed_forgetting))

    async def _keys_of(self, records: Sequence[Row]) -> Keys | None:
        """The keys that some records need to be decoded; None without a key store."""
        if self.subject_keys is None:
            return None
        operation = forgetting.keys_of(records, self.subject_keys, committed=not self.in_transaction)
        return await self.carry_out(operation)


class AsyncBatchStore(AsyncRequestStore):
    """A store that answers AppendMany as well; others append a batch in a transaction."""

    async def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        appends = appending.checked_appends(appends)
        if appending.are_personal(appends):  # Their subjects are noted with each append.
            return await super().append_many(appends)
        self._begin_appends(stream_id for stream_id, _, _ in appends)
        operation = appending.append_many(appends, in_transaction=self.in_transaction)
        observer = self.observer
        if observer is None:
            versions = await self.carry_out(operation)
        else:
            with observer.appending(None):
                versions = await self.carry_out(operation)
            new = [events for stream_id, events, _ in appends if not versions[stream_id].repeated]
            observer.appended([event.event_type for events in new for event in events])
        self._end_appends((stream_id, versions[stream_id], events) for stream_id, events, _ in appends)
        return versions


class AsyncFollowableStore(AsyncBatchStore):
    """FollowableStore in async."""

    @property
    @abstractmethod
    def wakeups(self) -> WakeUps:
        """As FollowableStore.wakeups."""

    def announce(self) -> None:
        """As FollowableStore.announce; returns at once."""
        self.wakeups.wake()

    async def execute_apart(self, request: Request[R]) -> R:
        """As FollowableStore.execute_apart."""
        return await self.execute(request)

    async def mark_log(self) -> int:
        """As FollowableStore.mark_log."""
        return await self.carry_out(operations.mark_log())

    def listening(self) -> AbstractContextManager[object]:
        """As FollowableStore.listening."""
        return nullcontext()


class AsyncRequestSnapshotStore(AsyncExecutor, AsyncSnapshotStore):
    """A snapshot store that carries out requests one by one."""

    async def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        return await self.carry_out(operations.load_snapshot(aggregate_type, aggregate_id, class_schema))

    async def save(self, snapshot: Snapshot) -> None:
        await self.carry_out(operations.save_snapshot(snapshot))

    async def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        await self.carry_out(operations.delete_snapshot(aggregate_type, aggregate_id))
