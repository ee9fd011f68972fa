"""``python -m benchmarks [--rounds N] [--size N] [--large N] [GROUP …]``."""

from __future__ import annotations

import argparse
import platform
from functools import partial
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import ConnectionPool

from benchmarks import (
    appending,
    commands,
    contention,
    following,
    loading,
    network,
    partitions,
    privacy,
    sizes,
    tenants,
    upkeep,
)
from eventstore.postgres import migrate
from eventstore.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Bring up a server with its settings as they are by default, and print a table for each group."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="of each comparison (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1_000_000, help="events of long histories (default: %(default)s)")
    parser.add_argument(
        "--large", type=int, default=10_000_000, help="events of the large store (default: %(default)s)"
    )
    names = "append, network, commands, many, load, snapshot, log, other, large, follow, size, partitions, tenants,"
    names += " upkeep, privacy"
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of: {names}")
    args = parser.parse_args()
    with (
        EmbeddedServer() as server,
        ConnectionPool(server.dsn, min_size=8, max_size=8, kwargs={"autocommit": True}) as pool,
    ):
        print(
            f"PostgreSQL {server.version} with its default settings, Python {platform.python_version()}, psycopg"
            f" {psycopg.__version__}; medians of ratios within a round, with quartiles, over {args.rounds} rounds."
        )
        migrate(server.dsn)
        groups: dict[str, Callable[[], None]] = {
            "append": partial(appending.beside_others, pool, server.dsn, args.rounds),
            "network": partial(network.beside_others, server.dsn, args.rounds),
            "commands": partial(commands.beside_others, pool, server.dsn, args.rounds),
            "many": partial(contention.beside_others, pool, server.dsn, args.rounds),
            "load": partial(loading.beside_others, pool, server.dsn, args.rounds),
            "snapshot": partial(loading.with_snapshot, pool, args.rounds, args.size),
            "log": partial(loading.whole_log, pool, server.dsn, args.rounds, args.size),
            "other": partial(_others, pool, server.dsn, args.rounds),
            "large": partial(appending.large_store, pool, args.rounds, args.large),
            "follow": partial(_follow, pool, server.dsn, args.size),
            "size": partial(sizes.on_disk, pool),
            "partitions": partial(partitions.beside_one_table, pool, args.rounds, args.large),
            "tenants": partial(tenants.many, pool, server.dsn, args.rounds),
            "upkeep": partial(upkeep.upkeep, pool, args.large),
            "privacy": partial(privacy.beside_plain, pool, server.dsn, args.rounds, args.size),
        }
        unknown = set(args.groups) - set(groups)
        if unknown:
            parser.error(f"there is no group {', '.join(sorted(unknown))}")
        for name, run in groups.items():
            if not args.groups or name in args.groups:
                run()


def _others(pool: ConnectionPool, dsn: str, rounds: int) -> None:
    appending.other_work(pool, dsn, rounds)
    loading.in_memory(rounds)


def _follow(pool: ConnectionPool, dsn: str, size: int) -> None:
    following.catching_up(pool, size)
    following.latency(pool, dsn)
    following.waiting(pool, 10)


if __name__ == "__main__":  # Not in the processes that a benchmark starts.
    main()
