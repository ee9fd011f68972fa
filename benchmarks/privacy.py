"""Personal data: appends, loads and forgetting beside the same without, and what a sealed field takes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

from benchmarks.appending import repeated
from benchmarks.measuring import Rounds, Table
from benchmarks.samples import new_id
from eventstore import Aggregate, Event, PostgresEventStore, Repository, handles
from eventstore.privacy import Personal, PostgresSubjectKeys, Subject, migrate_subject_keys

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

NAMES = ("first", "last", "street", "town", "email")


class PlainMoved(Event):
    customer: UUID
    first: str
    last: str
    street: str
    town: str
    email: str


class OneFieldMoved(Event):
    customer: Annotated[UUID, Subject]
    first: str
    last: str
    street: str
    town: str
    email: Annotated[str, Personal("")]


class FiveFieldsMoved(Event):
    customer: Annotated[UUID, Subject]
    first: Annotated[str, Personal("")]
    last: Annotated[str, Personal("")]
    street: Annotated[str, Personal("")]
    town: Annotated[str, Personal("")]
    email: Annotated[str, Personal("")]


class Customer(Aggregate["Customer"]):
    moves: int = 0

    @handles(Event)
    def _moved(self, _: Event) -> None:
        self.moves += 1


def fields(customer: UUID) -> dict[str, Any]:
    """The fields of one event."""
    return {"customer": customer, **{name: f"some {name} or other" for name in NAMES}}


def beside_plain(pool: ConnectionPool[Any], dsn: str, rounds: int, size: int) -> None:
    """All of it."""
    migrate_subject_keys(dsn)
    with PostgresSubjectKeys.connect(dsn, wrap=os.urandom(32)) as keys:
        store = PostgresEventStore(pool, subject_keys=keys)
        _appends(store, rounds)
        _loads(store, PostgresEventStore(pool), rounds)
        _bytes(store, pool)
        _forgetting(store, pool, rounds, size)


def _appends(store: PostgresEventStore, rounds: int) -> None:
    known = uuid4()
    store.append(new_id(), [FiveFieldsMoved(**fields(known))], 0)

    def append(cls: type[Event], customer: UUID | None) -> None:
        store.append(new_id(), [cls(**fields(customer or uuid4()))], 0)

    contenders = {
        "plain": lambda: append(PlainMoved, known),
        "one": lambda: append(OneFieldMoved, known),
        "five": lambda: append(FiveFieldsMoved, known),
        "one cold": lambda: append(OneFieldMoved, None),
        "five cold": lambda: append(FiveFieldsMoved, None),
    }
    found = Rounds({name: repeated(work, 20) for name, work in contenders.items()}, rounds)
    table = Table("Appending one event", "personal fields", "key", "time as a multiple of that without personal fields")
    table.row(1, "remembered", found.ratio("one", "plain"))
    table.row(5, "remembered", found.ratio("five", "plain"))
    table.row(1, "made for a new subject", found.ratio("one cold", "plain"))
    table.row(5, "made for a new subject", found.ratio("five cold", "plain"))


def _loads(store: PostgresEventStore, without_keys: PostgresEventStore, rounds: int) -> None:
    streams = {"plain": f"Customer-{uuid4()}", "one subject": f"Customer-{uuid4()}", "1,000": f"Customer-{uuid4()}"}
    several = [uuid4() for _ in range(1000)]
    for start in range(0, 10_000, 1000):
        store.append(streams["plain"], [PlainMoved(**fields(several[0])) for _ in range(1000)], start)
        store.append(streams["one subject"], [OneFieldMoved(**fields(several[0])) for _ in range(1000)], start)
        store.append(streams["1,000"], [OneFieldMoved(**fields(each)) for each in several], start)
    customers, blind = Repository(store, Customer), Repository(without_keys, Customer)

    def load(repository: Repository[Customer], name: str, *, cold: bool = False) -> None:
        if cold and store.subject_keys is not None:
            for each in several:
                store.subject_keys.cache.drop(str(each))
        assert repository.load(streams[name].removeprefix("Customer-")).moves == 10_000

    found = Rounds(
        {
            "plain": lambda: load(customers, "plain"),
            "one": lambda: load(customers, "one subject"),
            "many": lambda: load(customers, "1,000"),
            "many cold": lambda: load(customers, "1,000", cold=True),
            "blind": lambda: load(blind, "one subject"),
        },
        max(rounds // 3, 5),
    )
    table = Table(
        "Loading 10,000 events with one personal field", "subjects", "keys", "time as a multiple of plain ones"
    )
    table.row(1, "remembered", found.ratio("one", "plain"))
    table.row("1,000", "remembered", found.ratio("many", "plain"))
    table.row("1,000", "out of the table", found.ratio("many cold", "plain"))
    table.row(1, "none: placeholders", found.ratio("blind", "plain"))


def _bytes(store: PostgresEventStore, pool: ConnectionPool[Any]) -> None:
    customer = uuid4()
    sizes: dict[str, int] = {}
    for cls in (PlainMoved, OneFieldMoved, FiveFieldsMoved):
        stream_id = new_id()
        store.append(stream_id, [cls(**fields(customer))], 0)
        with pool.connection() as connection:
            row = connection.execute(
                "SELECT octet_length(data) FROM eventstore.events WHERE stream_id = %s", (stream_id,)
            ).fetchone()
        assert row is not None
        sizes[cls.__name__] = row[0]
    table = Table("Bytes of a sealed field", "personal fields", "bytes more for each, beside its value")
    table.row(1, sizes["OneFieldMoved"] - sizes["PlainMoved"])
    table.row(5, f"{(sizes['FiveFieldsMoved'] - sizes['PlainMoved']) / 5:.0f}")


_FILL = """
    INSERT INTO eventstore.events (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)
    SELECT number, now(), 0, gen_random_uuid(), 'Filled-1', 'PlainMoved', data, metadata
    FROM generate_series(%s::bigint, %s::bigint) AS number,
        (SELECT data, metadata FROM eventstore.events WHERE event_type = 'PlainMoved' LIMIT 1) AS sample
