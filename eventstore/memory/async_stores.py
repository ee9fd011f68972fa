"""The stores in memory in async: the twin of stores.py, over the same engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from eventstore.core import deadlines
from eventstore.core.asynchronous import AsyncBatchStore, AsyncFollowableStore, AsyncRequestSnapshotStore
from eventstore.core.deadlines import DEFAULT_TIMEOUT, NO_DEADLINE, checked_timeout
from eventstore.core.own_transactions import OwnTransaction, own_transaction
from eventstore.core.refusals import bound_already, waited_for_transactions
from eventstore.core.requests import Request
from eventstore.core.subject_keys import AsyncSubjectKeys, checked_keys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument
from eventstore.memory.engine import MemoryEngine, MemorySnapshots, Transaction
from eventstore.store import AsyncEventStore

R = TypeVar("R")


class AsyncInMemoryEventStore(AsyncFollowableStore):
    """InMemoryEventStore in async."""

    def __init__(
        self,
        *,
        strict: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: AsyncSubjectKeys | None = None,
    ) -> None:
        self._engine = MemoryEngine()
        self.strict = strict
        self.subject_keys = checked_keys(subject_keys, AsyncSubjectKeys)
        self.timeout = checked_timeout(timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._engine.described()}>"

    @property
    def wakeups(self) -> WakeUps:
        return self._engine.wakeups

    async def execute(self, request: Request[R]) -> R:
        if not self._engine.takes_locks(request):
            return await _execute(self._engine, request, None)
        async with _transaction(self._engine) as transaction:
            return await _execute(self._engine, request, transaction)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncEventStore, None]:
        async with _transaction(self._engine) as transaction:
            with own_transaction(self, asyncio.current_task()) as own:
                store = _TransactionStore(self, transaction, own)
                yield store
        store.committed()
        await store.finish_forgetting()

    def bind(self, connection: Any) -> AsyncEventStore:
        """``connection`` is what this store's ``transaction()`` gave."""
        if not isinstance(connection, _TransactionStore) or connection._engine is not self._engine:
            raise InvalidArgument("a store in memory can be bound only to a transaction of its own")
        return connection


class _TransactionStore(AsyncBatchStore):
    in_transaction = True

    def __init__(self, store: AsyncInMemoryEventStore, transaction: Transaction, own: OwnTransaction) -> None:
        self._own = own
        self.strict = store.strict
        self.timeout = store.timeout
        self.subject_keys = store.subject_keys
        self._store = store
        self._engine = store._engine
        self._transaction = transaction
        self._callbacks: list[Callable[[], object]] = []

    def _begin_appends(self, stream_ids: Iterable[str]) -> None:
        self._own.streams |= {*stream_ids}

    @property
    def categories(self) -> dict[str, type[Any]]:
        return self._store.categories

    def when_committed(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def committed(self) -> None:
        """Call back, once the transaction has ended."""
        for callback in self._callbacks:
            callback()

    async def execute(self, request: Request[R]) -> R:
        return await _execute(self._engine, request, self._transaction)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncEventStore, None]:
        with self._engine.changed:
            savepoint = self._engine.savepoint(self._transaction)
        callbacks, held = len(self._callbacks), self._own.streams
        try:
            yield self
        except BaseException:
            del self._callbacks[callbacks:]
            self._own.streams = held
            with self._engine.changed:
                self._engine.rollback_to(savepoint, self._transaction)
            raise

    def bind(self, connection: Any) -> AsyncEventStore:  # noqa: ARG002 the interface's
        raise bound_already()


class AsyncInMemorySnapshotStore(AsyncRequestSnapshotStore):
    """Snapshots that live as long as the object."""

    def __init__(self) -> None:
        self._snapshots = MemorySnapshots()

    async def execute(self, request: Request[R]) -> R:
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


async def _execute(engine: MemoryEngine, request: Request[R], transaction: Transaction | None) -> R:
    deadline = deadlines.current() or NO_DEADLINE
    while True:
        with engine.changed:
            if engine.try_lock(request, transaction):
                return engine.answer(request, transaction)
            if deadline.passed:
                engine.stop_waiting(transaction)
                raise waited_for_transactions(deadline)
            released = _next_release(engine)
        with suppress(TimeoutError):
            await asyncio.wait_for(released.wait(), None if deadline.timeout is None else deadline.left())


def _next_release(engine: MemoryEngine) -> asyncio.Event:
    """Is set when locks are released next, in whatever thread that happens."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    engine.on_release.append(lambda: loop.call_soon_threadsafe(released.set))
    return released
