"""Inline projections: read models that are right the moment an append is stored. Blocking and async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from eventstore.context import handling
from eventstore.core import asynchronous, blocking
from eventstore.core.forgetting import SUBJECTS
from eventstore.core.requests import Call, Operation, ask
from eventstore.event import Event
from eventstore.names import check_subject
from eventstore.store import AsyncEventStore, Categories, EventStore, EventTypes
from eventstore.subscriptions.asynchronous import AsyncProjection
from eventstore.subscriptions.batches import takes_batches
from eventstore.subscriptions.blocking import Projection
from eventstore.versions import ExpectedVersion, StreamVersion


def _append(
    transaction: EventStore | AsyncEventStore,
    projections: Sequence[Projection[Any] | AsyncProjection[Any]],
    stream_id: str,
    events: Sequence[Event],
    expected_version: int,
) -> Operation[StreamVersion]:
    """In a transaction: append, and give what was not there before to the projections."""
    # No event: it locks the stream and returns its version.
    before = yield from ask(Call(lambda: transaction.append(stream_id, [], ExpectedVersion.ANY)))
    after = yield from ask(Call(lambda: transaction.append(stream_id, events, expected_version)))
    if after > before:
        yield from _handle(transaction, projections, stream_id, before, after)
    return after


def _forget(
    transaction: EventStore | AsyncEventStore,
    projections: Sequence[Projection[Any] | AsyncProjection[Any]],
    subject: UUID | str | int,
    reason: str,
) -> Operation[StreamVersion]:
    """In a transaction: forget a subject, and give the event that says so to the projections."""
    version: StreamVersion = yield from ask(Call(lambda: transaction.forget(subject, reason)))
    if not version.repeated:
        stream_id = f"{SUBJECTS}{check_subject('subject', subject)}"
        yield from _handle(transaction, projections, stream_id, version - 1, version)
    return version


def _handle(
    transaction: EventStore | AsyncEventStore,
    projections: Sequence[Projection[Any] | AsyncProjection[Any]],
    stream_id: str,
    before: int,
    after: int,
) -> Operation[None]:
    """Give the events of a stream after a version, and up to another one, to the projections that want them."""
    stored = yield from ask(Call(lambda: transaction.read(stream_id, before, after)))
    for projection in projections:
        if takes_batches(projection.handler) and (wanted := [each for each in stored if projection.wants(each)]):
            handle: Callable[[Any, Any], object] = projection.handler
            yield from ask(Call(partial(handle, wanted, transaction)))
    for event in stored:
        for projection in projections:
            if not takes_batches(projection.handler) and projection.wants(event):
                with handling(event):  # The driver makes the call, and waits for it, where it drives this.
                    yield from ask(Call(partial(projection.handler, event, transaction)))


def inline(store: EventStore, *projections: Projection[Any]) -> EventStore:
    """Return the store with projections whose handlers run in the transaction of each append.

    The read models are up to date when an append returns. If a handler raises, the append raises its error, and nothing
    is stored. An append takes as long as its handlers, and writers wait for each other where handlers write the same
    rows. Events that were stored already, by their ids, are not handled again.

    Such a projection keeps no checkpoint, so don't also run it.
    """
    return _Inline(store, projections)


def async_inline(store: AsyncEventStore, *projections: AsyncProjection[Any]) -> AsyncEventStore:
    """As inline."""
    return _AsyncInline(store, projections)


class _Inline(EventStore):
    def __init__(self, store: EventStore, projections: Sequence[Projection[Any]]) -> None:
        self._store = store
        self._projections = projections

    @property
    def subject_keys(self) -> Any:
        return self._store.subject_keys

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    @property
    def connection(self) -> Any:
        """Of a transaction on PostgreSQL, as of the transaction itself."""
        return self._store.connection  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] memory has none

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._store.when_committed(callback)

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        with self._store.transaction() as transaction:
            operation = _append(transaction, self._projections, stream_id, events, expected_version)
            return blocking.run(operation)

    def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        return self._store.read(stream_id, from_version, to_version, backwards=backwards, limit=limit)

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        return self._store._read_page(stream_id, from_version, limit)

    def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        return self._store._read_page_and_find(stream_id, from_version, limit, event_id)

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
        return self._store.read_all(
            from_position,
            batch_size,
            to_position=to_position,
            event_types=event_types,
            categories=categories,
            backwards=backwards,
            limit=limit,
        )

    def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:
        with self._store.transaction() as transaction:
            return blocking.run(_forget(transaction, self._projections, subject, reason))

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
        with self._store.transaction() as transaction:
            yield _Inline(transaction, self._projections)

    def bind(self, connection: Any) -> EventStore:
        return _Inline(self._store.bind(connection), self._projections)


class _AsyncInline(AsyncEventStore):
    def __init__(self, store: AsyncEventStore, projections: Sequence[AsyncProjection[Any]]) -> None:
        self._store = store
        self._projections = projections

    @property
    def subject_keys(self) -> Any:
        return self._store.subject_keys

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    @property
    def connection(self) -> Any:
        """Of a transaction on PostgreSQL, as of the transaction itself."""
        return self._store.connection  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] memory has none

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._store.when_committed(callback)

    async def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        async with self._store.transaction() as transaction:
            operation = _append(transaction, self._projections, stream_id, events, expected_version)
            return await asynchronous.run(operation)

    async def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        return await self._store.read(stream_id, from_version, to_version, backwards=backwards, limit=limit)

    async def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        return await self._store._read_page(stream_id, from_version, limit)

    async def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        return await self._store._read_page_and_find(stream_id, from_version, limit, event_id)

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
        return self._store.read_all(
            from_position,
            batch_size,
            to_position=to_position,
            event_types=event_types,
            categories=categories,
            backwards=backwards,
            limit=limit,
        )

    async def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:
        async with self._store.transaction() as transaction:
            return await asynchronous.run(_forget(transaction, self._projections, subject, reason))

    def transaction(self) -> AbstractAsyncContextManager[AsyncEventStore]:
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncEventStore, None]:
        async with self._store.transaction() as transaction:
            yield _AsyncInline(transaction, self._projections)

    def bind(self, connection: Any) -> AsyncEventStore:
        return _AsyncInline(self._store.bind(connection), self._projections)
