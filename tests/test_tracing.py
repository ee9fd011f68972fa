"""Traces: what caused what, across streams."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from fronts import AsyncFront, Front
from psycopg.conninfo import make_conninfo

from eventstore import Event, ExpectedVersion, InvalidArgument, PostgresEventStore, tracing
from eventstore.context import causing
from eventstore.postgres import migrate
from eventstore.tracing import Trace, async_trace, trace

ANY = ExpectedVersion.ANY


def traced(front: Front, id: UUID | str) -> Trace:  # noqa: A002
    if isinstance(front, AsyncFront):
        return front._thread.run(async_trace(front.followed, id))
    return trace(front.followed, id)


def append(front: Front, event_type: str, cause: Event | None = None, **metadata: Any) -> Event:
    stream_id = f"S-{uuid4()}"
    event = Event(event_type=event_type, metadata=metadata)
    if cause is None:
        front.store.append(stream_id, [event], 0)
    else:
        with causing(cause):
            front.store.append(stream_id, [event], 0)
    return front.store.read(stream_id)[0]


def tree(found: Trace) -> list[tuple[int, str]]:
    return [(depth, event.event_type) for depth, event in found.tree()]


TREE = [(0, "A"), (1, "B"), (2, "C"), (1, "D")]


@pytest.mark.parametrize("correlation", ["request-1", UUID(int=7), str(UUID(int=7)), None, "x" * 200])
def test_a_trace_is_found_from_each_of_its_events_and_from_its_correlation(front: Front, correlation: Any) -> None:
    for number in range(3):
        append(front, "noise", correlation_id=f"request-1{number}")
        append(front, "noise", user="request-1")
    a = append(front, "A", **({} if correlation is None else {"correlation_id": correlation}))
    b = append(front, "B", a)
    d = append(front, "D", a)
    c = append(front, "C", b)
    for event in (a, b, c, d):
        assert tree(traced(front, event.event_id)) == TREE
        assert tree(traced(front, str(event.event_id))) == TREE
    if correlation is not None:
        assert tree(traced(front, correlation)) == TREE
    assert traced(front, a.event_id).complete


def test_causes_without_a_correlation_are_followed_both_ways(front: Front) -> None:
    a = append(front, "A")
    b = append(front, "B", causation_id=a.event_id)
    c = append(front, "C", causation_id=str(b.event_id))
    for event in (a, b, c):
        assert tree(traced(front, event.event_id)) == [(0, "A"), (1, "B"), (2, "C")]


def test_a_cause_that_is_no_event_of_the_store_stands_at_the_top(front: Front) -> None:
    append(front, "A", causation_id="message-1", correlation_id="c")
    append(front, "B", causation_id=uuid4(), correlation_id="c")
    assert tree(traced(front, "c")) == [(0, "A"), (0, "B")]


def test_events_that_cause_each_other_are_each_shown_once(front: Front) -> None:
    ids = [uuid4(), uuid4()]
    events = [
        Event(event_type="A", event_id=ids[0], metadata={"causation_id": ids[1]}),
        Event(event_type="B", event_id=ids[1], metadata={"causation_id": ids[0]}),
        Event(event_type="C", metadata={"causation_id": ids[0]}),
    ]
    front.store.append("S-1", events, 0)
    assert sorted(kind for _, kind in tree(traced(front, ids[0]))) == ["A", "B", "C"]


def test_what_only_mentions_an_id_does_not_belong_to_it(front: Front) -> None:
    wanted = append(front, "A", correlation_id="c")
    append(front, "B", note={"correlation_id": "c"})
    append(front, "B", correlation_id=["c"])
    append(front, "B", correlation_id="cc")
    assert tree(traced(front, wanted.event_id)) == [(0, "A")]


def test_an_unknown_id_has_no_events(front: Front) -> None:
    append(front, "A", correlation_id="c")
    assert traced(front, uuid4()).events == ()
    assert traced(front, "what").events == ()


def test_a_long_trace_is_cut_and_says_so(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_EVENTS", 5)
    events = [Event(event_type="A", metadata={"correlation_id": "c"}) for _ in range(6)]
    front.store.append("S-1", events[:5], 0)
    assert traced(front, "c").complete
    front.store.append("S-1", events[5:], 5)
    found = traced(front, "c")
    assert (len(found.events), found.complete) == (5, False)


@pytest.mark.parametrize("wrong", ["", "a\0b", 7])
def test_an_invalid_id_is_refused(front: Front, wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        traced(front, wrong)


def test_a_store_that_answers_no_requests_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(InvalidArgument, match="object has no traces"):
        trace(wrong, "c")


def test_a_schema_is_made_and_read_whatever_the_sessions_take_a_backslash_for(dsn: str, schema: str) -> None:
    there = make_conninfo(dsn, options="-c standard_conforming_strings=off")
    name = f"{schema}_backslash"
    with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
        try:
            migrate(there, name)
            with PostgresEventStore.connect(there, name) as store:
                store.append("s", [Event(event_type="T", metadata={"correlation_id": "c"})], 0)
                assert len(trace(store, "c").events) == 1
            indexes = "SELECT replace(indexdef, %s, '') FROM pg_indexes WHERE schemaname = %s ORDER BY 1"
            made, usual = (connection.execute(indexes, (each, each)).fetchall() for each in (name, schema))
            assert made == usual
        finally:
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())
