"""Spans and metrics of OpenTelemetry: ``instrument(store)``. docs/seeing.md lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from eventstore import __version__
from eventstore.core.asynchronous import AsyncRequestStore
from eventstore.core.blocking import FollowableStore, RequestStore
from eventstore.errors import AppendOutcomeUnknown, ConcurrencyError, InvalidArgument
from eventstore.event import Event
from eventstore.health import Health, SubscriptionHealth, check
from eventstore.observing import Appending, Loading, appending

if find_spec("opentelemetry") is None:
    raise ImportError("eventstore.contrib.opentelemetry needs opentelemetry-api: pip install 'pg-eventstore[otel]'")

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from eventstore.store import AsyncEventStore, EventStore

_NAME = "eventstore"
_PROPAGATOR = TraceContextTextMapPropagator()
_Callback: TypeAlias = "Callable[[CallbackOptions], list[Observation]]"
_SYSTEM = {"messaging.system": "eventstore"}


def instrument(
    store: EventStore | AsyncEventStore,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Let a store report spans and metrics to OpenTelemetry, with its transactions, repositories and subscriptions.

    Call it once for each store. Each append puts the ``traceparent`` of its span into the metadata of its events, and
    the span of each handler is linked to it. Spans hold ids, names and numbers, never data, a DSN, or an error's text.

    The lag of subscriptions is found out by a ``health.check`` whenever metrics are collected. That needs a blocking
    store.

    Args:
        store: a store that is not in a transaction.
        tracer_provider: where spans go; by default the global provider.
        meter_provider: where metrics go; by default the global provider.

    Raises:
        InvalidArgument: the store can't be watched.
    """
    if not isinstance(store, (RequestStore, AsyncRequestStore)) or store.in_transaction:
        raise InvalidArgument(
            f"a {type(store).__name__} can't be instrumented: give a store that is not in a transaction"
        )
    tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
    meter = metrics.get_meter(_NAME, __version__, meter_provider)
    store.observe(_Observer(tracer, meter))
    if isinstance(store, FollowableStore):
        _observe_lag(meter, store)


