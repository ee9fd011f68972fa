"""Loads: aggregates with and without snapshots, the whole log, and what memory that takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.appending import repeated
from benchmarks.contenders.ours import Ours
from benchmarks.contenders.raw import Raw
from benchmarks.measuring import Rounds, Table
from benchmarks.samples import LineAdded, Order, new_id, values
from eventstore import InMemoryEventStore, Repository

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


def beside_others(pool: ConnectionPool[Any], dsn: str, rounds: int) -> None:
    """An aggregate of 100 and of 10,000 events, without a snapshot."""
    from benchmarks.contenders.peer_eventsourcing import Eventsourcing

    ours, raw, peer = Ours(pool), Raw(pool), Eventsourcing(dsn)
    table = Table(
        "Loading an aggregate without a snapshot",
        "work",
        "our time as a multiple of a hand-written loop that does the same",
        "of a loop that only fetches type and data and unpacks",
        "our speed as a multiple of eventsourcing's",
    )
    for count, times in ((100, 20), (10_000, 1)):
        order_id, other_id = str(uuid4()), peer.fill(count)
        ours.fill(order_id, count)
        assert ours.load(order_id).lines == raw.load(order_id).lines == raw.load_little(order_id) == count
        assert peer.load(other_id).lines == count - 1
        found = Rounds(
            {
                "ours": repeated(lambda i=order_id: ours.load(i), times),
                "raw": repeated(lambda i=order_id: raw.load(i), times),
                "little": repeated(lambda i=order_id: raw.load_little(i), times),
                "peer": repeated(lambda i=other_id: peer.load(i), times),
            },
            rounds,
        )
        table.row(
            f"{count:,} events", found.ratio("ours", "raw"), found.ratio("ours", "little"), found.speed("ours", "peer")
        )
    peer.close()


def with_snapshot(pool: ConnectionPool[Any], rounds: int, most: int) -> None:
    """The events behind a snapshot don't matter."""
    ours = Ours(pool)
    orders = Repository(ours.store, Order, ours.snapshots)
    ids = {count: str(uuid4()) for count in (1000, 10_000, 100_000, 1_000_000) if count <= most}
    for count, order_id in ids.items():
        ours.fill(order_id, count)
        orders.load(order_id)  # takes one, as it had to replay so much
    found = Rounds({str(count): repeated(lambda i=i: orders.load(i), 20) for count, i in ids.items()}, rounds)
    table = Table("Loading with a snapshot", "events behind it", "time as a multiple of that with 1,000")
    for count in list(ids)[1:]:
        table.row(f"{count:,}", found.ratio(str(count), "1000"))


MEMORY = """
import re, sys
from pathlib import Path
from eventstore import PostgresEventStore
import benchmarks.samples

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

dsn, limit = sys.argv[1], int(sys.argv[2])
with PostgresEventStore.connect(dsn) as store:
    store.read("nothing-1")
    before = peak()
    for number, _ in enumerate(store.read_all(), 1):
        if number == limit: break
    print(peak() - before)
"""


def whole_log(pool: ConnectionPool[Any], dsn: str, rounds: int, size: int) -> None:
    """``read_all``, beside pages by hand."""
    ours, raw = Ours(pool), Raw(pool)
    ours.fill(str(uuid4()), size)

    def read(limit: int) -> None:
        for number, _ in enumerate(ours.store.read_all(), 1):
            if number == limit:
                break

    some = min(size, 50_000)
    found = Rounds({"ours": lambda: read(some), "raw": lambda: raw.read_all(some)}, max(rounds // 4, 5))
    whole = Rounds({"ours": lambda: read(size), "raw": lambda: raw.read_all(size)}, 3)
    table = Table("Reading the whole log", "work", "our speed as a multiple of raw paging with unpacking")
    table.row(f"read_all, {some:,} events", found.speed("ours", "raw"))
    table.row(f"read_all, {size:,} events", whole.speed("ours", "raw"))
    table = Table("Memory of read_all", "events", "MB at the peak, above the start")
    for limit in (10_000, size):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, dsn, str(limit)], capture_output=True, text=True, check=True
        )
        table.row(f"{limit:,}", f"{float(done.stdout):.1f}")


def in_memory(rounds: int) -> None:
    """The memory store, and importing the package."""
    store = InMemoryEventStore()
    orders = Repository(store, Order)
    order_id = str(uuid4())
    store.append(f"Order-{order_id}", [LineAdded(**values(number)) for number in range(100)], 0)

    def make() -> None:
        for number in range(100):
            LineAdded(**values(number))

    found = Rounds(
        {
            "make": make,
            "append": repeated(lambda: store.append(new_id(), [LineAdded(**values())], 0), 100),
            "load": lambda: orders.load(order_id),
        },
        rounds,
    )
    table = Table("In memory", "work", "time as a multiple of making 100 events")
    table.row("100 appends of 1 event", found.ratio("append", "make"))
    table.row("a load of 100 events", found.ratio("load", "make"))
    programs = {"eventstore": "import eventstore", "stdlib": "import asyncio, dataclasses, uuid, decimal, logging"}
    found = Rounds(
        {name: lambda p=p: subprocess.run([sys.executable, "-c", p], check=True) for name, p in programs.items()}
        | {"nothing": lambda: subprocess.run([sys.executable, "-c", ""], check=True)},
        max(rounds // 2, 5),
    )
    table = Table("Importing", "program", "time as a multiple of a program that imports nothing")
    table.row("import eventstore", found.ratio("eventstore", "nothing"))
    table.row("import asyncio, dataclasses, uuid, decimal, logging", found.ratio("stdlib", "nothing"))
