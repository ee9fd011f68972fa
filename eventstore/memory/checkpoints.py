"""The memory store's checkpoints and parked events: what sql/0006_subscriptions.sql does for the other one."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Protocol

from eventstore.codec.record import EPOCH, Record
from eventstore.core.checkpoints import Claimed, Examined, ParkedEvent, Poll, SubscriptionRow, partition_of
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import (
    Attend,
    Claim,
    DropParked,
    Examine,
    Heartbeat,
    InRecovery,
    ListDropped,
    ListParked,
    ListParkedStreams,
    ListSubscriptions,
    NoteError,
    Park,
    PollSubscription,
    Probe,
    Register,
    Remove,
    SaveCheckpoint,
    TakeParked,
)

_position = attrgetter("position")


class HoldsClaims(Protocol):
    """The part of a transaction that matters here."""

    claims: set[tuple[str, int]]
    on_commit: list[Callable[[], object]]


@dataclass
class _Row:
    position: int
    failed: bool = False
    error: str | None = None
    error_position: int | None = None
    error_since: float | None = None
    moved_at: float = field(default_factory=time.monotonic)


def in_partition(stream_id: str, number: int, of: int) -> bool:
    """Whether a stream belongs to a partition, as partition_of in the database says."""
    return partition_of(stream_id, of) == number


def _first_error(rows: Iterable[_Row]) -> _Row:
    """The row with the error at the lowest position; without errors, one without an error."""
    return min((row for row in rows if row.error), key=attrgetter("error_position"), default=_Row(0))


class MemoryCheckpoints:
    """All methods are to be called with the engine's lock held."""

    def __init__(
        self,
        log: Sequence[Record],
        safe_position: Callable[[int], int | None],
        blocking_sessions: Callable[[], list[BlockingSession]],
    ) -> None:
        self._log = log
        self._blocking_sessions = blocking_sessions
        self._safe_position = safe_position
        self._rows: dict[str, list[_Row]] = {}
        self._seen: dict[str, float] = {}
        self._parked: dict[str, dict[int, ParkedEvent]] = {}
        self._dropped: dict[str, set[int]] = {}
        self._claimed: set[tuple[str, int]] = set()
        self.answers = dict(
            [
                Register.answered_by(self._register),
                PollSubscription.answered_by(self._poll),
                Heartbeat.answered_by(self._heartbeat),
                Attend.answered_by(self._attend),
                Claim.answered_by(self._claim),
                SaveCheckpoint.answered_by(self._save),
                NoteError.answered_by(self._note_error),
                Park.answered_by(self._park),
                ListParked.answered_by(self._list_parked),
                ListParkedStreams.answered_by(self._list_parked_streams),
                TakeParked.answered_by(self._take),
                DropParked.answered_by(self._drop),
                ListDropped.answered_by(self._list_dropped),
                ListSubscriptions.answered_by(self._list),
                Remove.answered_by(self._remove),
                Probe.answered_by(self._probe),
                InRecovery.answered_by(self._in_recovery),
                Examine.answered_by(self._examine),
            ]
        )
        """Which method answers which request; in a transaction what it changes is changed at its commit."""

    def release(self, transaction: HoldsClaims) -> None:
        """Let go of what a transaction holds."""
        self._claimed -= transaction.claims

    def _heartbeat(self, request: Heartbeat, _: HoldsClaims | None) -> None:
        self._seen.pop(request.name, None)
        if request.present:
            self._seen[request.name] = time.monotonic()

    def _attend(self, request: Attend, _: HoldsClaims | None) -> dict[str, int]:
        lowest: dict[str, int] = {}
        for name, base, position in zip(request.names, request.bases, request.positions, strict=True):
            rows = self._rows.get(name, [])
            if not rows or any(row.failed for row in rows):
                continue
            lowest[name] = min(row.position for row in rows)
            self._seen[name] = time.monotonic()
            for number, row in enumerate(rows):
                if base <= row.position < position and (name, number) not in self._claimed:
                    row.position = position
        return lowest

    def _note_error(self, request: NoteError, _: HoldsClaims | None) -> None:
        if request.name in self._rows:
            row = self._rows[request.name][request.partition]
            if row.error_position != request.position:
                row.error_since = time.monotonic()
            row.error, row.error_position, row.failed = request.error, request.position, request.failed

    def _list_parked_streams(self, request: ListParkedStreams, _: HoldsClaims | None) -> frozenset[str]:
        return frozenset(event.stream_id for event in self._parked.get(request.name, {}).values())

    def _list_parked(self, request: ListParked, _: HoldsClaims | None) -> list[ParkedEvent]:
        return [event for _, event in sorted(self._parked.get(request.name, {}).items())]

    def _list(self, request: ListSubscriptions, _: HoldsClaims | None) -> list[SubscriptionRow]:
        return [self._row(each) for each in sorted(self._rows) if request.name in {None, each}]

    def _remove(self, request: Remove, _: HoldsClaims | None) -> bool:
        self._parked.pop(request.name, None)
        self._dropped.pop(request.name, None)
        return self._rows.pop(request.name, None) is not None

    def _examine(self, _: Examine, __: HoldsClaims | None) -> Examined:
        highest, subscriptions = self._log[-1].position if self._log else 0, self._list(ListSubscriptions(None), None)
        return Examined(highest, self._safe_position(0), None, None, self._blocking_sessions(), subscriptions)

    def _in_recovery(self, _: InRecovery, __: HoldsClaims | None) -> bool:
        return False

    def _probe(self, _: Probe, transaction: HoldsClaims | None) -> None:
        """A transaction that can't be used has been refused already."""

    def _change(self, transaction: HoldsClaims | None, change: Callable[[], object]) -> None:
        if transaction is None:
            change()
        else:
            transaction.on_commit.append(change)

    def _hold(self, key: tuple[str, int], transaction: HoldsClaims | None) -> None:
        if transaction is not None:  # Without one it is let go at once.
            self._claimed.add(key)
            transaction.claims.add(key)

    def _register(self, request: Register, _: HoldsClaims | None) -> bool:
        rows = self._rows.get(request.name, [])
        if len(rows) != request.partitions:
            held = any((request.name, number) in self._claimed for number in range(len(rows)))
            position = rows[0].position if rows else request.position
            if held or any(row.position != position for row in rows):
                return False
            self._rows[request.name] = rows = [_Row(position) for _ in range(request.partitions)]
        for row in rows:
            row.failed = False
        return True

    def _poll(self, request: PollSubscription, _: HoldsClaims | None) -> Poll:
        rows = self._rows.get(request.name, [])
        lowest = min((row.position for row in rows), default=None)
        failed = _first_error(row for row in rows if row.failed)
        highest = self._log[-1].position if self._log else 0
        return Poll(lowest, self._safe_position(lowest or 0), highest, failed.error, failed.error_position)

    def _claim(self, request: Claim, transaction: HoldsClaims | None) -> Claimed | None:
        rows = self._rows.get(request.name, [])
        free = [
            (row.position, number)
            for number, row in enumerate(rows)
            if row.position < request.below
            and not row.failed
            and request.partition in {None, number}
            and (request.name, number) not in self._claimed
        ]
        if not free:
            return None
        position, number = min(free)
        self._hold((request.name, number), transaction)
        return Claimed(number, len(rows), position)

    def _save(self, request: SaveCheckpoint, transaction: HoldsClaims | None) -> None:
        self._change(transaction, lambda: self._saved(request))

    def _saved(self, request: SaveCheckpoint) -> None:
        if request.name in self._rows:  # Somebody may have removed the subscription.
            self._rows[request.name][request.partition] = _Row(request.position)
            self._seen[request.name] = time.monotonic()

    def _park(self, request: Park, transaction: HoldsClaims | None) -> None:
        self._change(transaction, lambda: self._parked_now(request))

    def _parked_now(self, request: Park) -> None:
        record = self._log[bisect_right(self._log, request.position, key=_position) - 1]
        self._parked.setdefault(request.name, {})[request.position] = ParkedEvent(
            request.position,
            record.stream_id,
            record.version,
            record.event_type,
            request.attempts,
            request.error,
            datetime.now(UTC),
        )

    def _drop(self, request: DropParked, transaction: HoldsClaims | None) -> bool:
        dropped = self._dropped.setdefault(request.name, set())
        found = self._take(request, transaction)
        if found:
            self._change(transaction, lambda: dropped.add(request.position))
        return found

    def _list_dropped(self, request: ListDropped, _: HoldsClaims | None) -> list[int]:
        return sorted(self._dropped.get(request.name, ()))

    def _take(self, request: TakeParked | DropParked, transaction: HoldsClaims | None) -> bool:
        name, position = request.name, request.position
        key = (f"parked\0{name}", position)  # No subscription has such a name.
        if position not in self._parked.get(name, {}) or key in self._claimed:
            return False
        self._hold(key, transaction)
        self._change(transaction, lambda: self._parked.get(name, {}).pop(position, None))
        return True

    def _row(self, name: str) -> SubscriptionRow:
        rows = self._rows[name]
        now = time.monotonic()
        position = min(row.position for row in rows)
        troubled = _first_error(rows)
        index = bisect_right(self._log, position, key=_position)
        behind = 0.0
        if index < len(self._log):
            microseconds = int.from_bytes(self._log[index].timestamp, signed=True)
            behind = max((datetime.now(UTC) - EPOCH) / timedelta(seconds=1) - microseconds / 1e6, 0.0)
        return SubscriptionRow(
            name,
            len(rows),
            position,
            self._log[-1].position if self._log else 0,
            behind,
            now - self._seen[name] if name in self._seen else None,
            any(row.failed for row in rows),
            troubled.error,
            troubled.error_position,
            len(self._parked.get(name, {})),
            None,
            now - min(row.moved_at for row in rows if row.position == position),
            None if troubled.error_since is None else now - troubled.error_since,
            any((name, number) in self._claimed for number in range(len(rows))),
        )
