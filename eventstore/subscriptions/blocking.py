"""Subscriptions and projections for blocking programs: how what they decide is carried out on a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, Unpack

from eventstore.context import handling
from eventstore.core.arguments import check_blocking
from eventstore.core.blocking import FollowableStore, run
from eventstore.core.checkpoints import ParkedEvent, SubscriptionState, SubscriptionStatus
from eventstore.core.deadlines import within
from eventstore.core.operations import repeated
from eventstore.core.requests import Request
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import ListParked, Park, Remove
from eventstore.errors import InvalidArgument, InvalidOperation, StoreUnavailable
from eventstore.event import Event
from eventstore.store import EventStore
from eventstore.subscriptions import managing
from eventstore.subscriptions.batches import check_takes_one, takes_batches
from eventstore.subscriptions.following import SIGN_OFF_SECONDS, Follower, Wait
from eventstore.subscriptions.handling import Elsewhere, Handle, HandleBatch, InTransaction
from eventstore.subscriptions.options import Options, Settings, check_tables, spelled_out
from eventstore.subscriptions.outages import Rest
from eventstore.subscriptions.rebuilding import Rebuild, RebuildProgress
from eventstore.subscriptions.retrying import drop_parked
from eventstore.subscriptions.watchers import poke, watching
from eventstore.subscriptions.watching import WaitForNews

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class TransactionalStore(Protocol[T_co]):
    """A store, by what its transactions give."""

    def transaction(self) -> AbstractContextManager[T_co]: ...


class _Following:
    """What subscriptions and projections have in common."""

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
        self._running = threading.Lock()
        self._hints: SimpleQueue[None] = SimpleQueue()

    @property
    def name(self) -> str:
        """The name of the subscription. Workers of one name share its checkpoint."""
        return self._follower.name

    @property
    def state(self) -> SubscriptionState:
        """The state of this worker. ``status()`` covers all workers of the name."""
        return self._follower.state

    @property
    def error(self) -> Exception | None:
        """The error that ended this worker's last run, or None."""
        return self._follower.error

    def run(self) -> None:
        """Handle events as they come, until ``stop()`` is called. Lost connections and restarts only delay it.

        Raises:
            SubscriptionFailed: an event could not be handled, and ``on_failure`` is "stop".
            InvalidOperation: this object runs already, the subscription was removed meanwhile, or its number of
                partitions can't be changed now.
            SchemaError: the schema is missing or has another version than this library.
            StoreRefused: the server refuses a request, and will refuse it again.
        """
        self._run_until(to_end=False)

    def run_until_caught_up(self) -> None:
        """Handle what the log holds at the start, in all partitions, and return. Raises what ``run`` raises."""
        self._run_until(to_end=True)

    def stop(self) -> None:
        """End the run after the current event, with everything up to it stored.

        Call it from any thread or signal handler. If nothing runs, the next run returns at once.
        """
        self._follower.stopping = True
        self._hint()

    def status(self) -> SubscriptionStatus:
        """Return how far the subscription has come, all workers together.

        Raises:
            InvalidOperation: no worker of this name has ever run.
        """
        return self._store.carry_out(managing.status(self.name))

    def wait_until_processed(self, position: int | None = None, timeout: float = 10.0) -> None:
        """Wait until the checkpoint has reached a position, whichever worker moves it.

        Args:
            position: the position, such as that of what ``save`` returned; None: where the log ends now.
            timeout: how many seconds to wait at most.

        Raises:
            SubscriptionBehind: the time is up. ``held_back_by`` names an open transaction that is in the way.
            SubscriptionFailed: the subscription has stopped at an event before the position.
        """
        run(managing.wait_until_processed(self.name, position, timeout), self._store.execute)

    def parked(self) -> list[ParkedEvent]:
        """Return the parked events in the order of their positions."""
        return self._store.carry_out(repeated(ListParked(self.name)))

    def retry_parked(self, position: int) -> None:
        """Handle a parked event again. If the handler raises, the event stays parked, and the error is raised."""
        self._carry_out(InTransaction(self._follower.retry_parked(position)))

    def drop_parked(self, position: int) -> None:
        """Delete a parked event.

        Raises:
            InvalidOperation: no event is parked at that position.
        """
        self._store.carry_out(drop_parked(self.name, position))

    def remove(self) -> None:
        """Delete the checkpoint and the parked events. Running workers fail; the next run starts from scratch."""
        self._store.execute(Remove(self.name))

    def _run_until(self, *, to_end: bool) -> None:
        if not self._running.acquire(blocking=False):
            raise InvalidOperation(
                f"this worker of {self.name!r} runs already: create another object for another worker"
            )
        try:
            hint = self._hint if self._reads_elsewhere else watching(self._store).hint
            with self._store.wakeups.calling(hint), self._store.listening():
                try:
                    run(self._follower.follow(to_end=to_end), self._carry_out)
                finally:
                    with suppress(StoreUnavailable), within(SIGN_OFF_SECONDS):
                        self._store.carry_out(self._follower.sign_off())
        finally:
            self._running.release()

    def _hint(self) -> None:
        poke(self._hints)  # Can be called in a signal handler, whatever it interrupts.

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
            case Elsewhere(wanted):
                return self._read_from.carry_out(repeated(wanted))
            case WaitForNews(waiter):
                return watching(self._store).wait(self._store, waiter, self._hints, lambda: self._follower.stopping)
            case Wait(seconds):
                self._wait(seconds)
                return None
            case Rest(seconds):
                self._rest(seconds)
                return None
            case _:
                return self._store.execute(request)

    def _carry_out_in(self, transaction: Any, request: Request[Any]) -> Any:
        observer = self._store.observer
        if isinstance(request, Handle):
            watched = nullcontext() if observer is None else observer.handling(self.name, [request.event])
            with handling(request.event), watched:
                return self._handle(request.event, transaction)
        if isinstance(request, Park) and observer is not None:
            observer.parked(self.name)
        if isinstance(request, HandleBatch):
            with nullcontext() if observer is None else observer.handling(self.name, request.events):
                return self._handle(request.events, transaction)
        if isinstance(request, Elsewhere):
            return self._carry_out(request)
        return transaction.execute(request)


