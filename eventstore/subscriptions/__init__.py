"""Following the log: subscriptions for effects elsewhere, projections for read models in the same database."""

from __future__ import annotations

from eventstore.core.sessions import BlockingSession
from eventstore.subscriptions.asynchronous import (
    AsyncProjection,
    AsyncSubscription,
    async_blocking_sessions,
    async_statuses,
)
from eventstore.subscriptions.blocking import Projection, Subscription, blocking_sessions, statuses
from eventstore.subscriptions.inline import async_inline, inline
from eventstore.subscriptions.rebuilding import RebuildProgress

__all__ = [
    "AsyncProjection",
    "AsyncSubscription",
    "BlockingSession",
    "Projection",
    "RebuildProgress",
    "Subscription",
    "async_blocking_sessions",
    "async_inline",
    "async_statuses",
    "blocking_sessions",
    "inline",
    "statuses",
]
