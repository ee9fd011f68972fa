"""The stores in memory: for tests, with the same promises, errors and threads as the real ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from eventstore.core.blocking import BlockingSnapshotStore, BlockingStore, FollowableStore
from eventstore.core.operations import Append, Request, SnapshotRequest
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument
from eventstore.memory.engine import MemoryEngine, MemorySnapshots, Transaction
from eventstore.store import EventStore


class InMemoryEventStore(FollowableStore):
    """A store that lives as long as the object. With ``strict``, events of unknown types are refused on reading."""

    def __init__(self, *, strict: bool = False) -> None:
        self._engine = MemoryEngine()
        self._strict = strict

    @property
    def wakeups(self) -> WakeUps:
        return self._engine.wakeups

    def _execute(self, request: Request) -> Any:
        if not isinstance(request, Append):
            with self._engine.changed:
                return self._engine.answer(request, None)
        with _transaction(self._engine) as transaction:
            return _append(self._engine, request, transaction)

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
        with _transaction(self._engine) as transaction:
            store = _TransactionStore(self, transaction)
            yield store
        store.committed()

    def bind(self, connection: Any) -> EventStore:
        """``connection`` is what this store's ``transaction()`` gave."""
        if not isinstance(connection, _TransactionStore) or connection._engine is not self._engine:
            raise InvalidArgument("a store in memory can be bound only to a transaction of its own")
        return connection


class _TransactionStore(BlockingStore):
    def __init__(self, store: InMemoryEventStore, transaction: Transaction) -> None:
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

    def _execute(self, request: Request) -> Any:
        if isinstance(request, Append):
            return _append(self._engine, request, self._transaction)
        with self._engine.changed:
            return self._engine.answer(request, self._transaction)

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
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

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise InvalidArgument("this store is bound already: bind the one that it came from")


class InMemorySnapshotStore(BlockingSnapshotStore):
    """Snapshots that live as long as the object."""

    def __init__(self) -> None:
        self._snapshots = MemorySnapshots()

    def _execute(self, request: SnapshotRequest) -> Any:
        return self._snapshots.answer(request)


@contextmanager
def _transaction(engine: MemoryEngine) -> Generator[Transaction, None, None]:
    with engine.changed:
        transaction = engine.begin()
    try:
        yield transaction
        with engine.changed:
            engine.commit(transaction)
    finally:
        with engine.changed:
            engine.rollback(transaction)


def _append(engine: MemoryEngine, request: Append, transaction: Transaction) -> int | None:
    with engine.changed:
        while not engine.try_lock(request.stream_id, transaction):
            engine.changed.wait()
        return engine.append(request, transaction)
