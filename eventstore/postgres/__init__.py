"""The stores on PostgreSQL, and what prepares a database for them."""

from __future__ import annotations

from eventstore.postgres.migrations import migrate, planned_sql
from eventstore.postgres.promotion import Promotion, promote
from eventstore.postgres.roles import Roles, apply_roles, roles_sql
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore

__all__ = [
    "PostgresEventStore",
    "PostgresSnapshotStore",
    "Promotion",
    "Roles",
    "apply_roles",
    "migrate",
    "planned_sql",
    "promote",
    "roles_sql",
]
