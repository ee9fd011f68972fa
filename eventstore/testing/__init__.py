"""For tests of applications; and the contract for whoever writes a store, which needs pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstore.testing.adapters import EventLoopThread, SyncFromAsyncEventStore, SyncFromAsyncSnapshotStore
from eventstore.testing.locking import assert_events_are_readable
from eventstore.testing.projection_scenario import given_log
from eventstore.testing.scenario import given

if TYPE_CHECKING:
    from eventstore.testing.contract import Capabilities, EventStoreContract, SnapshotStoreContract

__all__ = [
    "Capabilities",
    "EventLoopThread",
    "EventStoreContract",
    "SnapshotStoreContract",
    "SyncFromAsyncEventStore",
    "SyncFromAsyncSnapshotStore",
    "assert_events_are_readable",
    "given",
    "given_log",
]


def __getattr__(name: str) -> Any:
    """The contract, when it is asked for: what tests applications works without pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eventstore.testing import contract  # noqa: PLC0415 it imports pytest

    return getattr(contract, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
