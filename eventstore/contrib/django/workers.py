"""Subscriptions and projections of the project's: handlers with a decorator, in the ``subscriptions.py`` of an app."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar, Unpack

from django.db import connections
from django.db.transaction import atomic
from psycopg import IsolationLevel

from eventstore.contrib.django.stores import DjangoEventStore, DjangoTransaction, event_store
from eventstore.errors import InvalidArgument
from eventstore.event import Event
from eventstore.subscriptions import Projection, Subscription
from eventstore.subscriptions.options import Options, spelled_out

P = ParamSpec("P")
T = TypeVar("T")


class DjangoSubscription(Subscription):
    """A Subscription whose handler writes to the store's database in the transaction that stores the checkpoint.

    So those writes happen exactly once, and what the handler does elsewhere happens at least once. If the handler
    raises, what that call has written is rolled back.
    """

    @spelled_out
    def __init__(
        self,
        store: DjangoEventStore,
        name: str,
        handler: Callable[[Event], None],
        *,
        read_from: DjangoEventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._using = store.using
        super().__init__(store, name, _fresh(atomic(using=store.using)(handler)), read_from=read_from, **options)

    def run(self) -> None:
        with _connection_of_its_own(self._using):
            super().run()


class DjangoProjection(Projection[DjangoTransaction]):
    """A Projection whose handler may use the ORM, in the transaction that stores the checkpoint."""

    @spelled_out
    def __init__(
        self,
        store: DjangoEventStore,
        name: str,
        handler: Callable[[Event, DjangoTransaction], None],
        *,
        tables: Iterable[str] = (),
        read_from: DjangoEventStore | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._using = store.using
        super().__init__(store, name, _fresh(handler), tables=tables, read_from=read_from, **options)

    def run(self) -> None:
        with _connection_of_its_own(self._using):
            super().run()


Worker: TypeAlias = DjangoSubscription | DjangoProjection

workers: dict[str, Worker] = {}
"""Those of the project, by their names."""
targets: dict[str, str] = {}
"""Where each of them is, as ``package.module:name``."""


def the_worker(name: str) -> Worker:
    """The one of this name. Raises InvalidArgument, which lists those that there are."""
    found = workers.get(name)
    if found is None:
        there = f"there are {', '.join(map(repr, sorted(workers)))}" if workers else "it has none"
        raise InvalidArgument(f"the project has no subscription {name!r}: {there}")
    return found


def subscription(
    name: str, *, using: str | None = None, read_using: str | None = None, **options: Unpack[Options]
) -> Callable[[Callable[[Event], None]], DjangoSubscription]:
    """Decorate a function that handles events, so that ``manage.py eventstore run`` runs it as a subscription.

    The options are those of Subscription. ``using`` is the alias of the store's database, ``read_using`` that of a
    standby of it from which the events are read.
    """
    _check_named("subscription", name)

    def decorate(handler: Callable[[Event], None]) -> DjangoSubscription:
        read_from = None if read_using is None else event_store(read_using)
        made = DjangoSubscription(event_store(using), name, handler, read_from=read_from, **options)
        return _registered(handler, made)

    return decorate


def projection(
    name: str,
    *,
    tables: Iterable[str] = (),
    using: str | None = None,
    read_using: str | None = None,
    **options: Unpack[Options],
) -> Callable[[Callable[[Event, DjangoTransaction], None]], DjangoProjection]:
    """Decorate a function that handles events in a transaction, so that ``manage.py eventstore run`` runs it.

    The arguments are those of Projection. ``using`` is the alias of the store's database, ``read_using`` that of a
    standby of it from which the events are read.
    """
    _check_named("projection", name)

    def decorate(handler: Callable[[Event, DjangoTransaction], None]) -> DjangoProjection:
        read_from = None if read_using is None else event_store(read_using)
        made = DjangoProjection(event_store(using), name, handler, tables=tables, read_from=read_from, **options)
        return _registered(handler, made)

    return decorate


def _check_named(decorator: str, name: object) -> None:
    """Raise InvalidArgument where the decorator got the handler itself: the checkpoint would depend on its name."""
    if callable(name):
        handler = getattr(name, "__name__", repr(name))
        raise InvalidArgument(f'@{decorator} needs a name that stays: write @{decorator}("{handler}") above {handler}')


W = TypeVar("W", DjangoSubscription, DjangoProjection)


def _registered(handler: Callable[..., object], worker: W) -> W:
    target = f"{handler.__module__}:{handler.__qualname__}"
    if targets.setdefault(worker.name, target) != target:
        raise InvalidArgument(
            f"{target} and {targets[worker.name]} are both called {worker.name!r}: they would share one checkpoint"
        )
    workers[worker.name] = worker
    return worker


def _fresh(handler: Callable[P, T]) -> Callable[P, T]:
    """With the care that Django takes of connections at each request: a handler may use others than the worker's."""

    @wraps(handler)
    def handle(*args: P.args, **kwargs: P.kwargs) -> T:
        for wrapper in connections.all(initialized_only=True):
            if not wrapper.in_atomic_block:  # as the worker's is
                wrapper.close_if_unusable_or_obsolete()
        return handler(*args, **kwargs)

    return handle


@contextmanager
def _connection_of_its_own(using: str) -> Generator[None, None, None]:
    """Let this thread's connection of an alias be a new one, outside of Django's pool, and closed at the end."""
    usual = connections[using]
    options = {name: value for name, value in usual.settings_dict.get("OPTIONS", {}).items() if name != "pool"}
    options["isolation_level"] = IsolationLevel.READ_COMMITTED  # else workers that meet would fail
    settings: dict[str, Any] = {**usual.settings_dict, "AUTOCOMMIT": True, "OPTIONS": options}
    own = type(usual)(settings, using)
    connections[using] = own
    try:
        yield
    finally:
        own.close()
        connections[using] = usual
