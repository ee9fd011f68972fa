"""Uses that can't work are refused at once, in words; uses that look right do work."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from eventstore import (
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Projection,
    Subscription,
    inline,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from psycopg_pool import ConnectionPool


class WrongUseHappened(Event):
    number: int


class WrongUseIgnored(Event):
    pass


def test_an_append_that_would_wait_for_its_own_transaction_is_refused(store: EventStore) -> None:
    with store.transaction() as transaction:
        transaction.append("s", [WrongUseHappened(number=1)], 0)
        with pytest.raises(InvalidOperation, match="use the store that transaction\\(\\) returned"):
            store.append("s", [WrongUseHappened(number=2)], ExpectedVersion.ANY)
        assert store.append("another", [WrongUseHappened(number=3)], 0) == 1
        transaction.append("s", [WrongUseHappened(number=4)], 1)
    assert store.append("s", [WrongUseHappened(number=5)], 2) == 3
    assert [event.data["number"] for event in store.read("s")] == [1, 4, 5]


def test_another_thread_waits_for_the_transaction_and_is_not_refused(store: EventStore) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 only here

    with ThreadPoolExecutor() as threads:
        with store.transaction() as transaction:
            transaction.append("s", [WrongUseHappened(number=1)], 0)
            waiting: Future[int] = threads.submit(store.append, "s", [WrongUseHappened(number=2)], ExpectedVersion.ANY)
        assert waiting.result(30) == 2


def test_blocking_classes_refuse_coroutine_functions() -> None:
    store = InMemoryEventStore()

    async def mail(event: Event) -> None: ...
    async def count(event: Event, transaction: object) -> None: ...

    class Mailer:
        async def __call__(self, event: Event) -> None: ...

    for make in (
        lambda: Subscription(store, "mails", mail),
        lambda: Subscription(store, "mails", Mailer()),
        lambda: Projection(store, "counts", count),
        lambda: inline(store, Projection(store, "counts", count)),
    ):
        with pytest.raises(InvalidArgument, match=r"nobody would await .*; use Async"):
            make()


def test_one_event_instead_of_a_list_is_refused(store: EventStore) -> None:
    for wrong in (WrongUseHappened(number=1), 7, None):
        with pytest.raises(InvalidArgument, match="events must be a list of events"):
            store.append("s", wrong, 0)  # type: ignore[arg-type]


def test_event_types_are_names_or_classes_and_both_filters_take_one_or_several(store: EventStore) -> None:
    store.append("A-1", [WrongUseHappened(number=1), WrongUseIgnored()], 0)
    store.append("B-1", [WrongUseHappened(number=2)], 0)

    def numbers(**options: Any) -> list[int]:
        return [event.data.get("number", 0) for event in store.read_all(**options)]

    for types in (WrongUseHappened, "WrongUseHappened", [WrongUseHappened], ("WrongUseHappened",)):
        assert numbers(event_types=types) == [1, 2]
    for categories in ("A", ["A"]):
        assert numbers(categories=categories) == [1, 0]
    seen: list[int] = []
    worker = Subscription(
        store, "s", lambda event: seen.append(event.data["number"]), event_types=WrongUseHappened, categories="B"
    )
    worker.run_until_caught_up()
    assert seen == [2]
    for wrong in (Event, int, 7, [7], [""]):
        with pytest.raises(InvalidArgument, match=r"event_types|event type"):
            store.read_all(event_types=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_the_default_isolation_does_not_make_any_a_conflict(
    dsn: str, schema: str, pool: ConnectionPool, isolation: str
) -> None:
    """A statement of such a transaction sees the stream as it was before it waited for the stream's lock."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 only here

    options = f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}"
    with PostgresEventStore.connect(make_conninfo(dsn, options=options), schema) as store:

        def append(number: int) -> int:
            return store.append("hot", [WrongUseHappened(number=number)], ExpectedVersion.ANY)

        with ThreadPoolExecutor(8) as threads:
            versions = sorted(threads.map(append, range(40)))
    assert versions == list(range(1, 41))
    assert len(PostgresEventStore(pool, schema).read("hot")) == 40


def test_a_program_that_forgets_to_close_its_store_ends_at_once_and_its_children_do_too(dsn: str, schema: str) -> None:
    program = f"""
import os
from eventstore import Event, ExpectedVersion, PostgresEventStore

def append():
    store.append("s", [Event(event_type="T")], ExpectedVersion.ANY)

store = PostgresEventStore.connect({dsn!r}, {schema!r})
append()
child = os.fork()
append()
if child:
    assert os.waitpid(child, 0)[1] == 0
    append()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    # Whoever waits for a pool's threads in vain says "couldn't stop thread".
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
