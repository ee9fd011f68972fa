"""The driver of operations for blocking stores, and the rows of methods that every such store has."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
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
from eventstore.core.subject_keys import SubjectKeys
from eventstore.core.wakeups import WakeUps
from eventstore.event import Event
from eventstore.names import check_subject
from eventstore.store import (
    Appends,
    Categories,
    EventStore,
    EventTypes,
    Snapshot,
    SnapshotAndEvents,
    SnapshotKey,
    SnapshotStore,
)
from eventstore.versions import StreamVersion

R = TypeVar("R")
T = TypeVar("T")


def _refuse(request: Request[Any]) -> Any:
    raise AssertionError(f"no store was given to carry out {request!r}")


def run(operation: Operation[T], execute: Callable[[Request[Any]], Any] = _refuse) -> T:
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
                    time.sleep(request.seconds)
                elif isinstance(request, Call):
                    reply = request.function()
                elif isinstance(request, WithTransaction):
                    with request.store.transaction() as transaction:
                        reply = run(request.operation(transaction), execute)
                else:
                    reply = execute(request)
            except Exception as raised:  # noqa: BLE001 the operation decides what to do about it; what it leaves, it raises
                error = raised
    finally:
        operation.close()  # Interrupted or cancelled, it can't know otherwise.


class Executor(ABC):
    """Whatever carries out requests one by one, and so operations."""

    timeout: float | None = DEFAULT_TIMEOUT
    """Seconds that a call may take in all; None: as long as it takes."""

    @abstractmethod
    def execute(self, request: Request[R]) -> R:
        """Carry out a request and return its reply. Raises EventStoreErrors only."""

    def carry_out(self, operation: Operation[T]) -> T:
        """Run an operation within the timeout, and return its result."""
        with within(self.timeout):
            return run(operation, self.execute)


def pages_of(store: Executor, reader: LogReader) -> Iterator[Sequence[Row]]:
    """Walk through the log page by page, without decoding."""
    while page := store.carry_out(reader.next_page()):
        yield page


class RequestStore(Executor, EventStore):
    """A store that carries out requests one by one."""

    in_transaction: bool = False
    """Whether it is one transaction, which somebody commits later."""
    strict: bool
    """Whether events of unknown types are refused on reading."""
    subject_keys: SubjectKeys | None = None
    """The keys of personal data; None: it reads as placeholders, and can't be appended."""
    sees_commit: bool = True
    """Whether it knows when what was appended is committed: not in your own transaction."""

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        observer = self.observer
        if observer is None:
            return self._append_unobserved(stream_id, events, expected_version)
        with observer.appending(stream_id) as seen:
            version = self._append_unobserved(stream_id, events, expected_version)
            seen.stored = not version.repeated
        if seen.stored:
            observer.appended([event.event_type for event in events])
        return version

    def _append_unobserved(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        self._begin_appends([stream_id])
        operation = appending.append(
            stream_id, events, expected_version, in_transaction=self.in_transaction, subject_keys=self.subject_keys
        )
        version = self.carry_out(operation)
        self._end_appends([(stream_id, version, events)])
        return version

    def _begin_appends(self, stream_ids: Iterable[str]) -> None:
        """Called before appends to these streams."""
        if not self.in_transaction:
            for stream_id in stream_ids:
                check_not_held(self, threading.get_ident(), stream_id)

    def _end_appends(self, appends: Iterable[tuple[str, StreamVersion, Sequence[Event]]]) -> None:
        """Called after them, with each stream, its new version, and the events that led to it."""

    def read(
        self,
        stream_id: str,
        from_version: int = 0,
        to_version: int | None = None,
        *,
        backwards: bool = False,
        limit: int | None = None,
    ) -> list[Event]:
        operation = operations.read(stream_id, from_version, to_version, limit, backwards=backwards)
        records = self.carry_out(operation)
        return decode_events(records, strict=self.strict, keys=self._keys_of(records))

    def _read_page(self, stream_id: str, from_version: int, limit: int) -> Iterable[Event]:
        records = self.carry_out(operations.read_page(stream_id, from_version, limit))
        return decode_each(records, strict=self.strict, keys=self._keys_of(records))

    def _read_page_and_find(
        self, stream_id: str, from_version: int, limit: int, event_id: UUID
    ) -> tuple[bool, Iterable[Event]]:
        operation = operations.read_page_and_find(stream_id, from_version, limit, event_id)
        found, records = self.carry_out(operation)
        return found, decode_each(records, strict=self.strict, keys=self._keys_of(records))

    def _read_from_snapshot(
        self, stream_id: str, key: SnapshotKey, limit: int, event_id: UUID | None
    ) -> SnapshotAndEvents:
        operation = operations.read_from_snapshot(stream_id, key, limit, event_id)
        snapshot, found, records = self.carry_out(operation)
        keys = self._keys_of(records)
        return SnapshotAndEvents(snapshot, found, decode_each(records, strict=self.strict, keys=keys))

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

    def _events(self, pages: LogReader) -> Iterator[Event]:
        for page in pages_of(self, pages):
            yield from pages.events(page, self._keys_of(page))

    def forget(self, subject: UUID | str | int, reason: str = "") -> StreamVersion:
        if self.in_transaction:
            return self.carry_out(forgetting.forget(self, subject, reason))
        check_subject("subject", subject)
        with self.transaction() as transaction:
            return transaction.forget(subject, reason)

    def destroy_after_commit(self, forgotten: Forgotten) -> None:
        """Destroy a subject's key once this transaction is committed."""
        self.when_committed(partial(self._committed_forgetting.append, forgotten))

    @property
    def _committed_forgetting(self) -> list[Forgotten]:
        found: list[Forgotten] = vars(self).setdefault("_forgotten", [])
        return found

    def finish_forgetting(self) -> None:
        """Destroy the keys of subjects that a transaction which is committed has forgotten. Raises StoreUnavailable."""
        if self.subject_keys is not None and self._committed_forgetting:
            self.carry_out(forgetting.destroy(self.subject_keys, self._committed_forgetting))

    def _keys_of(self, records: Sequence[Row]) -> Keys | None:
        """The keys that some records need to be decoded; None without a key store."""
        if self.subject_keys is None:
            return None
        operation = forgetting.keys_of(records, self.subject_keys, committed=not self.in_transaction)
        return self.carry_out(operation)


class BatchStore(RequestStore):
    """A store that answers AppendMany as well; others append a batch in a transaction."""

    def append_many(self, appends: Appends) -> dict[str, StreamVersion]:
        appends = appending.checked_appends(appends)
        if appending.are_personal(appends):  # Their subjects are noted with each append.
            return super().append_many(appends)
        self._begin_appends(stream_id for stream_id, _, _ in appends)
        operation = appending.append_many(appends, in_transaction=self.in_transaction)
        observer = self.observer
        if observer is None:
            versions = self.carry_out(operation)
        else:
            with observer.appending(None):
                versions = self.carry_out(operation)
            new = [events for stream_id, events, _ in appends if not versions[stream_id].repeated]
            observer.appended([event.event_type for events in new for event in events])
        self._end_appends((stream_id, versions[stream_id], events) for stream_id, events, _ in appends)
        return versions


class FollowableStore(BatchStore):
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

    def mark_log(self) -> int:
        """Mark how far standbys may read the log, and return that position.

        On a standby, ``read_all`` and what follows the log read up to the last mark. So call this on the primary, many
        times a second, for as long as somebody reads from standbys; ``eventstore mark`` does. A mark that has not moved
        is not written again for 5 seconds. In memory this does nothing.

        Raises:
            InvalidOperation: the server is a standby itself.
            StoreUnavailable: the server can't be reached.
        """
        return self.carry_out(operations.mark_log())

    def execute_apart(self, request: Request[R]) -> R:
        """Carry out a request without waiting for what workers and requests of the program have in use."""
        return self.execute(request)

    def listening(self) -> AbstractContextManager[object]:
        """A block in which other processes' announcements wake subscriptions of this one, where that is possible."""
        return nullcontext()


class RequestSnapshotStore(Executor, SnapshotStore):
    """A snapshot store that carries out requests one by one."""

    def load(self, aggregate_type: str, aggregate_id: str, class_schema: str) -> Snapshot | None:
        return self.carry_out(operations.load_snapshot(aggregate_type, aggregate_id, class_schema))

    def save(self, snapshot: Snapshot) -> None:
        self.carry_out(operations.save_snapshot(snapshot))

    def delete(self, aggregate_type: str, aggregate_id: str) -> None:
        self.carry_out(operations.delete_snapshot(aggregate_type, aggregate_id))