class Subscription(_Following):
    """Calls ``handler(event)`` for each event of the log, in order, at least once.

    Use it for effects outside the database, such as mails. If a worker dies before it stores the checkpoint, the
    handler gets an event again. So the effect needs a key, such as ``event.event_id``, by which the other side
    recognises it.

    >>> store = InMemoryEventStore()
    >>> mails = Subscription(store, "mails", lambda event: print("mail about", event), event_types=[OrderShipped])
    >>> _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
    >>> mails.run_until_caught_up()
    mail about OrderShipped(tracking_number='1Z')
    >>> mails.status().position
    1

    One object is one worker, and runs in one thread at a time. Workers of one name, in any number of processes, share
    the partitions. The events of a stream are handled in their order, by one worker at a time.

    When the handler raises, it is given the event again, ``attempts`` times in all, with growing pauses. Then the
    subscription stops, or parks the event and continues.

    Args:
        store: the store whose log to follow.
        name: the name of the checkpoint.
        handler: called with each event.
        event_types: handle only events of these types, given as names or classes; None: of all types.
        categories: handle only streams of these categories; None: all streams. The checkpoint moves past what either
            filter leaves out.
        from_position: where a subscription of a new name begins: above this position.
        partitions: the number of parts into which the streams are split.
        batch_size: how many events to read at a time, at most.
        attempts: how often to try an event in all.
        on_failure: "stop" at an event that failed that often, "park" it and continue, or "park-stream", which parks the
            later events of its stream behind it.
        poll_interval: how many seconds may pass until an event is noticed that nothing announced.
        read_from: read the events from this store, which may be on a standby of the store's server, and keep only the
            checkpoint in ``store``. The log must be marked: see ``store.mark_log``.

    Raises:
        InvalidArgument: an argument is invalid, or the store keeps no checkpoints.
    """

    _exactly_once = False

    @spelled_out
    def __init__(
        self,
        store: EventStore,
        name: str,
        handler: Callable[[Event], None],
        *,
        read_from: EventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_blocking("handler", handler, instead="AsyncSubscription")
        check_takes_one(handler)
        super().__init__(store, name, lambda event, _: handler(event), options, read_from=read_from)


class Projection(_Following, Generic[T]):
    """Calls ``handler(event, transaction)`` for each event of the log, in order, with its effect stored exactly once.

    ``transaction`` is the store in the transaction that also stores the checkpoint. On PostgreSQL,
    ``transaction.connection`` is its psycopg connection, for the tables of the read model, and ``transaction.append``
    appends in it. The handler must neither commit nor roll back. What it does outside of the transaction may happen
    more than once.

    >>> def note(event, transaction):
    ...     transaction.append("Log-1", [Event(event_type="Noted")], ExpectedVersion.ANY)
    >>> store = InMemoryEventStore()
    >>> notes = Projection(store, "notes", note, event_types=[OrderShipped])
    >>> _ = store.append("Order-7", [OrderShipped(tracking_number="1Z")], 0)
    >>> notes.run_until_caught_up()
    >>> len(store.read("Log-1"))
    1

    A batch of events is one transaction. If the worker is killed, either all of a batch is stored or nothing.

    Args:
        store: the store whose log to follow.
        name: the name of the checkpoint.
        handler: called with each event and the transaction; declared with ``batched``, with a list of events.
        tables: the tables of the read model, for ``rebuild``.

    The other arguments are those of Subscription.

    Raises:
        InvalidArgument: an argument is invalid, or the store keeps no checkpoints.
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
        read_from: EventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_blocking("handler", handler, instead="AsyncProjection")
        self.store = store
        self.handler = handler
        super().__init__(store, name, handler, options, tables=tables, read_from=read_from)

    def wants(self, event: Event) -> bool:
        """Return whether the filter lets an event through."""
        return self._follower.wants(event)

    def rebuild(
        self,
        from_position: int = 0,
        progress: Callable[[RebuildProgress], object] | None = None,
        *,
        archives: Iterable[str] | None = (),
    ) -> None:
        """Build the read model again from the events, beside the one in use, and swap the two at the end.

        Workers continue meanwhile, and readers see the old rows until they see the new ones. An error changes nothing.
        The handler gets empty copies of ``tables``, so it must name these tables without their schema.

        It works on PostgreSQL only, and needs the privilege to create a schema, and room for the copies.

        Args:
            from_position: rebuild from the events above this position.
            progress: called with a RebuildProgress before each batch.
            archives: the places of all archives with events that the filter lets through. Their events are handled in
                the order of the positions, as if they had never left the log. None: those events are left out.

        Raises:
            SubscriptionFailed: an event could not be handled.
            ArchiveError: an archive can't be read, was altered, or is not one of this store.
            InvalidOperation: another rebuild is running, this one was stopped, an archive is missing in ``archives``,
                or the handler writes to the tables in use by their full names.
        """
        if not self._running.acquire(blocking=False):
            raise InvalidOperation(f"this worker of {self.name!r} runs: create another object for the rebuild")
        self._follower, worker = self._make_follower(), self._follower
        rebuild = Rebuild(self._follower, from_position, progress, archives, lambda read: read())
        observer = self._store.observer
        try:
            with nullcontext() if observer is None else observer.rebuilding(self.name):
                run(rebuild.run(), self._carry_out)
        except BaseException:
            with suppress(StoreUnavailable):
                run(rebuild.abandon(), self._store.execute)
            raise
        finally:
            self._follower = worker
            self._running.release()


def statuses(store: EventStore) -> list[SubscriptionStatus]:
    """Return how far each subscription of a store has come, in the order of their names."""
    return followable(store).carry_out(managing.statuses())


def blocking_sessions(store: EventStore) -> list[BlockingSession]:
    """Return the sessions that hold back readers of the log, or writers, at this moment."""
    return run(managing.blocking_sessions(), followable(store).execute)


def followable(store: object) -> FollowableStore:
    """Return the store if it keeps checkpoints. Raises InvalidArgument if it does not."""
    if not isinstance(store, FollowableStore):
        raise InvalidArgument(
            f"a {type(store).__name__} keeps no checkpoints, so nothing can follow it: use a store that does"
        )
    return store
