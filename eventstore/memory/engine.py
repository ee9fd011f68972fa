"""The memory store's tables, locks and transactions: what PostgreSQL does for the other one, by the same rules."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Literal, TypeVar

from eventstore.codec.format import key_of_map
from eventstore.codec.record import Record
from eventstore.core.appending import answered_without_storing
from eventstore.core.forgetting import SUBJECTS
from eventstore.core.refusals import transaction_ended, transaction_failed
from eventstore.core.requests import (
    Append,
    AppendMany,
    AppendMark,
    AppendReply,
    ConfirmCommits,
    Conflict,
    DeleteSnapshot,
    DeleteSnapshotsOf,
    ListBlockingSessions,
    LoadSnapshot,
    MarkLog,
    ReadByIds,
    ReadFromSnapshot,
    ReadLog,
    ReadPageAndFind,
    ReadRelated,
    ReadStream,
    Request,
    Retired,
    SafePosition,
    SaveSnapshot,
    SessionsGone,
    Stored,
    SubjectGone,
    SubjectStreams,
)
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import BeginRebuild
from eventstore.core.wakeups import WakeUps
from eventstore.errors import InvalidOperation
from eventstore.memory.checkpoints import MemoryCheckpoints, in_partition
from eventstore.store import Snapshot
from eventstore.tombstone import TOMBSTONE

R = TypeVar("R")

_position = attrgetter("position")


class _ClosingRecord(Record):
    """An event at which loads of its stream begin."""


@dataclass(eq=False)
class Transaction:
    """One that is open: what it has appended, the streams that it holds, and the bound of its positions."""

    records: list[Record] = field(default_factory=list[Record])
    locks: set[str] = field(default_factory=set[str])
    bound: int | None = None
    """The last position drawn before its own; what it registered for readers."""
    waiting_for: str | None = None
    failed: bool = False
    ended: bool = False
    claims: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """The checkpoints and parked events that it holds."""
    on_commit: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    """What it changes of them."""
    subject_streams: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Subjects of personal data that it has appended, each with the stream. They can't be forgotten until it ends."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Savepoint:
    """Where a transaction can go back to."""

    records: int
    locks: frozenset[str]
    bound: int | None
    subject_streams: int


class MemoryEngine:
    """All methods are to be called with ``changed`` held; it is notified when locks are released."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.on_release: list[Callable[[], object]] = []
        """To be called once each when locks are released, by those who can't wait on ``changed``."""
        self._log: list[Record] = []
        self._streams: dict[str, list[Record]] = {}
        self._event_ids: set[bytes] = set()
        self._subject_streams: dict[str, set[str]] = {}
        self._last_position = 0
        self._holders: dict[str, Transaction] = {}
        self._open: set[Transaction] = set()
        self.wakeups = WakeUps()
        self.checkpoints = MemoryCheckpoints(
            self._log,
            lambda after: self._safe_position(SafePosition(after), None),
            lambda: self._blocking(ListBlockingSessions(), None),
        )
        self._answers = {
            **self.checkpoints.answers,
            **dict(
                [
                    Append.answered_by(self._append),
                    AppendMark.answered_by(self._append_mark),
                    AppendMany.answered_by(self._append_many),
                    ReadStream.answered_by(self._read_stream),
                    ReadPageAndFind.answered_by(self._read_page_and_find),
                    ReadFromSnapshot.answered_by(self._read_from_snapshot),
                    SafePosition.answered_by(self._safe_position),
                    MarkLog.answered_by(self._mark_log),
                    ReadLog.answered_by(self._read_log),
                    BeginRebuild.answered_by(self._begin_rebuild),
                    ListBlockingSessions.answered_by(self._blocking),
                    ReadByIds.answered_by(self._read_by_ids),
                    ReadRelated.answered_by(self._read_related),
                    SessionsGone.answered_by(self._sessions_gone),
                    ConfirmCommits.answered_by(self._confirm_commits),
                    SubjectStreams.answered_by(self._subject_streams_of),
                    DeleteSnapshotsOf.answered_by(self._delete_snapshots_of),
                ]
            ),
        }

    def described(self) -> str:
        """How much is stored."""
        return f"{len(self._log):,} events in {len(self._streams):,} streams"

    def begin(self) -> Transaction:
        transaction = Transaction()
        self._open.add(transaction)
        return transaction

    def commit(self, transaction: Transaction) -> None:
        self._check(transaction)
        for record in transaction.records:
            self._streams.setdefault(record.stream_id, []).append(record)
            self._event_ids.add(record.event_id)
            if not self._log or self._log[-1].position < record.position:
                self._log.append(record)
            else:
                insort(self._log, record, key=_position)
        for subject, stream_id in transaction.subject_streams:
            self._subject_streams.setdefault(subject, set()).add(stream_id)
        for change in transaction.on_commit:
            change()
        self._end(transaction)
        if transaction.records:
            self.wakeups.wake()

    def rollback(self, transaction: Transaction) -> None:
        if not transaction.ended:
            self._end(transaction)

    def savepoint(self, transaction: Transaction) -> Savepoint:
        self._check(transaction)
        return Savepoint(
            len(transaction.records), frozenset(transaction.locks), transaction.bound, len(transaction.subject_streams)
        )

    def rollback_to(self, savepoint: Savepoint, transaction: Transaction) -> None:
        del transaction.records[savepoint.records :]
        del transaction.subject_streams[savepoint.subject_streams :]
        transaction.bound = savepoint.bound
        self._release(transaction, transaction.locks - savepoint.locks)
        transaction.failed = False

    @staticmethod
    def takes_locks(request: Request[Any]) -> bool:
        """Whether a request needs a transaction to hold its locks."""
        return isinstance(request, (Append, AppendMany, AppendMark))

    def try_lock(self, request: Request[Any], transaction: Transaction | None) -> bool:
        """Take the locks that a request needs, unless another transaction holds one: then its end is to be waited for.

        A transaction that would wait for one that waits for it fails, as the server's deadlock detection makes it.
        """
        if isinstance(request, AppendMark):
            request = request.append
        if isinstance(request, Append):
            there = _there(transaction)
            return not self._is_forgetting(request, there) and self._try_lock(request.stream_id, there)
        if isinstance(request, AppendMany):
            # In one order, so that no two batches wait for each other. One that fails at a deadlock needs no more.
            there = _there(transaction)
            return all(there.failed or self._try_lock(stream_id, there) for stream_id in sorted(request.stream_ids))
        return True

    def _try_lock(self, stream_id: str, transaction: Transaction) -> bool:
        self._check(transaction)
        if self._is_recorded(stream_id, transaction):
            return False
        holder = self._holders.setdefault(stream_id, transaction)
        transaction.waiting_for = None if holder is transaction else stream_id
        if holder is transaction:
            transaction.locks.add(stream_id)
            return True
        for other in self._awaited(holder):
            if other is transaction:
                self._fail(transaction)
                return True
        return False

    def _is_forgetting(self, request: Append, transaction: Transaction) -> bool:
        """Whether another transaction is about to forget a subject whose personal data an append holds."""
        return any(self._holders.get(f"{SUBJECTS}{s}") not in {None, transaction} for s in request.subjects)

    def _is_recorded(self, stream_id: str, transaction: Transaction) -> bool:
        """Whether another transaction has appended personal data of the subject that an append forgets."""
        if not stream_id.startswith(SUBJECTS):
            return False
        subject = stream_id.removeprefix(SUBJECTS)
        return any(subject == each for t in self._open - {transaction} for each, _ in t.subject_streams)

    @staticmethod
    def stop_waiting(transaction: Transaction | None) -> None:
        """Say that a transaction no longer waits for the lock that it did not get."""
        if transaction is not None:
            transaction.waiting_for = None

    def answer(self, request: Request[R], transaction: Transaction | None) -> R:
        """The reply to a request, whose locks are held."""
        if transaction is not None and not (transaction.failed and self.takes_locks(request)):
            self._check(transaction)
        reply: R = self._answers[type(request)](request, transaction)
        return reply

    def _append_mark(self, request: AppendMark, given: Transaction | None) -> AppendReply:
        reply = self._append(request.append, given)
        if isinstance(reply, Stored) and not reply.repeated and not request.tombstone:
            records = _there(given).records
            records[-1] = _ClosingRecord(*records[-1])
        return reply

    def _append(self, request: Append, given: Transaction | None) -> AppendReply:
        transaction = _there(given)
        if transaction.failed:
            return Conflict(None)
        for number, subject in enumerate(request.subjects, 1):
            if self._stream(f"{SUBJECTS}{subject}", transaction):
                return SubjectGone(number)
        if transaction.bound is None:
            transaction.bound = self._last_position
        stream = self._stream(request.stream_id, transaction)
        last, count = len(stream), len(request.records.event_ids)
        if request.expected_version != last or request.given_ids or _is_retired(stream):
            known = self._with_ids(request.records.event_ids, stream, transaction)
            if (reply := _settled(request, stream, known)) is not None:
                return reply
        for version, new in enumerate(zip(*request.records, strict=True), last + 1):
            self._last_position += 1
            transaction.records.append(Record(request.stream_id, version, self._last_position, *new))
        if count:
            transaction.subject_streams += [(subject, request.stream_id) for subject in request.subjects]
            return Stored(last + count, self._last_position)
        return Stored(last, stream[-1].position if stream else 0)

    def _append_many(self, request: AppendMany, given: Transaction | None) -> Sequence[AppendReply | None]:
        transaction = _there(given)
        if transaction.failed:
            return [Conflict(None)] * len(request.stream_ids)
        if transaction.bound is None:
            transaction.bound = self._last_position
        settled: list[AppendReply | None] = []
        for append in request.each():
            stream = self._stream(append.stream_id, transaction)
            known = self._with_ids(append.records.event_ids, stream, transaction)
            settled.append(_settled(append, stream, known))
        if not all(reply is None or isinstance(reply, Stored) for reply in settled):
            return settled
        lasts = [self._stream(stream_id, transaction) for stream_id in request.stream_ids]
        replies = [
            reply or Stored(len(stream), stream[-1].position if stream else 0)
            for reply, stream in zip(settled, lasts, strict=True)
        ]
        versions = [reply.version if isinstance(reply, Stored) else 0 for reply in replies]
        for index, step, new in zip(request.streams, request.steps, zip(*request.records, strict=True), strict=True):
            if settled[index] is None:
                self._last_position += 1
                version = versions[index] + step
                transaction.records.append(Record(request.stream_ids[index], version, self._last_position, *new))
                replies[index] = Stored(version, self._last_position)
        return replies

    def _with_ids(
        self, ids: Sequence[bytes], stream: Sequence[Record], transaction: Transaction
    ) -> list[tuple[int, int, bytes]]:
        """Version, position and id of those events of a stream that have one of these ids."""
        wanted = set(ids)
        if wanted.isdisjoint(self._event_ids) and not transaction.records:
            return []
        return [(record.version, record.position, record.event_id) for record in stream if record.event_id in wanted]

    def _read_stream(self, request: ReadStream, transaction: Transaction | None) -> Sequence[Record]:
        stream = self._stream(request.stream_id, transaction)
        start = max(request.from_version, _loaded_from(stream) if request.from_closing else 0)
        found = stream[start : max(request.to_version, 0)]
        if request.backwards:
            found = found[::-1]
        return found[: request.limit]

    def _read_page_and_find(self, request: ReadPageAndFind, transaction: Transaction | None) -> Sequence[Record]:
        stream = self._stream(request.stream_id, transaction)
        start = max(request.from_version, _loaded_from(stream))
        page = stream[start : start + request.limit]
        elsewhere = [*stream[:start], *stream[start + request.limit :]]
        found = [record._replace(position=0) for record in elsewhere if record.event_id == request.event_id.bytes]
        return sorted([*page, *found], key=attrgetter("version"))

    def _read_from_snapshot(self, request: ReadFromSnapshot, transaction: Transaction | None) -> Sequence[Record]:
        """No snapshot is beside the events in memory."""
        if request.event_id is None:
            page = ReadStream(request.stream_id, 0, sys.maxsize, False, request.limit, from_closing=True)
            return self._read_stream(page, transaction)
        found = ReadPageAndFind(request.stream_id, 0, request.limit, request.event_id)
        return self._read_page_and_find(found, transaction)

    def _safe_position(self, request: SafePosition, transaction: Transaction | None) -> int | None:
        log = self._visible(transaction)
        highest = log[-1].position if log else 0
        bounds = [t.bound for t in self._open if t is not transaction and t.bound is not None]
        if min(bounds, default=highest) >= highest:
            return max(request.after, highest)
        settled = max(request.after, min(bounds))
        for record in log[bisect_right(log, settled, key=_position) :][:1000]:
            if record.position != settled + 1:
                break
            settled += 1
        return settled

    def _mark_log(self, _: MarkLog, transaction: Transaction | None) -> int | None:
        return self._safe_position(SafePosition(0), transaction)

    def _read_log(self, request: ReadLog, transaction: Transaction | None) -> Sequence[Record]:
        found: list[Record] = []
        log = self._visible(transaction)
        categories = None if request.categories is None else set(request.categories)
        first, end = (bisect_right(log, bound, key=_position) for bound in (request.after, request.upto))
        for index in reversed(range(first, end)) if request.backwards else range(first, end):
            record = log[index]
            if len(found) == request.limit:
                break
            category, dash, _ = record.stream_id.partition("-")
            if (
                (request.event_types is None or record.event_type in request.event_types)
                and (categories is None or (dash and category in categories))
                and (request.partition is None or in_partition(record.stream_id, *request.partition))
            ):
                found.append(record)
        return found

    def _read_by_ids(self, request: ReadByIds, _: Transaction | None) -> list[Record]:
        return [record for record in self._log if record.event_id in request.event_ids]

    def _read_related(self, request: ReadRelated, _: Transaction | None) -> list[Record]:
        after = [key_of_map(request.key) + each for each in request.ids]
        return [each for each in self._log if any(found in each.metadata for found in after)][: request.limit]

    def _blocking(self, request: ListBlockingSessions, transaction: Transaction | None) -> list[BlockingSession]:
        others = self._open - {transaction}
        highest = self._log[-1].position if self._log else 0
        first = min((t for t in others if t.bound is not None), key=lambda t: t.bound or 0, default=None)
        found: list[BlockingSession] = []
        if first is not None and first.bound is not None and first.bound < highest:
            found.append(_session("readers", first, position=first.bound))
        for holder in others:
            waiting = sum(t.waiting_for in holder.locks for t in self._open)
            if waiting or request.stream_id in holder.locks:
                found.append(_session("writers", holder, waiting=waiting))
        return found

    def _begin_rebuild(self, _: BeginRebuild, __: Transaction | None) -> list[str] | None:
        raise InvalidOperation("a rebuild copies tables, and a store in memory has none")

    def _sessions_gone(self, _: SessionsGone, __: Transaction | None) -> bool | None:
        return True

    def _confirm_commits(self, _: ConfirmCommits, __: Transaction | None) -> None:
        pass

    def _subject_streams_of(self, request: SubjectStreams, transaction: Transaction | None) -> list[str]:
        own = transaction.subject_streams if transaction else []
        there = self._subject_streams.get(request.subject, set())
        return sorted(there | {stream_id for subject, stream_id in own if subject == request.subject})

    def _delete_snapshots_of(self, _: DeleteSnapshotsOf, __: Transaction | None) -> None:
        """Snapshots in memory stand by themselves. Those of the subject are sealed by its key."""

    def _stream(self, stream_id: str, transaction: Transaction | None) -> Sequence[Record]:
        committed = self._streams.get(stream_id, [])
        own = transaction.records if transaction else []
        return [*committed, *(r for r in own if r.stream_id == stream_id)] if own else committed

    def _visible(self, transaction: Transaction | None) -> list[Record]:
        if transaction is None or not transaction.records:
            return self._log
        return sorted([*self._log, *transaction.records], key=_position)

    def _awaited(self, holder: Transaction) -> Iterator[Transaction]:
        """Whom a transaction waits for, and whom that one waits for, and so on."""
        current: Transaction | None = holder
        while current is not None:
            yield current
            current = self._holders.get(current.waiting_for) if current.waiting_for is not None else None

    def _check(self, transaction: Transaction) -> None:
        if transaction.ended:
            raise transaction_ended()
        if transaction.failed:
            raise transaction_failed()

    def _fail(self, transaction: Transaction) -> None:
        transaction.failed = True
        transaction.records.clear()
        self._release(transaction, transaction.locks)

    def _end(self, transaction: Transaction) -> None:
        transaction.ended = True
        self._open.discard(transaction)
        self.checkpoints.release(transaction)
        self._release(transaction, transaction.locks)

    def _release(self, transaction: Transaction, streams: set[str]) -> None:
        for stream_id in streams:
            del self._holders[stream_id]
        transaction.locks = transaction.locks - streams
        self.changed.notify_all()
        waiting, self.on_release = self.on_release, []
        for wake in waiting:
            wake()