"""


def _forgetting(store: PostgresEventStore, pool: ConnectionPool[Any], rounds: int, size: int) -> None:
    """Subjects with 10,000 events each, in a small log and in a large one."""
    subjects = {"small": _subjects(store, 3), "large": _subjects(store, 3)}
    few = [uuid4() for _ in range(max(rounds // 3, 5) + 1)]
    for each in few:
        store.append(new_id(), [OneFieldMoved(**fields(each))], 0)
    table = Table("Forgetting a subject", "its events", "events in the log", "milliseconds, once each")
    table.row("10,000", f"{_count(pool):,}", _milliseconds(store, subjects["small"]))
    for start in range(1, size + 1, 100_000):
        with pool.connection() as connection:
            connection.execute(_FILL, (start, min(start + 99_999, size)))
    table.row("10,000", f"{_count(pool):,}", _milliseconds(store, subjects["large"]))
    table.row("1", f"{_count(pool):,}", _milliseconds(store, few))


def _subjects(store: PostgresEventStore, count: int) -> list[UUID]:
    found = [uuid4() for _ in range(count)]
    for customer in found:
        for _ in range(10):
            store.append(new_id(), [OneFieldMoved(**fields(customer)) for _ in range(1000)], 0)
    return found


def _milliseconds(store: PostgresEventStore, subjects: Iterable[UUID]) -> str:
    from benchmarks.measuring import seconds

    return ", ".join(f"{seconds(lambda each=each: store.forget(each)) * 1000:.1f}" for each in subjects)


def _count(pool: ConnectionPool[Any]) -> int:
    with pool.connection() as connection:
        row = connection.execute("SELECT count(*) FROM eventstore.events").fetchone()
    assert row is not None
    return int(row[0])
