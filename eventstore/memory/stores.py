"""The stores in memory: for tests, with the same promises, errors and threads as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

from eventstore.core import deadlines
from eventstore.core.blocking import BatchStore, FollowableStore, RequestSnapshotStore
from eventstore.core.deadlines import DEFAULT_TIMEOUT, NO_DEADLINE, checked_timeout
from eventstore.core.own_transactions import OwnTransaction, own_transaction
from eventstore.core.refusals import bound_already, waited_for_transactions
from eventstore.core.requests import Request
from eventstore.core.subject_keys import SubjectKeys, checked_keys
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidArgument
from eventstore.memory.engine import MemoryEngine, MemorySnapshots, Transaction
from eventstore.store import EventStore

R = TypeVar("R")


class InMemoryEventStore(FollowableStore):
    """A store that lives as long as the object.

    With ``strict``, events of unknown types are refused on reading. ``timeout`` is the number of seconds that an append
    waits for open transactions, None for as long as it takes. ``subject_keys`` are the keys of personal data.
    """

    def __init__(
        self,
        *,
        strict: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        subject_keys: SubjectKeys | None = None,
    ) -> None:
        self._engine = MemoryEngine()
        self.strict = strict
        self.subject_keys = checked_keys(subject_keys, SubjectKeys)
        self.timeout = checked_timeout(timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._engine.described()}>"

    @property
    def wakeups(self) -> WakeUps:
        return self._engine.wakeups

    def execute(self, request: Request[R]) -> R:
        if not self._engine.takes_locks(request):
            return _execute(self._engine, request, None)
        with _transaction(self._engine) as transaction:
            return _execute(self._engine, request, transaction)

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
        with _transaction(self._engine) as transaction, own_transaction(self, threading.get_ident()) as own:
            store = _TransactionStore(self, transaction, own)
            yield store
        store.committed()
        store.finish_forgetting()

    def bind(self, connection: Any) -> EventStore:
        """``connection`` is what this store's ``transaction()`` gave."""
        if not isinstance(connection, _TransactionStore) or connection._engine is not self._engine:
            raise InvalidArgument("a store in memory can be bound only to a transaction of its own")
        return connection


class _TransactionStore(BatchStore):
    in_transaction = True

    def __init__(self, store: InMemoryEventStore, transaction: Transaction, own: OwnTransaction) -> None:
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

    def execute(self, request: Request[R]) -> R:
        return _execute(self._engine, request, self._transaction)

    @contextmanager
    def transaction(self) -> Generator[EventStore, None, None]:
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

    def bind(self, connection: Any) -> EventStore:  # noqa: ARG002 the interface's
        raise bound_already()


class InMemorySnapshotStore(RequestSnapshotStore):
    """Snapshots that live as long as the object."""

    def __init__(self) -> None:
        self._snapshots = MemorySnapshots()

    def execute(self, request: Request[R]) -> R:
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


def _execute(engine: MemoryEngine, request: Request[R], transaction: Transaction | None) -> R:
    with engine.changed:
        deadline = deadlines.current() or NO_DEADLINE
        while not engine.try_lock(request, transaction):
            if deadline.passed:
                engine.stop_waiting(transaction)
                raise waited_for_transactions(deadline)
            engine.changed.wait(min(deadline.left(), threading.TIMEOUT_MAX))
        return engine.answer(request, transaction)