class _Observer:
    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        counter = meter.create_counter
        self._appended = counter("eventstore.events.appended", "{event}", "Events appended, by type.")
        self._conflicts = counter("eventstore.append.conflicts", "{conflict}", "Appends that met another version.")
        self._retries = counter("eventstore.retries", "{retry}", "Appends sent again, and updates decided again.")
        self._outcomes = counter("eventstore.append.outcomes", "{append}", "Appends whose answer was lost, by outcome.")
        self._loaded = meter.create_histogram("eventstore.load.events", "{event}", "Events that a load replayed.")
        self._snapshots = counter("eventstore.load.snapshots", "{load}", "Loads, by whether a snapshot was used.")
        self._handled = counter("eventstore.events.handled", "{event}", "Events handled, by subscription.")
        self._parked = counter("eventstore.events.parked", "{event}", "Events parked, by subscription.")

    @contextmanager
    def _span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, Any], links: Iterable[Link] = ()
    ) -> Generator[Span, None, None]:
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=attributes,
            links=[*links],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    @contextmanager
    def appending(self, stream_id: str | None) -> Generator[Appending, None, None]:
        attributes = _SYSTEM | {"messaging.operation.name": "append", "messaging.operation.type": "send"}
        category = "batch"
        if stream_id is not None:
            category = _category(stream_id)
            attributes |= {"messaging.destination.name": category, "eventstore.stream.id": str(stream_id)}
        seen = Appending()
        try:
            with self._span(f"append {category}", SpanKind.PRODUCER, attributes):
                headers: dict[str, str] = {}
                _PROPAGATOR.inject(headers)
                with appending(headers) as seen:
                    yield seen
        except ConcurrencyError:
            self._conflicts.add(1)
            raise
        except AppendOutcomeUnknown:
            self._outcomes.add(1, {"outcome": "unknown"})
            raise
        else:
            if seen.lost_answers:
                self._outcomes.add(1, {"outcome": "resolved"})
        finally:
            if seen.lost_answers:
                self._retries.add(seen.lost_answers)

    def appended(self, event_types: list[str]) -> None:
        for event_type, count in Counter(event_types).items():
            self._appended.add(count, {"eventstore.event.type": event_type})

    @contextmanager
    def loading(self, category: str) -> Generator[Loading, None, None]:
        attributes = {"db.operation.name": "load", "db.collection.name": category}
        with self._span(f"load {category}", SpanKind.CLIENT, attributes) as span:
            seen = Loading()
            yield seen
            span.set_attribute("eventstore.load.events", seen.events)
            span.set_attribute("eventstore.load.from_snapshot", seen.from_snapshot)
        labels = {"db.collection.name": category}
        self._loaded.record(seen.events, labels)
        self._snapshots.add(1, {**labels, "eventstore.load.from_snapshot": seen.from_snapshot})

    @contextmanager
    def handling(self, subscription: str, events: Sequence[Event]) -> Generator[None, None, None]:
        attributes: dict[str, str | int] = {
            **_SYSTEM,
            "messaging.operation.name": "handle",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": subscription,
        }
        if len(events) == 1:
            (event,) = events
            attributes |= {
                "messaging.destination.name": _category(event.stream_id),
                "messaging.message.id": str(event.event_id),
                "eventstore.event.type": event.event_type,
                "eventstore.stream.id": event.stream_id,
            }
        else:
            attributes["messaging.batch.message_count"] = len(events)
        links = [link for event in events for link in _links(event)]
        with self._span(f"handle {subscription}", SpanKind.CONSUMER, attributes, links):
            yield
        self._handled.add(len(events), {"messaging.consumer.group.name": subscription})

    @contextmanager
    def rebuilding(self, subscription: str) -> Generator[None, None, None]:
        attributes = {"messaging.consumer.group.name": subscription}
        with self._span(f"rebuild {subscription}", SpanKind.INTERNAL, attributes):
            yield

    def parked(self, subscription: str) -> None:
        self._parked.add(1, {"messaging.consumer.group.name": subscription})

    def retried(self) -> None:
        self._retries.add(1)


def _category(stream_id: object) -> str:
    """Not the stream's id: names of spans are few."""
    return str(stream_id).partition("-")[0]


def _links(event: Event) -> Iterable[Link]:
    headers = {
        name: value for name in ("traceparent", "tracestate") if isinstance(value := event.metadata.get(name), str)
    }
    context = trace.get_current_span(_PROPAGATOR.extract(headers)).get_span_context() if headers else None
    return [Link(context)] if context is not None and context.is_valid else []


def _observe_lag(meter: metrics.Meter, store: FollowableStore) -> None:
    """Gauges that share one look at the store for each collection."""
    looks: list[Health] = []

    def looked(first: bool = False) -> Health:
        if first or not looks:
            looks[:] = [check(store)]
        return looks[0]

    def of_each(value: Callable[[SubscriptionHealth], float], *, first: bool = False) -> _Callback:
        def observed(_: CallbackOptions) -> list[Observation]:
            found = looked(first=first).subscriptions
            return [Observation(value(each), {"messaging.consumer.group.name": each.name}) for each in found]

        return observed

    def age(_: CallbackOptions) -> list[Observation]:
        now = datetime.now(UTC)
        sessions = [each for each in looked().sessions if each.holds == "readers" and each.since is not None]
        return [Observation(max([(now - s.since).total_seconds() for s in sessions if s.since], default=0.0))]

    gauge = meter.create_observable_gauge
    gauge("eventstore.subscription.lag", [of_each(lambda each: each.positions_behind, first=True)], "{event}", "Lag.")
    gauge("eventstore.subscription.lag.duration", [of_each(lambda each: each.seconds_behind)], "s", "Lag by time.")
    gauge("eventstore.append.open.age", [age], "s", "Age of the oldest append that holds readers back.")
