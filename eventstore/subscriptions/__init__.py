"""Following the log: subscriptions for effects elsewhere, projections for read models in the same database."""

from __future__ import annotations

from eventstore.subscriptions.asynchronous import AsyncProjection, AsyncSubscription, async_statuses
from eventstore.subscriptions.blocking import Projection, Subscription, statuses
from eventstore.subscriptions.inline import async_inline, inline
from eventstore.subscriptions.rebuilding import RebuildProgress

__all__ = [
    "AsyncProjection",
    "AsyncSubscription",
    "Projection",
    "RebuildProgress",
    "Subscription",
    "async_inline",
    "async_statuses",
    "inline",
    "statuses",
]
