"""For whoever writes a store: answer five requests, and the rest of an event store follows.

A store is a subclass of RequestStore, or AsyncRequestStore, with ``execute``, ``transaction`` and ``bind``. Checks of
arguments, encoding, decoding, errors and paging stand above it, so that they are the same in every store.
docs/own-store.md has a whole store on SQLite, and ``eventstore.testing`` the contract that it passes.
"""

from __future__ import annotations

from eventstore.codec.record import Record, Row
from eventstore.core.appending import answered_without_storing
from eventstore.core.asynchronous import AsyncRequestStore
from eventstore.core.blocking import RequestStore
from eventstore.core.records import NewRecords
from eventstore.core.refusals import bound_already, transaction_ended
from eventstore.core.requests import (
    AlreadyStored,
    Append,
    AppendMark,
    Conflict,
    ReadLog,
    ReadPageAndFind,
    ReadStream,
    Request,
    Retired,
    SafePosition,
    Stored,
)

__all__ = [
    "AlreadyStored",
    "Append",
    "AppendMark",
    "AsyncRequestStore",
    "Conflict",
    "NewRecords",
    "ReadLog",
    "ReadPageAndFind",
    "ReadStream",
    "Record",
    "Request",
    "RequestStore",
    "Retired",
    "Row",
    "SafePosition",
    "Stored",
    "answered_without_storing",
    "bound_already",
    "transaction_ended",
]
