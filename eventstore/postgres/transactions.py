"""How a transaction begins, ends, and what became of it when the answer was lost. Generators, as operations are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from eventstore.codec.record import EVENT_ID
from eventstore.core.operations import ConnectionLost, attempts
from eventstore.core.refusals import nothing_stored, transaction_ended
from eventstore.core.requests import Append, AppendMany, AppendMark, ConfirmCommits, Operation, ReadStream, Request, ask
from eventstore.errors import AppendOutcomeUnknown, StoreUnavailable
from eventstore.event import Event
from eventstore.postgres.statements import RawSql
from eventstore.versions import StreamVersion

R = TypeVar("R")

BEGIN = RawSql("BEGIN ISOLATION LEVEL READ COMMITTED")
ROLLBACK = RawSql("ROLLBACK")
SAVEPOINT = RawSql("SAVEPOINT eventstore")
RELEASE = RawSql("RELEASE SAVEPOINT eventstore")
ROLLBACK_TO = RawSql("ROLLBACK TO SAVEPOINT eventstore")
"""Savepoints of one name hide each other, as nested blocks do."""

COMMIT = RawSql("COMMIT")
_TRANSACTION_ID = RawSql("SELECT pg_catalog.pg_current_xact_id_if_assigned()::text")


def commits(request: Request[Any]) -> bool:
    """Whether a request commits what it did, unless it is carried out in a transaction."""
    return isinstance(request, (Append, AppendMany, AppendMark, ConfirmCommits)) or request is COMMIT


@dataclass(frozen=True, slots=True)
class OnAnotherConnection(Request[R]):
    """Carry out a request on another connection than the transaction's, which is gone."""

    request: Request[R]


@dataclass(frozen=True, slots=True)
class Appended:
    """An append of a transaction, as far as it takes to find it again."""

    stream_id: str
    version: int
    """Of the last of its events."""
    event_ids: Sequence[UUID]


class AppendLog:
    """What a transaction of the library's own has done so far."""

    def __init__(self) -> None:
        self.appended: list[Appended] = []
        self.callbacks: list[Callable[[], object]] = []
        """To be called once it is known to be committed."""
        self._ended = False

    def check(self) -> None:
        """Raise InvalidOperation once it has ended."""
        if self._ended:
            raise transaction_ended()

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

    def note(self, stream_id: str, version: StreamVersion, events: Sequence[Event]) -> None:
        """Remember an append."""
        if events:
            self.appended.append(Appended(stream_id, version, [event.event_id for event in events]))


def rolled_back(error: ConnectionLost) -> StoreUnavailable:
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
        transaction_id = yield from ask(_TRANSACTION_ID)
    except ConnectionLost as error:
        raise rolled_back(error) from error
    try:
        status = yield from ask(COMMIT)
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
        raise nothing_stored()


def _find_out(transaction_id: str, appended: Sequence[Appended]) -> Operation[None]:
    last = appended[-1]
    # A server that crashed forgets ids that it had given to transactions of which nothing was written yet, this one
    # among them: to ask for the status of an id that is still to come is an error.
    number = int(transaction_id)
    status = OnAnotherConnection(
        RawSql(
            f"SELECT CASE WHEN '{number}'::pg_catalog.xid8 OPERATOR(pg_catalog.<) pg_catalog.pg_current_xact_id()"
            f" THEN pg_catalog.pg_xact_status('{number}'::pg_catalog.xid8) ELSE 'aborted'::text END"
        )
    )
    stored = OnAnotherConnection(ReadStream(last.stream_id, last.version - 1, last.version, backwards=False, limit=1))
    for wait in attempts():
        yield from wait
        try:
            outcome = yield from ask(status)
            rows = (yield from ask(stored)) if outcome == "committed" else ()
        except StoreUnavailable:
            continue  # That says nothing about the transaction.
        if outcome == "aborted":
            raise StoreUnavailable("the connection was lost before the commit: nothing of this transaction was stored")
        if outcome == "committed":
            # Another server, after a failover, may have given the same number to another transaction.
            if not rows or rows[0][EVENT_ID] != last.event_ids[-1].bytes:
                break
            try:
                yield from ask(OnAnotherConnection(ConfirmCommits()))
            except StoreUnavailable:
                continue
            return
    raise AppendOutcomeUnknown(last.stream_id, [event_id for append in appended for event_id in append.event_ids])
