"""Tenants: many stores on one pool, each in a schema of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL, Identifier

from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.errors import EventStoreError, InvalidArgument, InvalidOperation
from eventstore.postgres.connections import Pool
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import migrate
from eventstore.postgres.statements import check_schema
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore

_NAME = re.compile(r"[a-z0-9_]+")
_SCHEMAS = """
    SELECT nspname FROM pg_catalog.pg_namespace JOIN pg_catalog.pg_class ON relnamespace = pg_namespace.oid
    WHERE relname = 'migrations' AND pg_catalog.starts_with(nspname::text, %s::text) ORDER BY nspname
    """


@dataclass(frozen=True, slots=True)
class TenantMigration:
    """What became of the migration of one tenant."""

    name: str
    applied: tuple[str, ...]
    """The names of the files that were applied; none if the schema was up to date."""
    error: EventStoreError | None
    """Why it failed. None: the schema is up to date."""


class Tenants:
    """Stores of tenants, each in the schema that the prefix and the tenant's name make. Safe for threads.

    >>> from psycopg_pool import ConnectionPool
    >>> with ConnectionPool(dsn) as pool:
    ...     tenants = Tenants(pool, prefix=f"{schema}_")
    ...     store = tenants.create("acme")
    ...     _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
    ...     tenants.names(), len(tenants.store("acme").read("Order-7"))
    ...     tenants.drop("acme", confirm="acme")
    (['acme'], 1)

    All stores share the pool. No statement of one reaches another schema. If tenants must be kept apart by privileges
    as well, give each a pool of its own, whose login is a member of the roles of that schema only.

    Args:
        pool: a ``psycopg_pool.ConnectionPool``. You open and close it. To create, migrate and drop tenants, its login
            must be allowed to create schemas.
        prefix: the beginning of the schemas' names.
        strict: as for PostgresEventStore.
        notify: as for PostgresEventStore.
        timeout: as for PostgresEventStore.

    Raises:
        InvalidArgument: an argument is invalid.
    """

    def __init__(
        self,
        pool: Pool,
        prefix: str = "tenant_",
        *,
        strict: bool = False,
        notify: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        check_schema(prefix)
        self._pool = pool
        self._prefix = prefix
        self._make: Callable[[str], PostgresEventStore] = lambda schema: PostgresEventStore(
            pool, schema, strict=strict, notify=notify, timeout=timeout
        )
        self._timeout = timeout
        self._stores: dict[str, PostgresEventStore] = {}
        self._lock = threading.Lock()

    def schema(self, name: str) -> str:
        """Return the schema of a tenant, whether it exists or not.

        Raises:
            InvalidArgument: the name is not made of a-z, 0-9 and _, or is too long for a schema.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"the name of a tenant must consist of a-z, 0-9 and _, not {name!r}")
        return check_schema(f"{self._prefix}{name}")

    def create(self, name: str) -> PostgresEventStore:
        """Create the schema of a new tenant and return its store.

        Raises:
            InvalidOperation: the tenant exists.
            Otherwise what ``migrate`` raises.
        """
        if not self._migrate(self.schema(name)):
            raise InvalidOperation(f"tenant {name!r} exists already: store({name!r}) returns its store")
        return self.store(name)

    def names(self) -> list[str]:
        """Return the names of all tenants, sorted. Raises StoreUnavailable, AccessDenied."""
        try:
            with self._pool.connection() as connection:
                rows = connection.execute(_SCHEMAS.encode(), (self._prefix,)).fetchall()
        except psycopg.Error as error:
            raise translated(error, broken=False, schema=self._prefix) from error
        found = [str(row[0]).removeprefix(self._prefix) for row in rows]
        return [name for name in found if _NAME.fullmatch(name)]

    def migrate(self, names: Iterable[str] | None = None, *, threads: int = 4) -> list[TenantMigration]:
        """Bring the schemas of tenants up to date, several at once, and return what became of each.

        One that fails does not stop the others. You can repeat it: only what is missing is applied.

        Args:
            names: the tenants; None: all.
            threads: how many to migrate at once. The pool needs as many connections.
        """
        wanted = self.names() if names is None else [*names]
        with ThreadPoolExecutor(threads) as executor:
            return [*executor.map(self._migrated, wanted)]

    def _migrated(self, name: str) -> TenantMigration:
        try:
            return TenantMigration(name, tuple(self._migrate(self.schema(name))), None)
        except EventStoreError as error:
            return TenantMigration(name, (), error)

    def _migrate(self, schema: str) -> list[str]:
        try:
            with self._pool.connection() as connection:
                return migrate(connection, schema)
        except psycopg.Error as error:  # The pool has none, or the commit failed.
            raise translated(error, broken=False, schema=schema) from error

    def store(self, name: str) -> PostgresEventStore:
        """Return the store of a tenant: the same object each time. It does not look if the tenant exists.

        Raises:
            InvalidArgument: the name is invalid.
        """
        with self._lock:
            if name not in self._stores:
                self._stores[name] = self._make(self.schema(name))
            return self._stores[name]

    def snapshot_store(self, name: str) -> PostgresSnapshotStore:
        """Return a snapshot store beside the events of a tenant. Raises InvalidArgument."""
        return PostgresSnapshotStore(self._pool, self.schema(name), timeout=self._timeout)

    def drop(self, name: str, *, confirm: str) -> None:
        """Drop the schema of a tenant with everything in it, for ever.

        Args:
            name: the tenant.
            confirm: the name again. It guards against a name that came from the wrong place.

        Raises:
            InvalidArgument: ``confirm`` is not the name, or the tenant does not exist.
        """
        schema = self.schema(name)
        if confirm != name:
            raise InvalidArgument(f"confirm must be {name!r}, the name of the tenant that is dropped, not {confirm!r}")
        if name not in self.names():
            raise InvalidArgument(f"there is no tenant {name!r}")
        try:
            with self._pool.connection() as connection:
                connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))
        except psycopg.Error as error:
            raise translated(error, broken=False, schema=schema) from error
        with self._lock:
            self._stores.pop(name, None)
