"""Subscriptions and projections in async: the twin of blocking.py, where the methods are explained."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, Protocol, TypeVar, Unpack

from eventstore.context import handling
from eventstore.core.asynchronous import AsyncFollowableStore, run
from eventstore.core.checkpoints import ParkedEvent, SubscriptionState, SubscriptionStatus
from eventstore.core.deadlines import within
from eventstore.core.operations import repeated
from eventstore.core.requests import Request
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import ListParked, Park, Remove
from eventstore.errors import InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.store import AsyncEventStore
from eventstore.subscriptions import managing
from eventstore.subscriptions.async_watchers import watching
from eventstore.subscriptions.batches import check_takes_one, takes_batches
from eventstore.subscriptions.following import SIGN_OFF_SECONDS, Follower, Wait
from eventstore.subscriptions.handling import Elsewhere, Handle, HandleBatch, InTransaction
from eventstore.subscriptions.options import Options, Settings, check_tables, spelled_out
from eventstore.subscriptions.outages import Rest
from eventstore.subscriptions.rebuilding import Rebuild, RebuildProgress
from eventstore.subscriptions.retrying import drop_parked
from eventstore.subscriptions.watching import WaitForNews

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class AsyncTransactionalStore(Protocol[T_co]):
    """A store, by what its transactions give."""

    def transaction(self) -> AbstractAsyncContextManager[T_co]: ...


class _Following:
    """What subscriptions and projections have in common. One object is one worker; it runs in one task at a time."""

    _exactly_once: bool

    def __init__(
        self,
        store: object,
        name: str,
        handle: Callable[[Any, Any], object],
        options: Options,
        *,
        tables: Iterable[object] = (),
        read_from: object = None,
    ) -> None:
        self._store = followable(store)
        self._read_from = self._store if read_from is None else followable(read_from)
        self._handle = handle
        self._make_follower = partial(
            Follower,
            name,
            Settings(**options),
            exactly_once=self._exactly_once,
            strict=self._store.strict,
            subject_keys=lambda: self._store.subject_keys,
            tables=check_tables(tables),
            reads_elsewhere=read_from is not None,
            batched=takes_batches(handle),
        )
        self._follower = self._make_follower()
        self._reads_elsewhere = read_from is not None
        self._running: asyncio.AbstractEventLoop | None = None
        self._hints = asyncio.Event()

    @property
    def name(self) -> str:
        """As Subscription.name."""
        return self._follower.name

    @property
    def state(self) -> SubscriptionState:
        """As Subscription.state."""
        return self._follower.state

    @property
    def error(self) -> Exception | None:
        """As Subscription.error."""
        return self._follower.error

    async def run(self) -> None:
        """As Subscription.run. Cancelled, it leaves what a killed worker leaves: the batch at work is not stored."""
        await self._run_until(to_end=False)

    async def run_until_caught_up(self) -> None:
        """As Subscription.run_until_caught_up."""
        await self._run_until(to_end=True)

    def stop(self) -> None:
        """As Subscription.stop; returns at once."""
        self._follower.stopping = True
        self._hint()

    async def status(self) -> SubscriptionStatus:
        """As Subscription.status."""
        return await self._store.carry_out(managing.status(self.name))

    async def wait_until_processed(self, position: int | None = None, timeout: float = 10.0) -> None:  # noqa: ASYNC109 the blocking one's
        """As Subscription.wait_until_processed."""
        await run(managing.wait_until_processed(self.name, position, timeout), self._store.execute)

    async def parked(self) -> list[ParkedEvent]:
        """As Subscription.parked."""
        return await self._store.carry_out(repeated(ListParked(self.name)))

    async def retry_parked(self, position: int) -> None:
        """As Subscription.retry_parked."""
        await self._carry_out(InTransaction(self._follower.retry_parked(position)))

    async def drop_parked(self, position: int) -> None:
        """As Subscription.drop_parked."""
        await self._store.carry_out(drop_parked(self.name, position))

    async def remove(self) -> None:
        """As Subscription.remove."""
        await self._store.execute(Remove(self.name))

    async def _run_until(self, *, to_end: bool) -> None:
        if self._running:
            raise InvalidOperation(
                f"this worker of {self.name!r} runs already: create another object for another worker"
            )
        self._running = asyncio.get_running_loop()
        try:
            hint = self._hint if self._reads_elsewhere else watching(self._store).hint
            with self._store.wakeups.calling(hint), self._store.listening():
                try:
                    await run(self._follower.follow(to_end=to_end), self._carry_out)
                finally:
                    with suppress(StoreUnavailable), within(SIGN_OFF_SECONDS):
                        await self._store.carry_out(self._follower.sign_off())
        finally:
            self._running = None

    def _hint(self) -> None:
        loop = self._running
        if loop is not None and not self._hints.is_set():
            with suppress(RuntimeError):  # The loop has been closed.
                loop.call_soon_threadsafe(self._hints.set)

    async def _wait(self, seconds: float) -> None:
        if self._follower.stopping:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hints.wait(), seconds)
        self._hints.clear()

    async def _rest(self, seconds: float) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not self._follower.stopping and (left := end - asyncio.get_running_loop().time()) > 0:
            await self._wait(left)

    async def _carry_out(self, request: Request[Any]) -> Any:
        match request:
            case InTransaction(operation):
                async with self._store.transaction() as transaction:
                    return await run(operation, partial(self._carry_out_in, transaction))
            case Elsewhere(wanted):
                return await self._read_from.carry_out(repeated(wanted))
            case WaitForNews(waiter):
                return await watching(self._store).wait(
                    self._store, waiter, self._hints, lambda: self._follower.stopping
                )
            case Wait(seconds):
                return await self._wait(seconds)
            case Rest(seconds):
                return await self._rest(seconds)
            case _:
                return await self._store.execute(request)

    async def _carry_out_in(self, transaction: Any, request: Request[Any]) -> Any:
        observer = self._store.observer
        if isinstance(request, Handle):
            watched = nullcontext() if observer is None else observer.handling(self.name, [request.event])
            with handling(request.event), watched:
                result = self._handle(request.event, transaction)
                return await result if isawaitable(result) else result
        if isinstance(request, Park) and observer is not None:
            observer.parked(self.name)
        if isinstance(request, HandleBatch):
            with nullcontext() if observer is None else observer.handling(self.name, request.events):
                result = self._handle(request.events, transaction)
                return await result if isawaitable(result) else result
        if isinstance(request, Elsewhere):
            return await self._carry_out(request)
        return await transaction.execute(request)


class AsyncSubscription(_Following):
    """Subscription in async; ``handler`` may be async."""

    _exactly_once = False

    @spelled_out
    def __init__(
        self,
        store: AsyncEventStore,
        name: str,
        handler: Callable[[Event], Awaitable[None] | None],
        *,
        read_from: AsyncEventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_takes_one(handler)
        super().__init__(store, name, lambda event, _: handler(event), options, read_from=read_from)


class AsyncProjection(_Following, Generic[T]):
    """Projection in async; ``handler`` may be async."""

    _exactly_once = True

    @spelled_out
    def __init__(
        self,
        store: AsyncTransactionalStore[T],
        name: str,
        handler: Callable[[Event, T], Awaitable[None] | None],
        *,
        tables: Iterable[str] = (),
        read_from: AsyncEventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.handler = handler
        super().__init__(store, name, handler, options, tables=tables, read_from=read_from)

    def wants(self, event: Event) -> bool:
        """As Projection.wants."""
        return self._follower.wants(event)

    async def rebuild(
        self,
        from_position: int = 0,
        progress: Callable[[RebuildProgress], object] | None = None,
        *,
        archives: Iterable[str] | None = (),
    ) -> None:
        """As Projection.rebuild."""
        if self._running:
            raise InvalidOperation(f"this worker of {self.name!r} runs: create another object for the rebuild")
        self._running = asyncio.get_running_loop()
        self._follower, worker = self._make_follower(), self._follower
        rebuild = Rebuild(self._follower, from_position, progress, archives, asyncio.to_thread)
        observer = self._store.observer
        try:
            with nullcontext() if observer is None else observer.rebuilding(self.name):
                await run(rebuild.run(), self._carry_out)
        except BaseException:
            with suppress(StoreUnavailable):
                await run(rebuild.abandon(), self._store.execute)
            raise
        finally:
            self._follower = worker
            self._running = None


async def async_statuses(store: AsyncEventStore) -> list[SubscriptionStatus]:
    """As statuses."""
    return await followable(store).carry_out(managing.statuses())


async def async_blocking_sessions(store: AsyncEventStore) -> list[BlockingSession]:
    """As blocking_sessions."""
    return await run(managing.blocking_sessions(), followable(store).execute)


def followable(store: object) -> AsyncFollowableStore:
    """The store, if it keeps checkpoints; else raises InvalidArgument."""
    if not isinstance(store, AsyncFollowableStore):
        raise InvalidArgument(
            f"a {type(store).__name__} keeps no checkpoints for async followers: use an async store that does"
        )
    return store
