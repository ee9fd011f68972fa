"""Spans and metrics, as the SDK's exporters in memory get them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fronts import AsyncFront, Front
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from eventstore import (
    Aggregate,
    AppendOutcomeUnknown,
    ConcurrencyError,
    Event,
    EventStore,
    ExpectedVersion,
    InMemoryEventStore,
    InMemorySnapshotStore,
    InvalidArgument,
    PostgresEventStore,
    Projection,
    Repository,
    SubscriptionFailed,
    batched,
    handles,
)
from eventstore.contrib.opentelemetry import instrument
from eventstore.core import operations
from eventstore.core.operations import ConnectionLost
from eventstore.core.requests import Append

ANY = ExpectedVersion.ANY


class TelemetryAdded(Event):
    number: int


class TelemetrySum(Aggregate["TelemetrySum"]):
    total: int = 0

    def add(self, number: int) -> None:
        self._record(TelemetryAdded(number=number))

    @handles(TelemetryAdded)
    def _added(self, event: TelemetryAdded) -> None:
        self.total += event.number


class Telemetry:
    """What was exported."""

    def __init__(self, **options: Any) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(**options)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])

    def instrument(self, store: Any) -> None:
        instrument(store, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[str, Any]:
        """The points of each metric: the sum or the value by the labels' values."""
        data: Any = self._reader.get_metrics_data()
        return {
            metric.name: {
                ",".join(str(label) for label in point.attributes.values()): getattr(point, "value", None)
                if hasattr(point, "value")
                else point.sum
                for point in metric.data.data_points
            }
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    found = Telemetry()
    yield found
    found.meters.shutdown()


def test_an_append_is_a_span_whose_traceparent_is_in_the_metadata(front: Front, telemetry: Telemetry) -> None:
    telemetry.instrument(front.followed)
    front.store.append("Order-7", [Event(event_type="T", data={"secret": "s3cret"}), Event(event_type="U")], 0)
    (span,) = telemetry.spans("append Order")
    assert span.kind is SpanKind.PRODUCER
    assert dict(span.attributes or {}) == {
        "messaging.system": "eventstore",
        "messaging.operation.name": "append",
        "messaging.operation.type": "send",
        "messaging.destination.name": "Order",
        "eventstore.stream.id": "Order-7",
    }
    assert span.context is not None
    expected = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
    assert span.context.trace_flags & 1
    assert [event.metadata["traceparent"] for event in front.store.read("Order-7")] == [expected] * 2
    assert telemetry.metrics()["eventstore.events.appended"] == {"T": 1, "U": 1}
    assert "s3cret" not in span.to_json()


def test_events_that_were_stored_before_are_not_counted_again(front: Front, telemetry: Telemetry) -> None:
    telemetry.instrument(front.followed)
    event = Event(event_type="T", event_id=uuid4())
    for _ in range(2):
        front.store.append("Order-7", [event], 0)
    assert telemetry.metrics()["eventstore.events.appended"] == {"T": 1}


def test_transactions_are_watched_as_their_store_is(front: Front, telemetry: Telemetry) -> None:
    telemetry.instrument(front.followed)
    with front.store.transaction() as transaction:
        transaction.append("Order-7", [Event(event_type="T")], 0)
    assert len(telemetry.spans("append Order")) == 1


def test_a_batch_to_many_streams_is_one_span(front: Front, telemetry: Telemetry) -> None:
    telemetry.instrument(front.followed)
    front.store.append_many([("Order-1", [Event(event_type="T")], 0), ("Mail-1", [Event(event_type="T")], 0)])
    assert len(telemetry.spans("append batch")) == 1
    assert front.store.read("Mail-1")[0].metadata["traceparent"]
    assert telemetry.metrics()["eventstore.events.appended"] == {"T": 2}


def test_a_handler_of_batches_has_a_span_with_a_link_for_each_event(telemetry: Telemetry) -> None:
    store = InMemoryEventStore()
    telemetry.instrument(store)
    for number in range(3):
        store.append(f"Order-{number}", [Event(event_type="T")], 0)
    Projection(store, "totals", batched(lambda *_: None)).run_until_caught_up()
    (span,) = telemetry.spans("handle totals")
    assert len(span.links) == 3
    assert dict(span.attributes or {})["messaging.batch.message_count"] == 3
    assert telemetry.metrics()["eventstore.events.handled"] == {"totals": 3}


def test_a_conflict_is_a_failed_span_and_is_counted(front: Front, telemetry: Telemetry) -> None:
    telemetry.instrument(front.followed)
    with pytest.raises(ConcurrencyError):
        front.store.append("Order-7", [Event(event_type="T")], 3)
    (span,) = telemetry.spans("append Order")
    assert dict(span.attributes or {})["error.type"] == "ConcurrencyError"
    assert not span.events
    assert telemetry.metrics()["eventstore.append.conflicts"] == {"": 1}


def test_a_handlers_span_is_linked_to_the_appenders_even_if_that_was_not_sampled(
    front: Front, telemetry: Telemetry
) -> None:
    unsampled = Telemetry(sampler=ALWAYS_OFF)
    unsampled.instrument(front.followed)
    front.store.append("Order-7", [Event(event_type="T")], 0)
    traceparent = front.store.read("Order-7")[0].metadata["traceparent"]
    assert not int(traceparent[-2:], 16) & 1
    telemetry.instrument(front.followed)
    front.subscription("mails", lambda _: None).run_until_caught_up()
    (span,) = telemetry.spans("handle mails")
    (link,) = span.links
    assert f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-{link.context.trace_flags:02x}" == traceparent
    assert span.kind is SpanKind.CONSUMER
    assert dict(span.attributes or {})["messaging.consumer.group.name"] == "mails"
    assert telemetry.metrics()["eventstore.events.handled"] == {"mails": 1}


def test_an_event_without_a_traceparent_is_handled_in_a_span_without_links(front: Front, telemetry: Telemetry) -> None:
    front.store.append("Order-7", [Event(event_type="T", metadata={"traceparent": 7})], 0)
    telemetry.instrument(front.followed)
    front.subscription("mails", lambda _: None).run_until_caught_up()
    (span,) = telemetry.spans("handle mails")
    assert not span.links


def test_a_failed_handler_is_a_failed_span_without_the_errors_text(front: Front, telemetry: Telemetry) -> None:
    def fail(*_: object) -> None:
        raise ValueError("s3cret")

    telemetry.instrument(front.followed)
    front.store.append("Order-7", [Event(event_type="T")], 0)
    with pytest.raises(SubscriptionFailed):
        front.subscription("mails", fail, attempts=1).run_until_caught_up()
    front.subscription("parks", fail, attempts=1, on_failure="park").run_until_caught_up()
    (span,) = telemetry.spans("handle mails")
    assert dict(span.attributes or {})["error.type"] == "ValueError"
    assert "s3cret" not in span.to_json()
    assert telemetry.metrics()["eventstore.events.parked"] == {"parks": 1}
    assert "eventstore.events.handled" not in telemetry.metrics()


def test_lag_is_measured_when_metrics_are_collected(front: Front, telemetry: Telemetry) -> None:
    if isinstance(front, AsyncFront):
        pytest.skip("only a blocking store can be asked while metrics are collected")
    telemetry.instrument(front.followed)
    front.subscription("mails", lambda _: None).run_until_caught_up()
    front.store.append("Order-7", [Event(event_type="T")], 0)
    assert telemetry.metrics()["eventstore.subscription.lag"] == {"mails": 1}
    front.subscription("mails", lambda _: None).run_until_caught_up()
    found = telemetry.metrics()
    assert found["eventstore.subscription.lag"] == {"mails": 0}
    assert found["eventstore.subscription.lag.duration"] == {"mails": 0}
    assert found["eventstore.append.open.age"] == {"": 0}


def test_a_load_says_how_much_it_replayed_and_if_a_snapshot_helped(telemetry: Telemetry) -> None:
    store, snapshots = InMemoryEventStore(), InMemorySnapshotStore()
    telemetry.instrument(store)
    sums = Repository(store, TelemetrySum, snapshots, 3)
    one = TelemetrySum("1")
    for _ in range(2):
        one.add(1)
    sums.save(one)
    sums.load("1")
    one.add(1)
    sums.save(one)
    sums.load("1")
    spans = [dict(span.attributes or {}) for span in telemetry.spans("load TelemetrySum")]
    assert [(s["eventstore.load.events"], s["eventstore.load.from_snapshot"]) for s in spans] == [(2, False), (0, True)]
    found = telemetry.metrics()
    assert found["eventstore.load.events"] == {"TelemetrySum": 2}
    assert found["eventstore.load.snapshots"] == {"TelemetrySum,False": 1, "TelemetrySum,True": 1}


def test_an_update_that_met_a_conflict_counts_a_retry(telemetry: Telemetry) -> None:
    store = InMemoryEventStore()
    telemetry.instrument(store)
    sums = Repository(store, TelemetrySum)
    one = TelemetrySum("1")
    one.add(1)
    sums.save(one)
    others = [1]

    def change(each: TelemetrySum) -> None:
        if others:
            store.append("TelemetrySum-1", [TelemetryAdded(number=others.pop())], ANY)
        each.add(1)

    assert sums.update("1", change).total == 3
    assert telemetry.metrics()["eventstore.retries"] == {"": 1}


class Losing(InMemoryEventStore):
    """A store whose answers to the first appends are lost."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost = lost

    def execute(self, request: Any) -> Any:
        reply = super().execute(request)
        if isinstance(request, Append) and self.lost:
            self.lost -= 1
            raise ConnectionLost("lost", sessions=[0])
        return reply


def test_a_lost_answer_is_counted_by_what_became_of_it(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "FIRST_PAUSE", 0.001)
    resolved = Losing(2)
    telemetry.instrument(resolved)
    resolved.append("Order-7", [Event(event_type="T")], 0)
    found = telemetry.metrics()
    assert found["eventstore.append.outcomes"] == {"resolved": 1}
    assert found["eventstore.retries"] == {"": 2}
    unknown = Losing(10**6)
    unknown.timeout = 0.05
    telemetry.instrument(unknown)
    with pytest.raises(AppendOutcomeUnknown):
        unknown.append("Order-7", [Event(event_type="T")], 0)
    assert telemetry.metrics()["eventstore.append.outcomes"] == {"resolved": 1, "unknown": 1}


def test_a_rebuild_is_a_span(pool: Any, schema: str, telemetry: Telemetry) -> None:
    store = PostgresEventStore(pool, schema)
    telemetry.instrument(store)
    with pool.connection() as connection:
        connection.execute(f"CREATE TABLE {schema}.totals (n int)")
    projection = Projection(store, "totals", lambda *_: None, tables=[f"{schema}.totals"])
    projection.run_until_caught_up()
    projection.rebuild()
    assert len(telemetry.spans("rebuild totals")) == 1


def test_only_a_store_outside_of_a_transaction_can_be_instrumented() -> None:
    store = InMemoryEventStore()
    wrong: Any = object()
    with store.transaction() as transaction, pytest.raises(InvalidArgument, match="not in a transaction"):
        instrument(transaction)
    with pytest.raises(InvalidArgument, match="object can't be instrumented"):
        instrument(wrong)


def test_nobody_imports_it_who_does_not_ask_for_it() -> None:
    program = "import sys, eventstore.health, eventstore.cli.following; assert 'opentelemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_store_that_is_watched_no_more_reports_nothing(telemetry: Telemetry) -> None:
    store: EventStore = InMemoryEventStore()
    telemetry.instrument(store)
    store.observe(None)
    store.append("Order-7", [Event(event_type="T")], 0)
    assert telemetry.spans("append Order") == []
    assert store.read("Order-7")[0].metadata == {}
