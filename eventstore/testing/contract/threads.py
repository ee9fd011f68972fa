"""Many threads on one store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from eventstore.errors import ConcurrencyError
from eventstore.store import EventStore
from eventstore.testing.contract.capabilities import Topic, needs
from eventstore.testing.contract.samples import event, events, versions
from eventstore.versions import ExpectedVersion

THREADS = 8


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """Do some work in so many threads that begin together; what each returned."""
    gate = threading.Barrier(count)

    def begin(number: int) -> object:
        gate.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


@needs("concurrency")
class ThreadsContract(Topic):
    def test_of_appends_that_race_on_one_version_one_wins(self, store: EventStore) -> None:
        store.append("s", event(), 0)

        def race(_: int) -> str:
            try:
                store.append("s", events(2), 1)
            except ConcurrencyError as conflict:
                return f"conflict with {conflict.actual_version}"
            return "stored"

        assert Counter(at_once(THREADS, race)) == {"stored": 1, "conflict with 3": THREADS - 1}
        assert versions(store.read("s")) == [1, 2, 3]

    def test_appends_without_a_version_all_get_in(self, store: EventStore) -> None:
        per_thread = 25

        def append(number: int) -> list[int]:
            return [
                store.append(f"s{index % 3}", events(2, thread=number), ExpectedVersion.ANY)
                for index in range(per_thread)
            ]

        answered = at_once(THREADS, append)
        assert len(answered) == THREADS
        total = 0
        for name in ("s0", "s1", "s2"):
            found = store.read(name)
            assert versions(found) == list(range(1, len(found) + 1))
            assert [e.data["number"] for e in found] == [0, 1] * (len(found) // 2)
            total += len(found)
        assert total == THREADS * per_thread * 2

    @needs("idempotency")
    def test_the_same_events_from_many_threads_are_stored_once(self, store: EventStore) -> None:
        batch = events(3)
        answers = at_once(THREADS, lambda _: store.append("s", batch, ExpectedVersion.ANY))
        assert answers == [3] * THREADS
        assert store.read("s") == batch

    @needs("transactions", "global_order")
    def test_readers_never_miss_an_event(self, store: EventStore) -> None:
        """Writers hold their transactions open for various times, and roll some back; readers keep reading."""
        writing = threading.Event()
        writing.set()
        seen: list[list[int]] = [[], []]

        def write(number: int) -> None:
            for index in range(30):
                try:
                    with store.transaction() as transaction:
                        transaction.append(f"s{number}", events(1), ExpectedVersion.ANY)
                        if index % 3 == 0:
                            store.append(f"t{number}", events(1), ExpectedVersion.ANY)
                        if index % 4 == 0:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass

        def follow(positions: list[int]) -> None:
            while True:
                last_round = not writing.is_set()
                positions.extend(e.position for e in store.read_all(positions[-1] if positions else 0, batch_size=7))
                if last_round:
                    return

        followers = [threading.Thread(target=follow, args=(positions,)) for positions in seen]
        for follower in followers:
            follower.start()
        try:
            at_once(THREADS, write)
        finally:
            writing.clear()
            for follower in followers:
                follower.join(60)
        final = [e.position for e in store.read_all()]
        assert seen == [final, final]
