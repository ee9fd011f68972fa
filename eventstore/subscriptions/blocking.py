"""Subscriptions and projections for blocking programs: how what they decide is carried out on a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, Unpack

from eventstore.core.arguments import check_blocking
from eventstore.core.blocking import FollowableStore, run
from eventstore.core.checkpoints import ParkedEvent, SubscriptionState, SubscriptionStatus
from eventstore.core.deadlines import within
from eventstore.core.operations import repeated
from eventstore.core.requests import Request
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import ListParked, Remove
from eventstore.errors import InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.subscriptions import managing
from eventstore.subscriptions.following import (
    SIGN_OFF_SECONDS,
    Follower,
    Handle,
    InTransaction,
    Wait,
    drop_parked,
)
from eventstore.subscriptions.options import Options, Settings, check_tables, spelled_out
from eventstore.subscriptions.outages import Rest
from eventstore.subscriptions.rebuilding import Rebuild, RebuildProgress

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TransactionalStore(Protocol[T_co]):
    """A store, by what its transactions give."""

    def transaction(self) -> AbstractContextManager[T_co]: ...


class _Following:
    """What subscriptions and projections have in common. One object is one worker; it runs in one thread at a time."""

    _exactly_once: bool

    def __init__(
        self,
        store: object,
        name: str,
        handle: Callable[[Event, Any], object],
        options: Options,
        tables: Iterable[object] = (),
    ) -> None:
        self._store = followable(store)
        self._handle = handle
        self._make_follower = partial(
            Follower,
            name,
            Settings(**options),
            exactly_once=self._exactly_once,
            strict=self._store.strict,
            tables=check_tables(tables),
        )
        self._follower = self._make_follower()
        self._running = threading.Lock()
        self._hints: SimpleQueue[None] = SimpleQueue()

    @property
    def name(self) -> str:
        """The subscription's: workers of one name share its checkpoint."""
        return self._follower.name

    @property
    def state(self) -> SubscriptionState:
        """Where this worker stands; ``status()`` tells of all."""
        return self._follower.state

    @property
    def error(self) -> Exception | None:
        """What made this worker's last run fail."""
        return self._follower.error

    def run(self) -> None:
        """Handle events as they come, until ``stop()``.

        Survives lost connections and restarts of the server. Raises SubscriptionFailed when an event could not be
        handled, and is to stop there; SchemaError if the database is not prepared; InvalidOperation if this object runs
        already, if the subscription was removed meanwhile, or if its number of partitions can't be changed now.
        """
        self._run_until(to_end=False)

    def run_until_caught_up(self) -> None:
        """Handle what there is at the start, all partitions of it, and return. Raises what ``run`` does."""
        self._run_until(to_end=True)

    def stop(self) -> None:
        """Let the run end after the event at work, with everything up to it stored.

        Safe from any thread, and in signal handlers. Where nothing runs, the next run returns at once.
        """
        self._follower.stopping = True
        self._hint()

    def status(self) -> SubscriptionStatus:
        """How far all workers of this name have come. Raises InvalidOperation if none has ever run."""
        return self._store.carry_out(managing.status(self.name))

    def wait_until_processed(self, position: int | None = None, timeout: float = 10.0) -> None:
        """Return when the checkpoint has reached a position, or what was there at the call; whoever works on it.

        Raises SubscriptionBehind after ``timeout`` seconds, SubscriptionFailed if it gave up on the way.
        """
        run(managing.wait_until_processed(self.name, position, timeout), self._store.execute)

    def parked(self) -> list[ParkedEvent]:
        """The events that were put aside, in their order."""
        return self._store.carry_out(repeated(ListParked(self.name)))

    def retry_parked(self, position: int) -> None:
        """Handle an event that was put aside. Raises what the handler does, and then it stays there."""
        self._carry_out(InTransaction(self._follower.retry_parked(position)))

    def drop_parked(self, position: int) -> None:
        """Forget an event that was put aside. Raises InvalidOperation if there is none at that position."""
        self._store.carry_out(drop_parked(self.name, position))

    def remove(self) -> None:
        """Forget the checkpoint, and what was put aside. Its workers fail then; the next run starts anew."""
        self._store.execute(Remove(self.name))

    def _run_until(self, *, to_end: bool) -> None:
        if not self._running.acquire(blocking=False):
            raise InvalidOperation(f"this worker of {self.name!r} runs already: make another object for another worker")
        try:
            with self._store.wakeups.calling(self._hint), self._store.listening():
                try:
                    run(self._follower.follow(to_end=to_end), self._carry_out)
                finally:
                    with suppress(StoreUnavailable), within(SIGN_OFF_SECONDS):
                        self._store.carry_out(self._follower.sign_off())
        finally:
            self._running.release()

    def _hint(self) -> None:
        if self._hints.empty():
            self._hints.put(None)  # Can be called in a signal handler, whatever it interrupts.

    def _wait(self, seconds: float) -> None:
        with suppress(Empty):
            self._hints.get(timeout=seconds)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._follower.stopping and (left := end - time.monotonic()) > 0:
            self._wait(left)

    def _carry_out(self, request: Request[Any]) -> Any:
        match request:
            case InTransaction(operation):
                with self._store.transaction() as transaction:
                    return run(operation, partial(self._carry_out_in, transaction))
            case Wait(seconds):
                self._wait(seconds)
                return None
            case Rest(seconds):
                self._rest(seconds)
                return None
            case _:
                return self._store.execute(request)

    def _carry_out_in(self, transaction: Any, request: Request[Any]) -> Any:
        if isinstance(request, Handle):
            return self._handle(request.event, transaction)
        return transaction.execute(request)


