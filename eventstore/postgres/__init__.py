"""The stores on PostgreSQL, and what prepares a database for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstore.postgres.migrations import migrate, planned_sql
from eventstore.postgres.promotion import Promotion, promote
from eventstore.postgres.roles import Roles, apply_roles, roles_sql
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore
from eventstore.postgres.tenants import TenantMigration, Tenants

if TYPE_CHECKING:
    from eventstore.postgres.async_tenants import AsyncTenants

__all__ = [
    "AsyncTenants",
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


def __getattr__(name: str) -> Any:
    if name != "AsyncTenants":  # Only some need it, and the async stores with it.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from eventstore.postgres.async_tenants import AsyncTenants  # noqa: PLC0415 only here

    return AsyncTenants
