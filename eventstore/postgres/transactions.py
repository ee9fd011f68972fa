"""How a transaction begins, ends, and what became of it when the answer was lost. Generators, as operations are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from eventstore.codec.record import Record
from eventstore.core.operations import RETRY_DELAYS, ConnectionLost, Operation, Pause, ReadStream
from eventstore.errors import AppendOutcomeUnknown, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres.statements import Command

BEGIN = Command("BEGIN ISOLATION LEVEL READ COMMITTED")
ROLLBACK = Command("ROLLBACK")
SAVEPOINT = Command("SAVEPOINT eventstore")
RELEASE = Command("RELEASE SAVEPOINT eventstore")
ROLLBACK_TO = Command("ROLLBACK TO SAVEPOINT eventstore")
"""Savepoints of one name hide each other, as nested blocks do."""

_COMMIT = Command("COMMIT")
_TRANSACTION_ID = Command("SELECT pg_current_xact_id_if_assigned()::text")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A request for another connection than the transaction's, which is gone. Reply: that of the request."""

    request: Command | ReadStream


@dataclass(frozen=True, slots=True)
class Appended:
    """An append of a transaction, as far as it takes to find it again."""

    stream_id: str
    version: int
    """Of the last of its events."""
    event_ids: Sequence[UUID]


class State:
    """What a transaction of the library's own has done so far."""

    def __init__(self) -> None:
        self.appended: list[Appended] = []
        self.callbacks: list[Callable[[], object]] = []
        """To be called once it is known to be committed."""
        self._ended = False

    def check(self) -> None:
        """Raise InvalidOperation once it has ended."""
        if self._ended:
            raise InvalidOperation("this transaction has ended: begin another one")

    def end(self) -> None:
        self._ended = True

    def mark(self) -> tuple[int, int]:
        """Where it stands, for ``go_back``."""
        return len(self.appended), len(self.callbacks)

    def go_back(self, mark: tuple[int, int]) -> None:
        """Forget what came after a mark: it was rolled back."""
        appended, callbacks = mark
        del self.appended[appended:], self.callbacks[callbacks:]

    def committed(self) -> None:
        for callback in self.callbacks:
            callback()

    def note(self, stream_id: str, version: int, events: Sequence[Event]) -> int:
        """Remember an append, and return its version."""
        if events:
            self.appended.append(Appended(stream_id, version, [event.event_id for event in events]))
        return version


def lost(error: ConnectionLost) -> StoreUnavailable:
    """What a lost connection means before the commit."""
    return StoreUnavailable(
        f"{error}; its transaction is rolled back, nothing of it is stored", sqlstate=error.sqlstate
    )


def commit(appended: Sequence[Appended]) -> Operation[None]:
    """Commit; if the answer is lost, find out.

    Raises InvalidOperation if the transaction had failed before, StoreUnavailable if nothing was stored, and
    AppendOutcomeUnknown.
    """
    try:
        transaction_id: str | None = yield _TRANSACTION_ID
    except ConnectionLost as error:
        raise lost(error) from error
    try:
        status: str = yield _COMMIT
    except ConnectionLost as error:
        if transaction_id is None:
            return  # It had nothing to commit: what it appended was there already.
        if not appended:
            raise StoreUnavailable(
                f"{error}; it was committing a transaction that had appended nothing: what else was done in it "
                "may or may not be stored",
                sqlstate=error.sqlstate,
            ) from error
        yield from _find_out(transaction_id, appended)
        return
    if status != "COMMIT":
        raise InvalidOperation("this transaction had failed earlier: nothing of it was stored")


def _find_out(transaction_id: str, appended: Sequence[Appended]) -> Operation[None]:
    last = appended[-1]
    # A server that crashed forgets ids that it had given to transactions of which nothing was written yet, this one
    # among them: to ask for the status of an id that is still to come is an error.
    number = int(transaction_id)
    status = Elsewhere(
        Command(
            f"SELECT CASE WHEN '{number}'::xid8 < pg_current_xact_id() THEN pg_xact_status('{number}')"
            " ELSE 'aborted' END"
        )
    )
    stored = Elsewhere(ReadStream(last.stream_id, last.version - 1, last.version, backwards=False, limit=1))
    for delay in RETRY_DELAYS:
        if delay:
            yield Pause(delay)
        try:
            outcome: str | None = yield status
            records: list[Record] = (yield stored) if outcome == "committed" else []
        except StoreUnavailable:
            continue  # That says nothing about the transaction.
        if outcome == "aborted":
            raise StoreUnavailable("the connection was lost before the commit: nothing of this transaction was stored")
        if outcome == "committed":
            # Another server, after a failover, may have given the same number to another transaction.
            if records and records[0][3] == last.event_ids[-1].bytes:
                return
            break
    raise AppendOutcomeUnknown(last.stream_id, [event_id for append in appended for event_id in append.event_ids])
