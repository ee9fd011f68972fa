"""How the wait for a statement is bounded: psycopg's generators, watched for the deadline of the call.

psycopg waits for the server in a generator that is woken at least each 0.1 s, blocking and in async. Watched here, that
generator stops at the deadline and can be continued, which leaves time to cancel the statement and to learn what became
of it. A statement_timeout would take a round trip to set, and would not help where the network swallows everything.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection, pq

from eventstore.core.deadlines import Deadline
from eventstore.core.refusals import waited_for_transactions
from eventstore.errors import StoreUnavailable

T = TypeVar("T")

Waiting: TypeAlias = Generator[Any, Any, T]
"""What psycopg calls a PQGen: it yields what it waits for, and is sent what is ready."""

CANCEL_SECONDS = 2.0
"""How long the server has to answer a cancellation."""


class OutOfTime(Exception):
    """The deadline has passed while a statement was under way. ``statement`` continues the wait for it."""

    def __init__(self, deadline: Deadline, statement: Waiting[Any]) -> None:
        super().__init__()
        self.deadline = deadline
        self.statement = statement

    def cancelled(self, error: psycopg.Error) -> StoreUnavailable:
        """The error for a statement that the server has cancelled."""
        return waited_for_transactions(self.deadline, error.sqlstate)


def until(deadline: Deadline | None, statement: Waiting[T]) -> Waiting[T]:
    """Wait for a statement. Raises OutOfTime when the deadline has passed."""
    if deadline is None or deadline.timeout is None:
        return statement
    return _watched(deadline, statement)


def _watched(deadline: Deadline, statement: Waiting[T]) -> Waiting[T]:
    try:
        wanted = next(statement)
        while True:
            ready = yield wanted
            if not ready and deadline.passed:
                raise OutOfTime(deadline, statement)
            wanted = statement.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def cancelling_in_a_thread(connection: Connection[Any] | AsyncConnection[Any]) -> Future[None]:
    """Send a cancellation in the one way that libpq has before version 17, which blocks as long as the network does.

    Nobody has to wait for the thread: it neither needs the connection, nor keeps the program from ending. Raises
    TimeoutError at once where psycopg is in C: it would hold the GIL meanwhile, and a lost connection is better than a
    program that stands still.
    """
    if pq.__impl__ != "python":
        raise TimeoutError
    handle = connection.pgconn.get_cancel()
    sent: Future[None] = Future()
    sent.set_running_or_notify_cancel()

    def send() -> None:
        try:
            handle.cancel()
        except psycopg.Error as error:
            sent.set_exception(error)
        else:
            sent.set_result(None)

    threading.Thread(target=send, name="eventstore-cancel", daemon=True).start()
    return sent


def unanswered() -> psycopg.OperationalError:
    """What the driver would raise for a server that answers nothing any more, not even a cancellation."""
    return psycopg.OperationalError("the server does not answer")
