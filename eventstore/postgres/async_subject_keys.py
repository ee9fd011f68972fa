"""The keys of subjects on PostgreSQL in async: the twin of subject_keys.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

from psycopg import AsyncConnection

from eventstore.core import wrapping
from eventstore.core.asynchronous import AsyncExecutor
from eventstore.core.deadlines import DEFAULT_TIMEOUT
from eventstore.core.key_requests import DestroyKey, WhereKeysAre
from eventstore.core.operations import repeated
from eventstore.core.subject_keys import KEY_TTL, AsyncSubjectKeys, KeyRecord, checked_ttl
from eventstore.core.wrapping import KeyTable, Wrapping
from eventstore.postgres.async_connections import Connections, OwnPool, Pool
from eventstore.postgres.async_stores import PoolClient, execute
from eventstore.postgres.subject_keys import DEFAULT_KEYS_SCHEMA


class AsyncPostgresSubjectKeys(PoolClient, AsyncExecutor, AsyncSubjectKeys):
    """PostgresSubjectKeys in async, over a psycopg_pool.AsyncConnectionPool."""

    def __init__(
        self,
        pool: Pool | Connections,
        *,
        wrap: Wrapping,
        formerly: Iterable[Wrapping] = (),
        schema: str = DEFAULT_KEYS_SCHEMA,
        key_ttl: float = KEY_TTL,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(pool, schema, timeout=timeout)
        self.statements.migrate_with = f"eventstore subjects migrate --keys-schema {schema}"
        self.key_ttl = checked_ttl(key_ttl)
        self._table = KeyTable(wrap, formerly)

    @classmethod
    def connect(
        cls,
        dsn: str,
        *,
        wrap: Wrapping,
        formerly: Iterable[Wrapping] = (),
        schema: str = DEFAULT_KEYS_SCHEMA,
        key_ttl: float = KEY_TTL,
        max_size: int = 4,
        prepare: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Self:
        """A key store with at most ``max_size`` connections of its own, for each event loop that uses it."""
        pool = OwnPool(dsn, max_size, prepare=prepare)
        return cls(pool, wrap=wrap, formerly=formerly, schema=schema, key_ttl=key_ttl, timeout=timeout)

    async def get_or_create(self, subject: str) -> bytes:
        return await self.carry_out(self._table.get_or_create(subject))

    async def get(self, subject: str) -> bytes | None:
        return await self.carry_out(self._table.get(subject))

    async def get_many(self, subjects: Sequence[str]) -> Mapping[str, bytes | None]:
        return await self.carry_out(self._table.get_many(subjects))

    async def destroy(self, subject: str, reason: str) -> None:
        await self.carry_out(wrapping.destroy(subject, reason))

    async def rewrap(self) -> int:
        return await self.carry_out(self._table.rewrap())

    async def records(self, after: str = "") -> list[KeyRecord]:
        """As PostgresSubjectKeys.records."""
        return await self.carry_out(wrapping.records(after))

    async def joins(self, transaction: object) -> bool:
        """As PostgresSubjectKeys.joins."""
        connection: object = getattr(transaction, "connection", None)
        if not isinstance(connection, AsyncConnection):
            return False
        request = WhereKeysAre(self.statements.schema)
        there = await execute(cast("AsyncConnection[Any]", connection), request, self.statements)
        return there is not None and there == await self.carry_out(repeated(request))

    async def destroy_in(self, transaction: Any, subject: str, reason: str) -> None:
        await execute(transaction.connection, DestroyKey(subject, reason), self.statements)