def _is_retired(stream: Sequence[Record]) -> bool:
    return bool(stream) and stream[-1].event_type == TOMBSTONE


def _settled(append: Append, stream: Sequence[Record], known: list[tuple[int, int, bytes]]) -> AppendReply | None:
    """The reply to an append that must not store anything; None if its events are to be stored now."""
    reply = answered_without_storing(append, len(stream), known)
    if _is_retired(stream) and not isinstance(reply, Stored):
        return Retired(len(stream), stream[-1].position)
    return reply


def _loaded_from(stream: Sequence[Record]) -> int:
    """How many events at the beginning of a stream are left out of loads."""
    return next((record.version - 1 for record in reversed(stream) if isinstance(record, _ClosingRecord)), 0)


def _session(
    holds: Literal["readers", "writers"], transaction: Transaction, *, position: int | None = None, waiting: int = 0
) -> BlockingSession:
    return BlockingSession(holds, None, None, None, None, None, transaction.since, position, waiting, None)


def _there(transaction: Transaction | None) -> Transaction:
    if transaction is None:
        raise AssertionError("appends take locks, which a transaction holds")
    return transaction


class MemorySnapshots:
    """The table of snapshots. One operation on a dict each: threads need no lock."""

    def __init__(self) -> None:
        self._snapshots: dict[tuple[str, str], tuple[Snapshot, ...]] = {}
        """Of each aggregate those of the two class schemas that were saved last, the newest first."""
        self._answers = dict(
            [
                LoadSnapshot.answered_by(self._load),
                SaveSnapshot.answered_by(self._save),
                DeleteSnapshot.answered_by(self._delete),
            ]
        )

    def answer(self, request: Request[R]) -> R:
        """The reply to a request."""
        reply: R = self._answers[type(request)](request)
        return reply

    def _load(self, request: LoadSnapshot) -> Snapshot | None:
        found = self._snapshots.get((request.aggregate_type, request.aggregate_id), ())
        return next((each for each in found if each.class_schema == request.class_schema), None)

    def _save(self, request: SaveSnapshot) -> None:
        snapshot = request.snapshot
        key = snapshot.aggregate_type, snapshot.aggregate_id
        others = [each for each in self._snapshots.get(key, ()) if each.class_schema != snapshot.class_schema]
        self._snapshots[key] = (snapshot, *others[:1])

    def _delete(self, request: DeleteSnapshot) -> None:
        self._snapshots.pop((request.aggregate_type, request.aggregate_id), None)
