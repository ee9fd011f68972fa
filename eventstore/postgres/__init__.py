"""The stores on PostgreSQL, and what prepares a database for them."""

from __future__ import annotations

from eventstore.postgres.migrations import migrate, planned_sql
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore

__all__ = ["PostgresEventStore", "PostgresSnapshotStore", "migrate", "planned_sql"]
