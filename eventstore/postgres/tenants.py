"""Tenants: many stores on one pool, each in a schema of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.core.operations import check_number
from eventstore.core.requests import Operation, ask
from eventstore.errors import EventStoreError, InvalidArgument, InvalidOperation
from eventstore.postgres.connections import Pool
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import LOCK, Sql, carried_out, check_partitions, migration
from eventstore.postgres.statements import check_schema
from eventstore.postgres.stores import PostgresEventStore, PostgresSnapshotStore

R = TypeVar("R")
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


class TenantSchemas:
    """Which schemas tenants have, and what is done with them: operations whose requests are SQL."""

    def __init__(self, prefix: str) -> None:
        self.prefix = check_schema(prefix)

    def of(self, name: str) -> str:
        """The schema of a tenant. Raises InvalidArgument."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"the name of a tenant must consist of a-z, 0-9 and _, not {name!r}")
        return check_schema(f"{self.prefix}{name}")

    def create(self, name: str, partitions: int | None) -> Operation[None]:
        """Migrate a schema that does not exist."""
        if not (yield from migration(self.of(name), partitions=partitions)):
            raise InvalidOperation(f"tenant {name!r} exists already: store({name!r}) returns its store")

    def names(self) -> Operation[list[str]]:
        """The names of all tenants."""
        rows = yield from ask(Sql(_SCHEMAS, (self.prefix,)))
        found = [str(row[0]).removeprefix(self.prefix) for row in rows]
        return [name for name in found if _NAME.fullmatch(name)]

    def drop(self, name: str, confirm: str) -> Operation[None]:
        """Drop the schema of a tenant, after it was confirmed."""
        schema = self.of(name)
        if confirm != name:
            raise InvalidArgument(f"confirm must be {name!r}, the name of the tenant that is dropped, not {confirm!r}")
        if not (yield from drop_schema(schema)):
            raise InvalidArgument(f"there is no tenant {name!r}")


def is_store(schema: str) -> Operation[bool]:
    """Whether there is a store in a schema."""
    return (schema,) in (yield from ask(Sql(_SCHEMAS, (schema,))))


def drop_schema(schema: str) -> Operation[bool]:
    """Drop the schema of a store with everything in it. Returns whether there was one."""
    yield from ask(Sql(LOCK, (schema,)))  # Nobody creates or drops it meanwhile.
    if not (yield from is_store(schema)):
        return False
    yield from ask(Sql(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)).as_string(None)))
    return True


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
        self._schemas = TenantSchemas(prefix)
        self._pool = pool
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
        return self._schemas.of(name)

    def create(self, name: str, *, partitions: int | None = None) -> PostgresEventStore:
        """Create the schema of a new tenant and return its store.

        Args:
            name: the tenant.
            partitions: as for ``migrate``.

        Raises:
            InvalidOperation: the tenant exists.
            Otherwise what ``migrate`` raises.
        """
        check_partitions(partitions)
        self._carry_out(self._schemas.create(name, partitions), self.schema(name))
        return self.store(name)

    def names(self) -> list[str]:
        """Return the names of all tenants, sorted. Raises StoreUnavailable, AccessDenied."""
        return self._carry_out(self._schemas.names(), self._schemas.prefix)

    def migrate(self, names: Iterable[str] | None = None, *, at_once: int = 4) -> list[TenantMigration]:
        """Bring the schemas of tenants up to date, several at once, and return what became of each.

        One that fails does not stop the others. You can repeat it: only what is missing is applied.

        Args:
            names: the tenants; None: all.
            at_once: how many to migrate at the same time. The pool needs as many connections.

        Raises:
            InvalidArgument: ``at_once`` is not a whole number of at least 1.
            Otherwise what ``names`` raises.
        """
        check_number("at_once", at_once, least=1)
        wanted = self.names() if names is None else [*names]
        with ThreadPoolExecutor(at_once) as executor:
            return [*executor.map(self._migrated, wanted)]

    def _migrated(self, name: str) -> TenantMigration:
        try:
            schema = self.schema(name)
            return TenantMigration(name, tuple(self._carry_out(migration(schema), schema)), None)
        except EventStoreError as error:
            return TenantMigration(name, (), error)

    def _carry_out(self, operation: Operation[R], schema: str) -> R:
        """In a transaction, whose commit is part of it."""
        try:
            with self._pool.connection() as connection, connection.transaction():
                return carried_out(Cursor(connection, row_factory=tuple_row), operation)
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
        self._carry_out(self._schemas.drop(name, confirm), self.schema(name))
        with self._lock:
            self._stores.pop(name, None)
