"""The stores in memory in async: the twin of stores.py, over the same engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from eventstore.core.asynchronous import AsyncFollowableStore, AsyncRequestSnapshotStore, AsyncStore
from eventstore.core.operations import Append, Request, SnapshotRequest
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument
from eventstore.memory.engine import MemoryEngine, MemorySnapshots, Transaction
from eventstore.store import AsyncEventStore


class AsyncInMemoryEventStore(AsyncFollowableStore):
    """A store that lives as long as the object. With ``strict``, events of unknown types are refused on reading."""

    def __init__(self, *, strict: bool = False) -> None:
        self._engine = MemoryEngine()
        self._strict = strict

    @property
    def wakeups(self) -> WakeUps:
        return self._engine.wakeups

    async def _execute(self, request: Request) -> Any:
        if not isinstance(request, Append):
            with self._engine.changed:
                return self._engine.answer(request, None)
        async with _transaction(self._engine) as transaction:
            return await _append(self._engine, request, transaction)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncEventStore, None]:
        async with _transaction(self._engine) as transaction:
            store = _TransactionStore(self, transaction)
            yield store
        store.committed()

    def bind(self, connection: Any) -> AsyncEventStore:
        """``connection`` is what this store's ``transaction()`` gave."""
        if not isinstance(connection, _TransactionStore) or connection._engine is not self._engine:
            raise InvalidArgument("a store in memory can be bound only to a transaction of its own")
        return connection


class _TransactionStore(AsyncStore):
    def __init__(self, store: AsyncInMemoryEventStore, transaction: Transaction) -> None:
        self._store = store
        self._engine = store._engine
        self._transaction = transaction
        self._strict = store._strict
        self._callbacks: list[Callable[[], object]] = []

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def committed(self) -> None:
        """Call back, once the transaction has ended."""
        for callback in self._callbacks:
            callback()

    async def _execute(self, request: Request) -> Any:
        if isinstance(request, Append):
            return await _append(self._engine, request, self._transaction)
        with self._engine.changed:
            return self._engine.answer(request, self._transaction)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncEventStore, None]:
        with self._engine.changed:
            savepoint = self._engine.savepoint(self._transaction)
        callbacks = len(self._callbacks)
        try:
            yield self
        except BaseException:
            del self._callbacks[callbacks:]
            with self._engine.changed:
                self._engine.rollback_to(savepoint, self._transaction)
            raise

    def bind(self, connection: Any) -> AsyncEventStore:  # noqa: ARG002 the interface's
        raise InvalidArgument("this store is bound already: bind the one that it came from")


class AsyncInMemorySnapshotStore(AsyncRequestSnapshotStore):
    """Snapshots that live as long as the object."""

    def __init__(self) -> None:
        self._snapshots = MemorySnapshots()

    async def _execute(self, request: SnapshotRequest) -> Any:
        return self._snapshots.answer(request)


@asynccontextmanager
async def _transaction(engine: MemoryEngine) -> AsyncGenerator[Transaction, None]:
    with engine.changed:
        transaction = engine.begin()
    try:
        yield transaction
        with engine.changed:
            engine.commit(transaction)
    finally:
        with engine.changed:
            engine.rollback(transaction)


async def _append(engine: MemoryEngine, request: Append, transaction: Transaction) -> int | None:
    while True:
        with engine.changed:
            if engine.try_lock(request.stream_id, transaction):
                return engine.append(request, transaction)
            released = _next_release(engine)
        await released.wait()


def _next_release(engine: MemoryEngine) -> asyncio.Event:
    """Is set when locks are released next, in whatever thread that happens."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    engine.on_release.append(lambda: loop.call_soon_threadsafe(released.set))
    return released
