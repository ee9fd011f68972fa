"""Many schemas on one pool: ``python -m benchmarks tenants``."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool

from benchmarks.appending import repeated
from benchmarks.measuring import Rounds, Table, seconds
from benchmarks.samples import LineAdded, new_id, values
from eventstore.postgres import Tenants

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 200
_MEMORY = "SELECT sum(used_bytes) / 1e6 FROM pg_backend_memory_contexts"


def many(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """200 tenants: creating and migrating them, and what working with all of them costs a session."""
    tenants = Tenants(pool, "bench_")
    names = [f"t{number}" for number in range(MANY)]
    table = Table(f"{MANY} tenants", "work", "seconds")
    table.row("migrate, none of which exists", f"{seconds(partial(tenants.migrate, names)):.1f}")
    table.row("migrate again, nothing is missing", f"{seconds(tenants.migrate):.1f}")
    table.row("the same, one at a time", f"{seconds(partial(tenants.migrate, at_once=1)):.1f}")
    with ConnectionPool(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}) as one:
        working = Tenants(one, "bench_")

        def work(over: list[str]) -> Callable[[], None]:
            turns = itertools.cycle(over)

            def step() -> None:
                store, stream_id = working.store(next(turns)), new_id()
                store.append(stream_id, [LineAdded(**values())], 0)
                store.read(stream_id)

            return repeated(step, MANY)

        table = Table("One session for many tenants", "after 200 appends and reads", "prepared statements", "MB")
        for what, over in (("in one tenant", names[:1]), (f"in {MANY} tenants in turn, ten times", names)):
            repeated(work(over), 10 if len(over) > 1 else 1)()
            table.row(what, *_of_the_session(one))
        found = Rounds({"one": work(names[:1]), "many": work(names)}, rounds)
        table = Table("Work on many tenants", "work", "time as a multiple of the same on one tenant")
        table.row(f"an append and a read, {MANY} tenants in turn", found.ratio("many", "one"))


def _of_the_session(pool: ConnectionPool[Any]) -> tuple[str, str]:
    with pool.connection() as connection:
        (prepared,) = connection.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchone() or (
            0,
        )
        (memory,) = connection.execute(_MEMORY, prepare=False).fetchone() or (0.0,)
    return f"{prepared}", f"{memory:.1f}"
