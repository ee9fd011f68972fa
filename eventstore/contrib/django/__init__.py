"""Event sourcing in Django: ``INSTALLED_APPS = [..., "eventstore.contrib.django"]``. docs/django.md says how."""

from __future__ import annotations

from eventstore.contrib.django.stores import (
    DjangoEventStore,
    DjangoSnapshotStore,
    DjangoTransaction,
    event_store,
    repository,
    snapshot_store,
)
from eventstore.contrib.django.workers import DjangoProjection, DjangoSubscription, projection, subscription

__all__ = [
    "DjangoEventStore",
    "DjangoProjection",
    "DjangoSnapshotStore",
    "DjangoSubscription",
    "DjangoTransaction",
    "event_store",
    "projection",
    "repository",
    "snapshot_store",
    "subscription",
]
