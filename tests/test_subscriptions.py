"""Following the log: what is promised on every store, blocking and async."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from fronts import COPIES, Front, copied
from waiting import PATIENCE, eventually

from eventstore import (
    AsyncInMemoryEventStore,
    AsyncProjection,
    AsyncSubscription,
    Event,
    EventStoreError,
    ExpectedVersion,
    InMemoryEventStore,
    InvalidArgument,
    InvalidOperation,
    PostgresEventStore,
    Projection,
    Subscription,
    SubscriptionBehind,
    SubscriptionFailed,
    SubscriptionState,
)
from eventstore.core.subscription_requests import PollSubscription
from eventstore.core.wakeups import WakeUps
from eventstore.memory.checkpoints import in_partition
from eventstore.subscriptions import following, handling, outages, retrying, statuses, watching
from eventstore.subscriptions.options import Options, Settings

if TYPE_CHECKING:
    from eventstore import EventStore
    from eventstore.core.requests import Operation

NEVER = 3600.0
"""A poll interval that no test lives to see."""
LIVE, STOPPED, FAILED = SubscriptionState.LIVE, SubscriptionState.STOPPED, SubscriptionState.FAILED


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY", 0.001)


def events(count: int = 1) -> list[Event]:
    return [Event(event_type="Numbered", data={"number": number}) for number in range(count)]


def numbers(found: list[Event]) -> list[int]:
    return [event.data["number"] for event in found]


class Handler:
    """Keeps what it is given, and fails at certain numbers, so many times."""

    def __init__(self, **fails: int) -> None:
        self.seen: list[Event] = []
        self.calls: dict[int, int] = defaultdict(int)
        self.fails = {int(name.removeprefix("at_")): times for name, times in fails.items()}

    def __call__(self, event: Event, *_: object) -> None:
        number = event.data.get("number")
        self.calls[number] += 1
        if self.calls[number] <= self.fails.get(number, 0):
            raise ZeroDivisionError(f"number {number}")
        self.seen.append(event)


class TestFollowing:
    def test_every_event_is_handled_in_the_order_of_the_log(self, front: Front) -> None:
        for stream in ("a", "b", "a", "c"):
            front.store.append(stream, events(3), ExpectedVersion.ANY)
        handler = Handler()
        front.subscription("s", handler, batch_size=5).run_until_caught_up()
        assert handler.seen == list(front.store.read_all())
        assert [e.position for e in handler.seen] == [e.position for e in front.store.read_all()]

    def test_the_next_run_resumes_where_the_last_one_ended(self, front: Front) -> None:
        handler = Handler()
        for _ in range(3):
            front.store.append("a", events(2), ExpectedVersion.ANY)
            front.subscription("s", handler).run_until_caught_up()
        assert numbers(handler.seen) == [0, 1] * 3

    def test_each_name_has_a_checkpoint_of_its_own(self, front: Front) -> None:
        front.store.append("a", events(2), 0)
        first, second = Handler(), Handler()
        front.subscription("first", first).run_until_caught_up()
        front.subscription("second", second).run_until_caught_up()
        assert first.seen == second.seen == front.store.read("a")

    def test_appends_of_this_process_wake_a_subscription_at_once(self, front: Front) -> None:
        handler = Handler()
        with front.running(front.subscription("s", handler, poll_interval=NEVER)) as worker:
            for version in range(5):
                front.store.append("a", events(1), version)
                worker.wait_until_processed(timeout=PATIENCE)
                assert len(handler.seen) == version + 1
            with front.store.transaction() as transaction:
                transaction.append("b", events(2), 0)
            worker.wait_until_processed(timeout=PATIENCE)
            assert worker.state is LIVE
        assert worker.state is STOPPED
        assert len(handler.seen) == 7

    def test_looking_from_time_to_time_is_enough(self, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(WakeUps, "wake", lambda _: None)
        handler = Handler()
        with front.running(front.subscription("s", handler, poll_interval=0.01)) as worker:
            for version in range(3):
                front.store.append("a", events(1), version)
                worker.wait_until_processed(timeout=PATIENCE)
        assert len(handler.seen) == 3

    def test_only_certain_types_and_categories(self, front: Front) -> None:
        for stream in ("Order-1", "Order", "Orders-1", "Invoice-1"):
            front.store.append(stream, [Event(event_type="A"), Event(event_type="B"), Event(event_type="C")], 0)
        handler = Handler()
        worker = front.subscription("s", handler, event_types=["A", "C"], categories=["Order", "Invoice"])
        worker.run_until_caught_up()
        assert [(e.stream_id, e.event_type) for e in handler.seen] == [
            ("Order-1", "A"),
            ("Order-1", "C"),
            ("Invoice-1", "A"),
            ("Invoice-1", "C"),
        ]

    def test_the_checkpoint_moves_past_what_the_filter_leaves_out(self, front: Front) -> None:
        front.store.append("a", events(10), 0)
        worker = front.subscription("s", Handler(), event_types=["Never"])
        worker.run_until_caught_up()
        assert worker.status().position == list(front.store.read_all())[-1].position
        assert worker.status().positions_behind == 0

    def test_the_checkpoint_moves_past_several_windows_of_filtered_events(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handling, "WINDOW", 3)
        front.store.append("a", events(10), 0)
        handler = Handler()
        front.subscription("s", handler, categories=["Never"]).run_until_caught_up()
        worker = front.subscription("t", handler, batch_size=2)
        worker.run_until_caught_up()
        assert numbers(handler.seen) == list(range(10))

    def test_a_new_subscription_can_begin_above_a_position(self, front: Front) -> None:
        front.store.append("a", events(4), 0)
        middle = front.store.read("a")[1].position
        handler = Handler()
        front.subscription("s", handler, from_position=middle).run_until_caught_up()
        front.subscription("s", handler, from_position=0).run_until_caught_up()
        assert numbers(handler.seen) == [2, 3]

    def test_a_checkpoint_above_the_end_of_the_log_is_an_error_and_skips_nothing(self, front: Front) -> None:
        front.store.append("a", events(2), 0)
        end = front.store.last_position()
        handler = Handler()
        worker = front.subscription("s", handler, from_position=end + 100)  # As after the restore of an older log.
        above = rf"position {end + 100}, and the log ends at {end}: .* Remove the subscription"
        with pytest.raises(InvalidOperation, match=above):
            worker.run_until_caught_up()
        front.store.append("a", events(3), 2)
        with pytest.raises(InvalidOperation, match=rf"the log ends at {end + 3}"):
            worker.wait_until_processed(end + 1, timeout=PATIENCE)
        found = worker.status()
        assert found.state is SubscriptionState.FAILED
        assert f"position {end + 100}, and the log ends at {end + 3}" in str(found.error)
        worker.remove()
        front.subscription("s", handler, from_position=end).run_until_caught_up()
        assert numbers(handler.seen) == [0, 1, 2]

    def test_a_subscription_never_passes_an_open_append(self, front: Front) -> None:
        handler = Handler()
        with front.running(front.subscription("s", handler)) as worker:
            with front.store.transaction() as transaction:
                transaction.append("open", events(1), 0)
                front.store.append("after", events(1), 0)
                with pytest.raises(SubscriptionBehind) as behind:
                    worker.wait_until_processed(timeout=0.2)
                assert behind.value.name == "s"
                assert behind.value.reached == 0
                assert behind.value.position > 0
                assert "holds readers of the log back at position 0: " in str(behind.value)
                assert behind.value.held_back_by is not None
                assert "is a worker running?" not in str(behind.value)
            worker.wait_until_processed(timeout=PATIENCE)
        assert [e.stream_id for e in handler.seen] == ["open", "after"]

    def test_stop_ends_a_batch_with_the_event_at_work(self, front: Front) -> None:
        front.store.append("a", events(10), 0)
        seen: list[int] = []

        def handler(event: Event) -> None:
            seen.append(event.data["number"])
            if event.data["number"] == 3:
                worker.stop()

        worker = front.subscription("s", handler)
        worker.run()
        assert seen == [0, 1, 2, 3]
        assert worker.status().position == front.store.read("a")[3].position
        worker.run_until_caught_up()
        assert seen == list(range(10))

    def test_a_stop_that_comes_first_ends_the_next_run_at_once(self, front: Front) -> None:
        front.store.append("a", events(1), 0)
        handler = Handler()
        worker = front.subscription("s", handler)
        worker.stop()
        worker.run()
        assert handler.seen == []

    def test_one_subscription_object_is_one_worker(self, front: Front) -> None:
        with front.running(front.subscription("s", Handler())) as worker:
            front.store.append("a", events(1), 0)
            worker.wait_until_processed(timeout=PATIENCE)
            with pytest.raises(InvalidOperation, match="runs already"):
                worker.run_until_caught_up()

    def test_a_subscription_that_is_removed_meanwhile_says_so(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watching, "PRESENCE", 0.3)  # Those that are idle are asked for three times as often.
        worker = front.subscription("s", Handler(), poll_interval=0.01)
        with pytest.raises(InvalidOperation, match="was removed"), front.running(worker):
            front.store.append("a", events(1), 0)
            worker.wait_until_processed(timeout=PATIENCE)
            worker.remove()
            while worker.state is not FAILED:
                threading.Event().wait(0.005)
        assert worker.state is FAILED
        assert isinstance(worker.error, InvalidOperation)

    def test_a_removed_subscription_starts_from_scratch(self, front: Front) -> None:
        front.store.append("a", events(2), 0)
        handler = Handler()
        worker = front.subscription("s", handler)
        worker.run_until_caught_up()
        worker.remove()
        worker.run_until_caught_up()
        assert numbers(handler.seen) == [0, 1, 0, 1]


@pytest.mark.usefixtures("impatient")
class TestFailures:
    def test_an_event_is_tried_again(self, front: Front) -> None:
        front.store.append("a", events(6), 0)
        handler = Handler(at_0=2, at_3=4)
        front.subscription("s", handler).run_until_caught_up()
        assert numbers(handler.seen) == list(range(6))
        assert handler.calls == {0: 3, 1: 1, 2: 1, 3: 5, 4: 1, 5: 1}

    def test_after_its_attempts_a_subscription_stops_and_says_where_and_why(self, front: Front) -> None:
        front.store.append("a", events(6), 0)
        handler = Handler(at_3=5)
        worker = front.subscription("s", handler, attempts=3)
        with pytest.raises(SubscriptionFailed) as failed:
            worker.run()
        third = front.store.read("a")[3]
        assert (failed.value.name, failed.value.position) == ("s", third.position)
        assert failed.value.error == "ZeroDivisionError: number 3"
        assert isinstance(failed.value.__cause__, ZeroDivisionError)
        assert handler.calls[3] == 3
        assert worker.state is FAILED
        assert worker.error is failed.value
        status = worker.status()
        assert status.state is FAILED
        assert (status.error, status.error_position) == (failed.value.error, third.position)
        assert status.position == front.store.read("a")[2].position

    def test_every_worker_of_that_name_stops(self, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(WakeUps, "wake", lambda _: None)
        other = front.subscription("s", Handler(), poll_interval=NEVER)
        with pytest.raises(SubscriptionFailed, match="number 0"), front.running(other):
            while other.state is not LIVE:
                threading.Event().wait(0.005)
            front.store.append("a", events(1), 0)
            with pytest.raises(SubscriptionFailed):
                front.subscription("s", Handler(at_0=9), attempts=2).run()
            other._hint()
            while other.state is not FAILED:
                threading.Event().wait(0.005)

    def test_a_restarted_subscription_resumes_at_the_event_that_failed(self, front: Front) -> None:
        front.store.append("a", events(4), 0)
        handler = Handler(at_2=3)
        worker = front.subscription("s", handler, attempts=3)
        with pytest.raises(SubscriptionFailed):
            worker.run_until_caught_up()
        worker.run_until_caught_up()
        assert numbers(handler.seen) == [0, 1, 2, 3]
        assert worker.status().state is STOPPED
        assert worker.status().error is None

    def test_waiting_for_one_that_has_failed_ends_at_once(self, front: Front) -> None:
        front.store.append("a", events(1), 0)
        worker = front.subscription("s", Handler(at_0=9), attempts=1)
        with pytest.raises(SubscriptionFailed):
            worker.run()
        with pytest.raises(SubscriptionFailed, match="number 0"):
            worker.wait_until_processed(timeout=NEVER)

    def test_an_event_can_be_parked_instead(self, front: Front) -> None:
        front.store.append("a", events(6), 0)
        handler = Handler(at_1=9, at_4=9)
        worker = front.subscription("s", handler, attempts=2, on_failure="park")
        worker.run_until_caught_up()
        assert numbers(handler.seen) == [0, 2, 3, 5]
        stored = front.store.read("a")
        parked = worker.parked()
        assert [(e.position, e.stream_id, e.version, e.event_type) for e in parked] == [
            (stored[1].position, "a", 2, "Numbered"),
            (stored[4].position, "a", 5, "Numbered"),
        ]
        assert {(e.attempts, e.error) for e in parked} == {
            (2, "ZeroDivisionError: number 1"),
            (2, "ZeroDivisionError: number 4"),
        }
        assert worker.status().parked == 2
        assert worker.status().state is STOPPED

    def test_the_later_events_of_a_stream_are_parked_after_one_that_failed(self, front: Front) -> None:
        for stream in ("a", "b", "a", "b", "a"):
            front.store.append(stream, [Event(event_type="T", data={"number": stream})], ExpectedVersion.ANY)
        seen: list[Event] = []
        broken = {"a"}

        def handle(event: Event, *_: object) -> None:
            if event.stream_id in broken:
                raise ZeroDivisionError(event.stream_id)
            seen.append(event)

        options: dict[str, Any] = {"on_failure": "park-stream", "attempts": 1}
        front.subscription("s", handle, **options).run_until_caught_up()
        front.store.append("a", events(1), 3)
        front.store.append("b", events(1), 2)
        worker = front.subscription("s", handle, **options)
        worker.run_until_caught_up()
        assert [event.stream_id for event in seen] == ["b", "b", "b"]
        parked = worker.parked()
        assert [(event.stream_id, event.version, event.attempts) for event in parked] == [
            ("a", 1, 1),
            ("a", 2, 0),
            ("a", 3, 0),
            ("a", 4, 0),
        ]
        assert {event.error for event in parked[1:]} == {"not tried: an earlier event of its stream is parked"}
        broken.clear()
        with pytest.raises(InvalidOperation, match=f"retry the event at position {parked[0].position} first"):
            worker.retry_parked(parked[1].position)
        worker.retry_parked(parked[0].position)
        worker.drop_parked(parked[1].position)
        for each in parked[2:]:
            worker.retry_parked(each.position)
        assert worker.parked() == []
        front.store.append("a", events(1), 4)
        front.subscription("s", handle, **options).run_until_caught_up()
        assert [event.version for event in seen if event.stream_id == "a"] == [1, 3, 4, 5]

    def test_parked_events_are_retried_or_dropped(self, front: Front) -> None:
        front.store.append("a", events(3), 0)
        handler = Handler(at_0=2, at_2=2)
        worker = front.subscription("s", handler, attempts=1, on_failure="park")
        worker.run_until_caught_up()
        first, second = (event.position for event in worker.parked())
        with pytest.raises(ZeroDivisionError):
            worker.retry_parked(first)
        assert [event.position for event in worker.parked()] == [first, second]
        worker.retry_parked(first)
        worker.drop_parked(second)
        assert worker.parked() == []
        assert numbers(handler.seen) == [1, 0]
        for action in (worker.retry_parked, worker.drop_parked):
            with pytest.raises(InvalidOperation, match="no event parked"):
                action(first)

    def test_an_event_that_can_not_be_read_is_a_failure_as_well(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decode = handling.decode_events

        def decode_but(records: Any, **options: Any) -> list[Event]:
            found = decode(records, **options)
            if any(event.data["number"] == 2 for event in found):
                raise handling.DeserializationError("number 2", "it is damaged")
            return found

        monkeypatch.setattr(handling, "decode_events", decode_but)
        front.store.append("a", events(4), 0)
        handler = Handler()
        worker = front.subscription("s", handler, attempts=2, on_failure="park")
        worker.run_until_caught_up()
        assert numbers(handler.seen) == [0, 1, 3]
        assert [event.error for event in worker.parked()] == [
            "DeserializationError: number 2 can't be read: it is damaged"
        ]

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000])
    def test_whatever_an_error_says_can_be_kept(self, front: Front, text: str) -> None:
        def fail(_: Event) -> None:
            raise ValueError(text)

        front.store.append("a", events(1), 0)
        worker = front.subscription("s", fail, attempts=1, on_failure="park")
        worker.run_until_caught_up()
        (parked,) = worker.parked()
        assert parked.error.startswith("ValueError: ")
        assert len(parked.error) <= outages.MAX_ERROR + 10


@pytest.mark.usefixtures("impatient")
class TestProjections:
    def copies(self, front: Front) -> list[int]:
        return [event.data["position"] for event in front.store.read(COPIES)]

    def projection(self, front: Front, **options: Any) -> Any:
        return front.projection("copies", event_types=["Numbered"], **options)

    def test_effects_in_the_transaction_are_there_exactly_once(self, front: Front) -> None:
        front.store.append("a", events(7), 0)
        worker = self.projection(front, batch_size=3)
        for _ in range(2):
            worker.run_until_caught_up()
        assert self.copies(front) == [e.position for e in front.store.read("a")]

    def test_effects_are_there_exactly_once_when_handlers_fail_after_them(self, front: Front) -> None:
        handle = front.copy
        failing = Handler(at_0=1, at_3=3, at_4=1, at_9=2)

        def sometimes(event: Event, transaction: Any) -> Any:
            result = handle(event, transaction)
            if result is None:
                failing(event)
                return None
            return self.then(result, failing, event)

        front.store.append("a", events(10), 0)
        front.projection("copies", sometimes, event_types=["Numbered"]).run_until_caught_up()
        assert self.copies(front) == [e.position for e in front.store.read("a")]

    async def then(self, effect: Any, failing: Handler, event: Event) -> None:
        await effect
        failing(event)

    def test_an_error_that_stops_a_projection_takes_the_effects_of_its_event_along(self, front: Front) -> None:
        front.store.append("a", events(5), 0)
        handle = front.copy

        def fail_at_3(event: Event, transaction: Any) -> Any:
            if event.data["number"] == 3:
                raise ZeroDivisionError
            return handle(event, transaction)

        worker = front.projection("copies", fail_at_3, event_types=["Numbered"], attempts=2)
        with pytest.raises(SubscriptionFailed):
            worker.run_until_caught_up()
        assert self.copies(front) == [e.position for e in front.store.read("a")[:3]]
        worker = front.projection("copies", fail_at_3, event_types=["Numbered"], attempts=2, on_failure="park")
        worker.run_until_caught_up()
        assert self.copies(front) == [e.position for e in front.store.read("a") if e.data["number"] != 3]
        assert len(worker.parked()) == 1

    def test_a_rebuild_needs_to_know_its_tables(self, front: Front) -> None:
        with pytest.raises(InvalidArgument, match="tables"):
            self.projection(front).rebuild()


class TestWorkers:
    def test_workers_of_one_name_share_the_streams(self, front: Front) -> None:
        """Four at once, while events come: each event once, and those of a stream in their order."""
        lock = threading.Lock()
        seen: dict[str, list[int]] = defaultdict(list)

        def handler(event: Event) -> None:
            with lock:
                seen[event.stream_id].append(event.version)

        def work() -> None:
            front.subscription("s", handler, partitions=4, batch_size=5, poll_interval=0.01).run_until_caught_up()

        streams = [f"stream {number}" for number in range(12)]
        for _ in range(3):
            for stream in streams:
                front.store.append(stream, events(4), ExpectedVersion.ANY)
            workers = [threading.Thread(target=work) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(PATIENCE)
        assert seen == {stream: list(range(1, 13)) for stream in streams}

    def test_the_number_of_partitions_can_change_where_they_stand_together(self, front: Front) -> None:
        handler = Handler()
        for partitions in (1, 3, 2):
            front.store.append("a", events(1), ExpectedVersion.ANY)
            front.store.append("b", events(1), ExpectedVersion.ANY)
            worker = front.subscription("s", handler, partitions=partitions)
            worker.run_until_caught_up()
            assert worker.status().partitions == partitions
        assert len(handler.seen) == 6

    def test_the_number_of_partitions_can_not_change_while_they_stand_apart(self, front: Front) -> None:
        first, second = (next(f"s{n}" for n in range(99) if in_partition(f"s{n}", number, 2)) for number in (0, 1))
        front.store.append(first, events(1), 0)
        front.store.append(second, [Event(event_type="Numbered", data={"number": 7})], 0)
        with pytest.raises(SubscriptionFailed):
            front.subscription("s", Handler(at_7=9), partitions=2, attempts=1).run()
        handler = Handler()
        changed = front.subscription("s", handler, partitions=3)
        with pytest.raises(InvalidOperation, match="change the number then"):
            changed.run_until_caught_up()
        front.subscription("s", handler, partitions=2).run_until_caught_up()
        changed.run_until_caught_up()
        assert numbers(handler.seen) == [7]


class TestStatus:
    def test_statuses_say_how_far_behind_each_subscription_is(self, front: Front) -> None:
        assert front.statuses() == []
        front.store.append("a", events(3), 0)
        front.subscription("b", Handler()).run_until_caught_up()
        front.store.append("a", events(2), 3)
        front.subscription("a", Handler()).run_until_caught_up()
        last = front.store.read("a")[-1].position
        ahead, behind = front.statuses()
        assert (ahead.name, ahead.position, ahead.positions_behind, ahead.seconds_behind) == ("a", last, 0, 0.0)
        assert (behind.name, behind.position, behind.positions_behind) == ("b", last - 2, 2)
        assert behind.seconds_behind > 0
        assert ahead.state is behind.state is STOPPED
        assert (ahead.error, ahead.parked, ahead.rebuilt_to) == (None, 0, None)

    def test_a_subscription_at_the_end_of_the_log_is_live(self, front: Front) -> None:
        with front.running(front.subscription("s", Handler())) as worker:
            front.store.append("a", events(1), 0)
            worker.wait_until_processed(timeout=PATIENCE)
            assert worker.status().state is LIVE
        assert worker.status().state is STOPPED

    def test_a_subscription_that_never_ran_has_no_status(self, front: Front) -> None:
        worker = front.subscription("s", Handler())
        with pytest.raises(InvalidOperation, match="'s'"):
            worker.status()
        with pytest.raises(SubscriptionBehind, match=r"does not exist yet: is a worker running\?"):
            worker.wait_until_processed(timeout=0)
        assert worker.parked() == []


class TestInline:
    def test_the_read_model_is_right_when_the_append_returns(self, front: Front) -> None:
        handler = Handler()
        store = front.inline(handler)
        assert store.append("a", events(3), 0) == 3
        assert handler.seen == store.read("a")
        assert [(e.version, e.position) for e in handler.seen] == [(e.version, e.position) for e in store.read("a")]

    def test_a_handler_that_fails_refuses_the_append(self, front: Front) -> None:
        store = front.inline(Handler(at_1=1))
        with pytest.raises(ZeroDivisionError):
            store.append("a", events(2), 0)
        assert front.store.read("a") == []
        assert store.append("a", events(2), 0) == 2

    def test_events_that_are_there_already_are_not_handled_again(self, front: Front) -> None:
        handler = Handler()
        store = front.inline(handler)
        batch = events(2)
        for expected in (0, 0, ExpectedVersion.ANY):
            assert store.append("a", batch, expected) == 2
        assert len(handler.seen) == 2

    def test_an_inline_projection_applies_its_filter(self, front: Front) -> None:
        handler = Handler()
        store = front.inline(handler, categories=["Order"], event_types=["A"])
        for stream in ("Order-1", "Order"):
            store.append(stream, [Event(event_type="A"), Event(event_type="B")], 0)
        assert [(e.stream_id, e.event_type) for e in handler.seen] == [("Order-1", "A")]

    def test_an_inline_projection_is_part_of_the_transaction(self, front: Front) -> None:
        handler = Handler()
        store = front.inline(handler)
        with store.transaction() as transaction:
            transaction.append("a", events(1), 0)
            assert len(handler.seen) == 1
            transaction.append("b", events(1), 0)
        assert [e.stream_id for e in handler.seen] == [e.stream_id for e in store.read_all()] == ["a", "b"]

    def test_the_handler_of_an_inline_projection_can_append(self, front: Front) -> None:
        store = front.inline(front.copy, event_types=["Numbered"])
        store.append("a", events(2), 0)
        assert [e.data for e in store.read(COPIES)] == [copied(e).data for e in store.read("a")]


WRONG: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "x" * 256},
    {"name": 7},
    {"event_types": [7]},
    {"event_types": 7},
    {"categories": ["a-b"]},
    {"from_position": -1},
    {"partitions": 0},
    {"partitions": 65},
    {"batch_size": 0},
    {"attempts": 0},
    {"on_failure": "ignore"},
    {"poll_interval": 0},
    {"poll_interval": "1"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_arguments_are_refused_before_anything_happens(wrong: dict[str, Any]) -> None:
    arguments = {"name": "s", **wrong}
    with pytest.raises(InvalidArgument):
        Subscription(InMemoryEventStore(), arguments.pop("name"), print, **arguments)


def test_a_store_without_checkpoints_can_not_be_followed() -> None:
    store = InMemoryEventStore()
    with store.transaction() as transaction, pytest.raises(InvalidArgument, match="keeps no checkpoints"):
        Subscription(transaction, "s", print)
    with pytest.raises(InvalidArgument, match="keeps no checkpoints"):
        Projection(front_of_nothing(), "s", print)


def front_of_nothing() -> EventStore:
    return AsyncInMemoryEventStore()  # type: ignore[return-value]


def test_rebuilding_in_memory_says_what_is_missing() -> None:
    with pytest.raises(EventStoreError, match="a store in memory has none"):
        Projection(InMemoryEventStore(), "s", lambda *_: None, tables=["t"]).rebuild()


@pytest.mark.usefixtures("impatient")
def test_the_error_stays_in_the_status_until_its_event_is_handled(
    store: InMemoryEventStore | PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append("a", events(2), 0)
    between: list[str | None] = []
    retry = following.Follower.retry

    def watched(follower: following.Follower, failure: handling.HandlingFailed) -> Operation[None]:
        between.append(statuses(store)[0].error)
        yield from retry(follower, failure)

    monkeypatch.setattr(following.Follower, "retry", watched)
    Subscription(store, "s", Handler(at_1=3)).run_until_caught_up()
    assert between == [None, *["ZeroDivisionError: number 1"] * 2]
    assert statuses(store)[0].error is None


def test_ctrl_c_in_a_handler_leaves_the_event_for_the_next_run(store: InMemoryEventStore | PostgresEventStore) -> None:
    store.append("a", events(2), 0)
    seen: list[int] = []

    def interrupted(event: Event) -> None:
        seen.append(event.data["number"])
        if seen == [0, 1]:
            raise KeyboardInterrupt

    worker = Subscription(store, "s", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert worker.state is STOPPED
    worker.run_until_caught_up()
    assert seen == [0, 1, 0, 1]


def test_a_cancelled_task_leaves_the_event_for_the_next_run() -> None:
    store = AsyncInMemoryEventStore()
    seen: list[int] = []
    at_the_second = asyncio.Event()

    async def slow(event: Event) -> None:
        seen.append(event.data["number"])
        if seen == [0, 1]:
            at_the_second.set()
            await asyncio.Event().wait()

    async def cancel_at_the_second() -> None:
        await store.append("a", events(2), 0)
        worker = AsyncSubscription(store, "s", slow)
        task = asyncio.create_task(worker.run())
        await at_the_second.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.state is STOPPED
        await worker.run_until_caught_up()

    asyncio.run(cancel_at_the_second())
    assert seen == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", [Subscription, Projection, AsyncSubscription, AsyncProjection])
def test_the_signature_shows_every_option_with_its_default(kind: type) -> None:
    shown = inspect.signature(kind).parameters
    assert {name: shown[name].default for name in Options.__annotations__} == {
        "event_types": None,
        "categories": None,
        "from_position": 0,
        "partitions": 1,
        "batch_size": 1000,
        "attempts": 5,
        "on_failure": "stop",
        "poll_interval": 0.5,
    }
    assert list(inspect.signature(Settings).parameters) == list(Options.__annotations__)
    assert "options" not in shown


class PolledBeforeAFailover(InMemoryEventStore):
    """Polls are answered as by a server whose last five events were lost since."""

    def execute(self, request: Any) -> Any:
        reply = super().execute(request)
        if isinstance(request, PollSubscription):
            return reply._replace(safe=reply.safe + 5, highest=reply.highest + 5)
        return reply


def test_the_checkpoint_does_not_pass_events_that_a_failover_between_poll_and_batch_has_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handling, "OLD_SECONDS", -1)
    store = PolledBeforeAFailover()
    store.append("s", events(3), 0)
    handled: list[int] = []
    follower = Subscription(store, "w", lambda event: handled.append(event.position), poll_interval=0.01)
    with Front(store).running(follower):
        assert eventually(lambda: len(handled) == 3)
        assert follower.status().position <= 3
        store.append("s", events(1), 3)
        assert eventually(lambda: len(handled) == 4)
    assert handled == [1, 2, 3, 4]


@pytest.mark.not_on_citus("the positions of a coordinator end there")
@pytest.mark.parametrize("filtered", [True, False])
def test_a_new_subscription_gets_to_a_log_whose_positions_begin_far_above(
    postgres_event_store: PostgresEventStore, filtered: bool
) -> None:
    """As on a worker of Citus, each of which draws from a range of its own."""
    schema = postgres_event_store.statements.schema
    with postgres_event_store.transaction() as transaction:
        transaction.connection.execute(f"SELECT setval('{schema}.event_positions', {2**48})".encode())
    for number in range(3):
        postgres_event_store.append(f"Far-{number}", events(), 0)
    seen: list[int] = []
    options: Options = {"categories": "Near"} if filtered else {}
    follower = Subscription(postgres_event_store, "w", lambda event: seen.append(event.position), **options)
    follower.run_until_caught_up()
    assert seen == ([] if filtered else [2**48 + number for number in (1, 2, 3)])
    assert follower.status().position == 2**48 + 3
