"""Tenants in async: the twin of tenants.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import TupleRow, tuple_row

from eventstore.core.asynchronous import run
from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.core.operations import check_number
from eventstore.core.requests import Operation
from eventstore.errors import EventStoreError
from eventstore.postgres.async_connections import Pool
from eventstore.postgres.async_stores import AsyncPostgresEventStore, AsyncPostgresSnapshotStore
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import check_partitions, migration
from eventstore.postgres.tenants import TenantMigration, TenantSchemas

R = TypeVar("R")


class AsyncTenants:
    """Tenants in async, over a psycopg_pool.AsyncConnectionPool."""

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
        self._make: Callable[[str], AsyncPostgresEventStore] = lambda schema: AsyncPostgresEventStore(
            pool, schema, strict=strict, notify=notify, timeout=timeout
        )
        self._timeout = timeout
        self._stores: dict[str, AsyncPostgresEventStore] = {}

    def schema(self, name: str) -> str:
        """As Tenants.schema."""
        return self._schemas.of(name)

    async def create(self, name: str, *, partitions: int | None = None) -> AsyncPostgresEventStore:
        """As Tenants.create."""
        check_partitions(partitions)
        await self._carry_out(self._schemas.create(name, partitions), self.schema(name))
        return self.store(name)

    async def names(self) -> list[str]:
        """As Tenants.names."""
        return await self._carry_out(self._schemas.names(), self._schemas.prefix)

    async def migrate(self, names: Iterable[str] | None = None, *, at_once: int = 4) -> list[TenantMigration]:
        """As Tenants.migrate."""
        check_number("at_once", at_once, least=1)
        wanted = await self.names() if names is None else [*names]
        slots = asyncio.Semaphore(at_once)

        async def migrated(name: str) -> TenantMigration:
            try:
                schema = self.schema(name)
                async with slots:
                    return TenantMigration(name, tuple(await self._carry_out(migration(schema), schema)), None)
            except EventStoreError as error:
                return TenantMigration(name, (), error)

        return await asyncio.gather(*map(migrated, wanted))

    async def _carry_out(self, operation: Operation[R], schema: str) -> R:
        try:
            async with self._pool.connection() as connection, connection.transaction():
                cursor: AsyncCursor[TupleRow] = AsyncCursor(connection, row_factory=tuple_row)

                async def rows_of(request: Any) -> list[TupleRow]:
                    await cursor.execute(request.text.encode(), request.parameters or None)
                    return await cursor.fetchall() if cursor.description else []

                return await run(operation, rows_of)
        except psycopg.Error as error:  # The pool has none, or the commit failed.
            raise translated(error, broken=False, schema=schema) from error

    def store(self, name: str) -> AsyncPostgresEventStore:
        """As Tenants.store."""
        if name not in self._stores:
            self._stores[name] = self._make(self.schema(name))
        return self._stores[name]

    def snapshot_store(self, name: str) -> AsyncPostgresSnapshotStore:
        """As Tenants.snapshot_store."""
        return AsyncPostgresSnapshotStore(self._pool, self.schema(name), timeout=self._timeout)

    async def drop(self, name: str, *, confirm: str) -> None:
        """As Tenants.drop."""
        await self._carry_out(self._schemas.drop(name, confirm), self.schema(name))
        self._stores.pop(name, None)
