"""Tenants in async: what Tenants promises, on an event loop."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from test_async import TestMirror as Mirror
from test_tenants import HOSTILE
from waiting import eventually

import eventstore.postgres
from eventstore import (
    AsyncPostgresEventStore,
    Event,
    InvalidArgument,
    InvalidOperation,
    SchemaError,
    Snapshot,
    StoreUnavailable,
)
from eventstore.postgres import AsyncTenants, TenantMigration, Tenants

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg_pool import ConnectionPool


def event() -> list[Event]:
    return [Event(event_type="T")]


def run(dsn: str, prefix: str, program: Callable[[AsyncTenants], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(dsn, min_size=1, max_size=8, kwargs={"autocommit": True}) as pool:
            await program(AsyncTenants(pool, prefix))

    asyncio.run(main())


def test_both_have_the_same_methods_with_the_same_signatures() -> None:
    described = Mirror().described
    assert described(AsyncTenants) == described(Tenants)


def test_the_package_knows_no_other_lazy_name() -> None:
    assert eventstore.postgres.AsyncTenants is AsyncTenants
    with pytest.raises(AttributeError, match="AsyncNothing"):
        eventstore.postgres.AsyncNothing  # noqa: B018


def test_a_tenant_is_created_used_listed_and_dropped(dsn: str, prefix: str) -> None:
    async def program(tenants: AsyncTenants) -> None:
        one = await tenants.create("one", partitions=3)
        await tenants.create("two")
        assert isinstance(one, AsyncPostgresEventStore)
        assert tenants.store("one") is one
        await one.append("s", event(), 0)
        assert await tenants.store("two").read("s") == []
        assert await tenants.names() == ["one", "two"]
        await tenants.snapshot_store("one").save(Snapshot("Order", "1", "s", 1, event()[0].event_id, b"", b""))
        assert await tenants.snapshot_store("two").load("Order", "1", "s") is None
        with pytest.raises(InvalidOperation, match="tenant 'one' exists already"):
            await tenants.create("one")
        for confirm in ("two", "", "ONE"):
            with pytest.raises(InvalidArgument, match="confirm must be 'one'"):
                await tenants.drop("one", confirm=confirm)
        await tenants.drop("one", confirm="one")
        assert await tenants.names() == ["two"]
        assert tenants.store("one") is not one
        with pytest.raises(InvalidArgument, match="there is no tenant 'one'"):
            await tenants.drop("one", confirm="one")
        with pytest.raises(SchemaError):
            await tenants.store("one").read("s")

    run(dsn, prefix, program)


def test_all_tenants_are_migrated_and_a_failure_stops_none(dsn: str, prefix: str, pool: ConnectionPool) -> None:
    async def program(tenants: AsyncTenants) -> None:
        for name in ("one", "two", "three"):
            await tenants.create(name)
        with pool.connection() as connection:
            connection.execute(f"UPDATE {prefix}one.migrations SET checksum = 'other' WHERE number = 1")
            connection.execute(f"DELETE FROM {prefix}two.migrations WHERE name = 'sessions'")
            connection.execute(f"DROP FUNCTION {prefix}two.blocking_sessions")
        for applied in (("0008_sessions",), ()):
            one, *others = sorted(await tenants.migrate(), key=lambda each: each.name)
            assert isinstance(one.error, SchemaError)
            assert others == [TenantMigration("three", (), None), TenantMigration("two", applied, None)]
        for at_once in (0, -1, True, "4"):
            with pytest.raises(InvalidArgument, match="at_once"):
                await tenants.migrate(at_once=at_once)  # type: ignore[arg-type]

    run(dsn, prefix, program)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_before_anything_happens(dsn: str, prefix: str, name: Any) -> None:
    async def program(tenants: AsyncTenants) -> None:
        uses = (tenants.schema, tenants.create, tenants.store, tenants.snapshot_store)
        for use in (*uses, lambda name: tenants.drop(name, confirm=name)):
            with pytest.raises(InvalidArgument):
                found: Any = use(name)
                assert inspect.isawaitable(found)
                await found
        assert await tenants.names() == []
        (outcome,) = await tenants.migrate([name])
        assert isinstance(outcome.error, InvalidArgument)

    run(dsn, prefix, program)


def test_of_several_that_create_or_drop_a_tenant_at_once_one_succeeds(dsn: str, prefix: str) -> None:
    async def program(tenants: AsyncTenants) -> None:
        created = await asyncio.gather(*(tenants.create("one") for _ in range(4)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in created) == ["AsyncPostgresEventStore", *["InvalidOperation"] * 3]
        drops = (tenants.drop("one", confirm="one") for _ in range(4))
        dropped = await asyncio.gather(*drops, return_exceptions=True)
        assert sorted(type(each).__name__ for each in dropped) == [*["InvalidArgument"] * 3, "NoneType"]
        assert await tenants.names() == []

    run(dsn, prefix, program)


def test_a_cancelled_creation_leaves_nothing_behind(dsn: str, prefix: str) -> None:
    async def program(tenants: AsyncTenants) -> None:
        with psycopg.connect(dsn) as other:  # Somebody migrates that schema just now.
            other.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('eventstore.migrate ' || %s, 0))", (f"{prefix}one",)
            )
            task = asyncio.create_task(tenants.create("one"))

            def waits() -> bool:
                found = other.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                return found.rowcount > 0

            await asyncio.to_thread(eventually, waits)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await tenants.names() == []
        await tenants.create("one")

    run(dsn, prefix, program)


def test_a_pool_without_a_server_is_the_librarys_error(prefix: str) -> None:
    async def main() -> None:
        pool = AsyncConnectionPool("host=127.0.0.1 port=1", min_size=0, max_size=1, timeout=0.2, open=False)
        await pool.open()
        try:
            with pytest.raises(StoreUnavailable):
                await AsyncTenants(pool, prefix).names()
        finally:
            await pool.close()

    asyncio.run(main())