class Subscription(_Following):
    """Calls ``handler(event)`` for each event of the log, in its order, at least once.

    For effects elsewhere: mails, other services. An event is handed out again if the worker dies before its checkpoint
    is stored; ``event.event_id`` tells one that was there before. What the handler raises is tried again ``attempts``
    times in all, with a growing delay, and then the subscription stops, or parks the event and goes on.

    ``event_types`` and ``categories`` are a filter; the checkpoint moves past what it leaves out. A subscription of a
    new name begins above ``from_position``. Workers of one name, in any number of processes, split ``partitions`` of
    the streams between them: the events of a stream are handled in order, by one worker at a time.
    ``poll_interval`` is how many seconds may pass before an event is noticed that nothing announced.
    """

    _exactly_once = False

    @spelled_out
    def __init__(
        self,
        store: EventStore,
        name: str,
        handler: Callable[[Event], None],
        **options: Unpack[Options],
    ) -> None:
        check_blocking("handler", handler, instead="AsyncSubscription")
        super().__init__(store, name, lambda event, _: handler(event), options)


class Projection(_Following, Generic[T]):
    """Calls ``handler(event, transaction)`` for each event of the log, in its order, with effect exactly once.

    ``transaction`` is the store in the transaction that stores the checkpoint as well. On PostgreSQL
    ``transaction.connection`` is its connection, for the read model's own tables; ``transaction.append`` appends in it.
    A batch of events is one transaction: killed at any point, all of it is there or nothing. The handler must neither
    commit nor roll back, and what it does elsewhere may happen more than once.

    ``tables`` are those of the read model, for ``rebuild``. The other arguments are Subscription's.
    """

    _exactly_once = True

    @spelled_out
    def __init__(
        self,
        store: TransactionalStore[T],
        name: str,
        handler: Callable[[Event, T], None],
        *,
        tables: Iterable[str] = (),
        **options: Unpack[Options],
    ) -> None:
        check_blocking("handler", handler, instead="AsyncProjection")
        self.store = store
        self.handler = handler
        super().__init__(store, name, handler, options, tables)

    def wants(self, event: Event) -> bool:
        """Whether the filter lets an event through."""
        return self._follower.wants(event)

    def rebuild(self, from_position: int = 0, progress: Callable[[RebuildProgress], object] | None = None) -> None:
        """Make the read model anew from the events above a position, beside the one in use, and swap them at the end.

        The handler must name ``tables`` without their schema, and finds empty copies of them. Workers go on meanwhile,
        and readers see the old rows until they see the new ones. ``progress`` is called before each batch. An error
        leaves everything as it was. PostgreSQL only; needs the privilege to create a schema, and room for the copies.

        Raises SubscriptionFailed for an event that can't be handled, InvalidOperation if a rebuild is going on already,
        was stopped, or if the handler writes to the tables in use by their full names.
        """
        if not self._running.acquire(blocking=False):
            raise InvalidOperation(f"this worker of {self.name!r} runs: make another object for the rebuild")
        self._follower, worker = self._make_follower(), self._follower
        rebuild = Rebuild(self._follower, from_position, progress)
        try:
            run(rebuild.run(), self._carry_out)
        except BaseException:
            with suppress(StoreUnavailable):
                run(rebuild.abandon(), self._store.execute)
            raise
        finally:
            self._follower = worker
            self._running.release()


def statuses(store: EventStore) -> list[SubscriptionStatus]:
    """How far all subscriptions of a store have come, by their names."""
    return followable(store).carry_out(managing.statuses())


def blocking_sessions(store: EventStore) -> list[BlockingSession]:
    """Who holds readers of the log, or writers, back at this moment."""
    return run(managing.blocking_sessions(), followable(store).execute)


def followable(store: object) -> FollowableStore:
    """The store, if it keeps checkpoints; else raises InvalidArgument."""
    if not isinstance(store, FollowableStore):
        raise InvalidArgument(f"a {type(store).__name__} keeps no checkpoints, so that nothing can follow it")
    return store
