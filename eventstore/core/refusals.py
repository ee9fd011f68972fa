"""Errors that several stores raise, so that each message is written once."""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.core.deadlines import Deadline
from eventstore.core.sessions import BlockingSession
from eventstore.errors import InvalidArgument, InvalidOperation, StoreUnavailable


def transaction_failed() -> InvalidOperation:
    """The error for the use of a transaction in which a statement has failed."""
    return InvalidOperation("this transaction has failed earlier: roll it back and begin another one")


def nothing_stored() -> InvalidOperation:
    """The error for the commit of such a transaction."""
    return InvalidOperation("this transaction had failed earlier, so nothing of it was stored: begin another one")


def transaction_ended() -> InvalidOperation:
    """The error for the use of a transaction after its end."""
    return InvalidOperation("this transaction has ended: begin another one")


def bound_already() -> InvalidArgument:
    """The error for binding a store that is bound to a transaction."""
    return InvalidArgument("this store is bound to a transaction already: bind the store that it came from")


def needs_read_committed(what: str) -> InvalidOperation:
    """The error for reading the log in a transaction whose snapshot may be older than its end."""
    return InvalidOperation(
        f"{what} needs a READ COMMITTED transaction, because it would skip events with an older snapshot"
    )


class WaitedInVain(StoreUnavailable):
    """A statement that was ended at the deadline of its call, and waited for other transactions until then."""


def waited_for_transactions(deadline: Deadline, sqlstate: str | None = None) -> WaitedInVain:
    """The error for a statement that was ended at the deadline of its call."""
    return WaitedInVain(
        f"no answer within {deadline.timeout or 0:g} s (the timeout of this store); nothing was stored: look for a "
        "transaction that stays open, or give the store a longer timeout",
        sqlstate=sqlstate,
    )


def waited_for(error: WaitedInVain, sessions: Iterable[BlockingSession]) -> WaitedInVain:
    """The same error with the sessions that are in the way, if any are known."""
    sentences = [session.sentence() for session in sessions if session.holds != "readers"]
    return WaitedInVain("; ".join([str(error), *sentences]), sqlstate=error.sqlstate) if sentences else error
