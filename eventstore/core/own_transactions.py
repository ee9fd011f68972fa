"""The transactions that this thread or task has open: an append beside one of them may never wait for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import ref

from eventstore.errors import InvalidOperation


class OwnTransaction:
    """A transaction of a store, and the streams that it holds until its end."""

    def __init__(self, store: object, owner: object) -> None:
        self.store = store
        self.owner = owner
        """The thread or task that opened it: one that was started in the block has the same context."""
        self.streams: frozenset[str] = frozenset()
        self.ended = False


_OPEN: ContextVar[tuple[ref[OwnTransaction], ...]] = ContextVar("eventstore_own_transactions", default=())
"""Weak references: what an interrupt keeps from being taken out is gone with its block all the same."""


@contextmanager
def own_transaction(store: object, owner: object) -> Generator[OwnTransaction, None, None]:
    """A transaction of a store that is open as long as the block lasts."""
    opened = OwnTransaction(store, owner)
    _OPEN.set((*_OPEN.get(), ref(opened)))
    try:
        yield opened
    finally:
        opened.ended = True
        _OPEN.set(tuple(each for each in _OPEN.get() if each() not in {None, opened}))


def check_not_held(store: object, owner: object, stream_id: str) -> None:
    """Raise InvalidOperation for an append through a store that would wait for a transaction of its own caller."""
    for found in _OPEN.get():
        each = found()
        if each and each.store is store and each.owner == owner and not each.ended and stream_id in each.streams:
            raise InvalidOperation(
                f"this append to {stream_id!r} would wait for ever for the transaction() around it, which has "
                "written to that stream: use the store that transaction() returned"
            )
