"""The stores on PostgreSQL, and what prepares a database for them."""

from __future__ import annotations

from eventstore.postgres.migrations import migrate, planned_sql
from eventstore.postgres.promotion import Promotion, promote
from eventstore.postgres.roles import Roles, apply_roles, roles_sql
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore
from eventstore.postgres.tenants import TenantMigration, Tenants

__all__ = [
    "PostgresEventStore",
    "PostgresSnapshotStore",
    "Promotion",
    "Roles",
    "TenantMigration",
    "Tenants",
    "apply_roles",
    "migrate",
    "planned_sql",
    "promote",
    "roles_sql",
]
