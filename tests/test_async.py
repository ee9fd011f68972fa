"""The async mirror: the same signatures; what cancelling leaves; what importing costs."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from waiting import PATIENCE

import eventstore
from eventstore import (
    Aggregate,
    AggregateNotFound,
    AppendOutcomeUnknown,
    AsyncInMemoryEventStore,
    AsyncInMemorySnapshotStore,
    AsyncPostgresEventStore,
    AsyncPostgresSnapshotStore,
    AsyncRepository,
    ConcurrencyError,
    Event,
    ExpectedVersion,
    InvalidOperation,
    PostgresEventStore,
    StoreUnavailable,
    handles,
)
from eventstore.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from psycopg_pool import ConnectionPool

    from eventstore import AsyncEventStore

PAIRS = [(name.removeprefix("Async"), name) for name in eventstore.__all__ if name.startswith("Async")]


class AsyncCounted(Event):
    step: int


class AsyncCounter(Aggregate["AsyncCounter"]):
    total: int = 0

    def count(self, step: int) -> None:
        self._record(AsyncCounted(step=step))

    @handles(AsyncCounted)
    def _counted(self, event: AsyncCounted) -> None:
        self.total += event.step


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="T", data={"number": number}) for number in range(count)]


class TestMirror:
    def test_every_public_store_and_repository_has_its_twin(self) -> None:
        blocking = {"EventStore", "SnapshotStore", "InMemoryEventStore", "InMemorySnapshotStore", "Repository"}
        blocking |= {"PostgresEventStore", "PostgresSnapshotStore", "PostgresTransaction"}
        blocking |= {"Subscription", "Projection"}
        assert {pair[0] for pair in PAIRS} == blocking

    @pytest.mark.parametrize(("blocking", "mirror"), PAIRS)
    def test_both_have_the_same_methods_with_the_same_signatures(self, blocking: str, mirror: str) -> None:
        assert self.described(getattr(eventstore, mirror)) == self.described(getattr(eventstore, blocking))

    def described(self, cls: type) -> dict[str, list[str]]:
        """The public methods of a class with their parameters, annotations included, async or not."""
        twins = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
        described: dict[str, list[str]] = {}
        for name, member in inspect.getmembers(cls):
            if name.startswith("_") and name not in {"__init__", "__enter__", "__exit__", *twins}:
                continue
            if not callable(member):
                described[name] = ["attribute"]
                continue
            signature = inspect.signature(member)
            words = [f"{p.kind.description} {p}" for p in signature.parameters.values()]
            words.append(f"-> {signature.return_annotation}")
            described[twins.get(name, name)] = [self.blocking_words(word) for word in words]
        return described

    def blocking_words(self, text: str) -> str:
        text = re.sub(r"AsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]", text)
        text = text.replace("Awaitable[None] | None", "None")  # What a change or a handler may return.
        return text.replace("AbstractAsyncContextManager", "AbstractContextManager").replace("Async", "")

    def test_a_method_on_one_side_only_would_be_found(self) -> None:
        class More(eventstore.AsyncRepository):
            async def more(self) -> None: ...

        class Other(eventstore.AsyncRepository):
            async def exists(self, id: int) -> bool: ...  # noqa: A002

        assert self.described(More) != self.described(eventstore.Repository)
        assert self.described(Other) != self.described(eventstore.Repository)

    def test_importing_the_package_imports_no_asyncio_and_no_driver(self) -> None:
        program = (
            "import sys; before = set(sys.modules); import eventstore; eventstore.Repository;"
            "eventstore.InMemoryEventStore; print(*{'asyncio', 'psycopg', 'psycopg_pool'} & set(sys.modules) - before)"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == ""

    @pytest.mark.parametrize("name", eventstore.__all__)
    def test_every_public_name_is_there(self, name: str) -> None:
        assert getattr(eventstore, name).__name__ == name

    def test_an_unknown_name_of_the_package_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="AsyncNothing"):
            eventstore.AsyncNothing  # noqa: B018


class TestRepository:
    @pytest.fixture(params=["memory", "postgres"])
    def use(self, request: pytest.FixtureRequest) -> Callable:
        """Call something with a repository on each kind of store, within an event loop."""

        def use(work: Callable) -> None:
            async def run() -> None:
                if request.param == "memory":
                    await work(AsyncInMemoryEventStore(), AsyncInMemorySnapshotStore())
                    return
                dsn, schema = request.getfixturevalue("dsn"), request.getfixturevalue("schema")
                async with (
                    AsyncPostgresEventStore.connect(dsn, schema) as store,
                    AsyncPostgresSnapshotStore.connect(dsn, schema) as snapshots,
                ):
                    await work(store, snapshots)

            asyncio.run(run())

        return use

    def test_an_async_repository_loads_what_it_saved_with_snapshots(self, use: Callable) -> None:
        async def work(store, snapshots) -> None:
            repository = AsyncRepository(store, AsyncCounter, snapshots, snapshot_frequency=10)
            counter = AsyncCounter(uuid4())
            with pytest.raises(AggregateNotFound):
                await repository.load(counter.id)
            assert not await repository.exists(counter.id)
            for step in range(25):
                counter.count(step)
            await repository.save(counter)
            assert counter.pending == ()
            assert await repository.exists(counter.id)
            assert (await snapshots.load("AsyncCounter", str(counter.id), AsyncCounter.class_schema())).version == 25
            loaded = await repository.load(counter.id)
            assert (loaded.total, loaded.version) == (sum(range(25)), 25)

        use(work)

    def test_updates_that_race_are_all_applied(self, use: Callable) -> None:
        async def work(store, snapshots) -> None:
            repository = AsyncRepository(store, AsyncCounter, snapshots)
            counter = AsyncCounter("one")
            counter.count(0)
            await repository.save(counter)

            async def change(current: AsyncCounter) -> None:
                await asyncio.sleep(0)
                current.count(1)

            await asyncio.gather(*(repository.update("one", change, attempts=50) for _ in range(10)))
            await repository.update("one", lambda current: current.count(1))
            assert (await repository.load("one")).total == 11

        use(work)

    def test_a_conflict_leaves_the_aggregate_as_it_was(self, use: Callable) -> None:
        async def work(store, _) -> None:
            repository = AsyncRepository(store, AsyncCounter)
            first = AsyncCounter("one")
            first.count(1)
            await repository.save(first)
            stale = await repository.load("one")
            await repository.update("one", lambda current: current.count(1))
            stale.count(5)
            with pytest.raises(ConcurrencyError):
                await repository.save(stale)
            assert (stale.version, len(stale.pending)) == (1, 1)

        use(work)


class TestMemory:
    def test_a_task_waits_for_a_stream_without_blocking_the_loop(self) -> None:
        async def work() -> None:
            store = AsyncInMemoryEventStore()
            async with store.transaction() as transaction:
                await transaction.append("s", events(1), 0)
                waiting = asyncio.create_task(store.append("s", events(1), ExpectedVersion.ANY))
                await asyncio.sleep(0)
                assert await store.append("t", events(1), 0) == 1
                assert not waiting.done()
            assert await waiting == 2

        asyncio.run(work())

    def test_a_task_cancelled_while_it_waits_leaves_nothing(self) -> None:
        async def work() -> None:
            store = AsyncInMemoryEventStore()
            batch = events(2)
            async with store.transaction() as transaction:
                await transaction.append("s", events(1), 0)
                waiting = asyncio.create_task(store.append("s", batch, ExpectedVersion.ANY))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            assert len(await store.read("s")) == 1
            assert await store.append("s", batch, ExpectedVersion.ANY) == 3

        asyncio.run(work())


class TestCancellation:
    def test_an_append_cancelled_at_any_moment_is_whole_or_absent(self, dsn: str, schema: str) -> None:
        async def cancelled_after(turns: int, store: AsyncEventStore, stream_id: str, batch: list[Event]) -> bool:
            task = asyncio.create_task(store.append(stream_id, batch, 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            return isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)

        async def work() -> Counter[str]:
            outcomes: Counter[str] = Counter()
            async with AsyncConnectionPool(dsn, min_size=2, max_size=2, kwargs={"autocommit": True}) as pool:
                store = AsyncPostgresEventStore(pool, schema)
                while outcomes["in time"] < 5:  # Later and later, turn by turn of the event loop.
                    turns = outcomes.total()
                    batch, stream_id = events(20), f"s{turns}"
                    cancelled = await cancelled_after(turns, store, stream_id, batch)
                    found = await store.read(stream_id)
                    assert found in ([], batch)
                    outcomes[("stored" if found else "absent") if cancelled else "in time"] += 1
                    assert await store.append(stream_id, batch, 0) == 20
                    assert await store.read(stream_id) == batch
                assert {c.info.transaction_status for c in pool._pool} == {psycopg.pq.TransactionStatus.IDLE}
            return outcomes

        outcomes = asyncio.run(work())
        assert outcomes["absent"] + outcomes["stored"] >= 3

    def test_a_transaction_cancelled_in_its_block_is_rolled_back(self, dsn: str, schema: str) -> None:
        async def work() -> None:
            async with AsyncPostgresEventStore.connect(dsn, schema, max_size=1) as store:
                inside = asyncio.Event()

                async def block() -> None:
                    async with store.transaction() as transaction:
                        await transaction.append("s", events(2), 0)
                        inside.set()
                        await asyncio.sleep(60)

                task = asyncio.create_task(block())
                await inside.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await store.append("s", events(1), 0) == 1

        asyncio.run(work())


class TestPostgres:
    @pytest.mark.parametrize("delivered", [True, False])
    def test_a_lost_answer_is_resolved(self, dsn: str, schema: str, delivered: bool) -> None:
        async def work(proxy: Proxy) -> None:
            async with AsyncPostgresEventStore.connect(proxy.dsn, schema) as store:
                batch = events(3)
                proxy.lose("stream-of-the-test", delivered=delivered)
                assert await store.append("stream-of-the-test", batch, 0) == 3
                assert await store.read("stream-of-the-test") == batch
                async with store.transaction() as transaction:
                    await transaction.append("both", batch, 0)
                    proxy.lose("COMMIT", delivered=True)
                assert await store.read("both") == batch
                assert proxy.lost == 2

        with Proxy(dsn) as proxy:
            asyncio.run(work(proxy))

    def test_what_can_not_be_resolved_says_so(self, dsn: str, schema: str) -> None:
        async def work(proxy: Proxy) -> None:
            async with AsyncPostgresEventStore.connect(proxy.dsn, schema, timeout=0.3) as store:
                assert await store.read("stream-of-the-test") == []
                proxy.lose("stream-of-the-test", delivered=True, times=1000)
                with pytest.raises(AppendOutcomeUnknown):
                    await store.append("stream-of-the-test", events(), 0)

        with Proxy(dsn) as proxy:
            asyncio.run(work(proxy))

    def test_a_callers_transaction_is_the_callers(self, dsn: str, schema: str, pool: ConnectionPool) -> None:
        async def work() -> None:
            async with (
                await psycopg.AsyncConnection.connect(dsn) as connection,
                AsyncPostgresEventStore.connect(dsn, schema) as store,
            ):
                bound = store.bind(connection)
                await bound.append("s", events(1), 0)
                with pytest.raises(ConcurrencyError):
                    await bound.append("s", events(1), 0)
                await connection.rollback()
                assert await store.read("s") == []
                await bound.append("s", events(1), 0)
                await connection.commit()
                assert len(await store.read("s")) == 1

        asyncio.run(work())
        assert len(PostgresEventStore(pool, schema).read("s")) == 1

    def test_names_are_in_utf_8_whatever_the_connection_is_in(self, dsn: str, schema: str) -> None:
        other = make_conninfo(dsn, client_encoding="latin1")
        batch = [Event(event_type="Äußerung", data={"text": "ö"})]

        async def work() -> None:
            async with (
                AsyncPostgresEventStore.connect(other, schema) as own,
                await psycopg.AsyncConnection.connect(other) as connection,
            ):
                assert await own.append("Ärger-1", batch, 0) == 1
                assert await own.read("Ärger-1") == batch
                with pytest.raises(InvalidOperation, match="client_encoding"):
                    await own.bind(connection).append("Ärger-1", batch, 1)

        asyncio.run(work())

    def test_a_store_serves_one_event_loop_after_another(self, dsn: str, schema: str) -> None:
        async def append(store: AsyncEventStore, expected: int) -> int:
            return await store.append("s", events(1), expected)

        store = AsyncPostgresEventStore.connect(dsn, schema)

        async def first() -> None:
            assert await append(store, 0) == 1
            await asyncio.gather(*(store.append(f"t{number}", events(), 0) for number in range(20)))

        with asyncio.Runner() as runner:
            runner.run(first())
            with asyncio.Runner() as other:
                assert other.run(append(store, 1)) == 2
                other.run(store.close())
                with pytest.raises(InvalidOperation, match="closed"):
                    other.run(append(store, 2))
            assert runner.run(append(store, 2)) == 3  # Each loop closes its own.
            runner.run(store.close())

    @pytest.mark.parametrize("works", [True, False], ids=["server up", "server gone"])
    def test_a_program_ends_that_leaves_a_store_open_in_a_loop(self, dsn: str, schema: str, works: bool) -> None:
        async def work(store: AsyncEventStore) -> None:
            assert await store.read("s") == []
            pool = await store.connections.pool()  # type: ignore[attr-defined]
            if not works:  # A worker of the pool's is at connecting when the loop ends.
                pool.conninfo = "host=127.0.0.1 port=1"
                await pool.drain()
                await asyncio.sleep(0)

        store = AsyncPostgresEventStore.connect(dsn, schema)
        threads = [threading.Thread(target=asyncio.run, args=[work(store)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_a_server_that_is_not_there_is_said_at_once(self) -> None:
        async def work() -> None:
            async with AsyncPostgresEventStore.connect("host=127.0.0.1 port=1 connect_timeout=2") as store:
                with pytest.raises(StoreUnavailable, match="no connection"):
                    await store.read("s")

        asyncio.run(work())

    def test_read_all_is_an_async_iterator(self, dsn: str, schema: str) -> None:
        async def collect(found: AsyncIterator[Event]) -> list[Event]:
            return [event async for event in found]

        async def work() -> None:
            async with AsyncPostgresEventStore.connect(dsn, schema) as store:
                batch = events(25)
                await store.append("Order-1", batch, 0)
                assert await collect(store.read_all(batch_size=10)) == batch
                assert await collect(store.read_all(categories="Invoice")) == []

        asyncio.run(work())
