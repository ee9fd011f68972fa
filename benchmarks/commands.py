"""Commands: load, decide, save. On a socket, and with the server a millisecond away."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from benchmarks.appending import repeated
from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import Raw
from benchmarks.measuring import Contender, Rounds, Table
from benchmarks.network import MILLISECOND, distant
from benchmarks.samples import LineAdded, Order, values
from eventstore import Repository
from eventstore.core.snapshots import snapshot_of
from eventstore.testing.proxy import connected_to

if TYPE_CHECKING:
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

ORDERS = 50
"""Aggregates that take turns, so that none of their histories grows much while it is measured."""
HISTORY = 20
CACHES: dict[str, dict[str, str]] = {
    "without its cache": {},
    "with its cache": {"AGGREGATE_CACHE_MAXSIZE": "1000"},
    "with its cache unchecked": {"AGGREGATE_CACHE_MAXSIZE": "1000", "AGGREGATE_CACHE_FASTFORWARD": "n"},
}
"""Settings of eventsourcing. Unchecked, it believes an old state that refuses a command."""


def beside_others(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """A command on an aggregate of twenty events, and loads with and without snapshots."""
    _commands("Commands on aggregates of 20 events", pool, dsn, rounds, 10)
    _loads("Loading with a snapshot at the last event", pool, rounds, 20)
    with distant(partial(connected_to, dsn), MILLISECOND) as port:
        far = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        with ConnectionPool(far, min_size=8, max_size=8, kwargs={"autocommit": True}) as distant_pool:
            _commands("Commands over a network of 1 ms there and back", distant_pool, far, rounds, 5)
            _loads("Loading with a snapshot over a network of 1 ms there and back", distant_pool, rounds, 5)


def _commands(title: str, pool: ConnectionPool[Any], dsn: str, rounds: int, times: int) -> None:
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

    ours, raw = Ours(pool), Raw(pool)
    peers = {name: Eventsourcing(dsn, **settings) for name, settings in CACHES.items()}
    repositories = {
        "update": Repository(ours.store, Order),
        "update, cache": Repository(ours.store, Order, cache=1_000),
        "update, snapshots": Repository(ours.store, Order, ours.snapshots),
    }
    contenders: dict[str, Contender] = {
        "append": _each(_appends(ours)),
        **{name: _each(_updates(ours, repository)) for name, repository in repositories.items()},
        "raw": _each([partial(raw.command, order_id) for order_id in _filled(ours)]),
        **{name: _each(_of_peer(peer)) for name, peer in peers.items()},
    }
    found = Rounds({name: repeated(run, times) for name, run in contenders.items()}, rounds)
    table = Table(
        title,
        "contender",
        "time as a multiple of a bare append",
        "of a hand-written loop",
        *(f"our speed as a multiple of eventsourcing's {name}" for name in peers),
    )
    for name in repositories:
        table.row(
            name, found.ratio(name, "append"), found.ratio(name, "raw"), *(found.speed(name, peer) for peer in peers)
        )
    table.row("hand-written loop", found.ratio("raw", "append"), 1, *(found.speed("raw", peer) for peer in peers))
    for peer in peers.values():
        peer.close()


def _loads(title: str, pool: ConnectionPool[Any], rounds: int, times: int) -> None:
    ours = Ours(pool)
    table = Table(title, "events", "time as a multiple of a replay", "without a snapshot yet")
    with_snapshots = Repository(ours.store, Order, ours.snapshots, 10_000)
    for count in (5, 20, 100, 1_000):
        taken, none = str(uuid4()), str(uuid4())
        for order_id in (taken, none):
            ours.fill(order_id, count)
        ours.snapshots.save(snapshot_of(ours.load(taken)))
        found = Rounds(
            {
                "replay": repeated(partial(ours.load, taken), times),
                "snapshot": repeated(partial(with_snapshots.load, taken), times),
                "none yet": repeated(partial(with_snapshots.load, none), times),
            },
            rounds,
        )
        table.row(f"{count:,}", found.ratio("snapshot", "replay"), found.ratio("none yet", "replay"))


def _filled(ours: Ours) -> Iterator[str]:
    for _ in range(ORDERS):
        order_id = str(uuid4())
        ours.fill(order_id, HISTORY)
        yield order_id


def _appends(ours: Ours) -> list[Callable[[], object]]:
    def append(order_id: str, version: Iterator[int]) -> None:
        ours.store.append(f"Order-{order_id}", [LineAdded(**values())], next(version))

    return [partial(append, order_id, itertools.count(HISTORY)) for order_id in _filled(ours)]


def _updates(ours: Ours, repository: Repository[Order]) -> list[Callable[[], object]]:
    order_ids = list(_filled(ours))
    for order_id in order_ids:
        repository.load(order_id)
    return [partial(repository.update, order_id, _add) for order_id in order_ids]


def _add(order: Order) -> None:
    order.add(values())


def _of_peer(peer: Eventsourcing) -> list[Callable[[], object]]:
    return [partial(peer.command, peer.fill(HISTORY)) for _ in range(ORDERS)]


def _each(commands: list[Callable[[], object]]) -> Contender:
    """One after the other, each time the next."""
    turns = itertools.cycle(commands)

    def turn() -> object:
        return next(turns)()

    return turn
