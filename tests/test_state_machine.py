"""PostgreSQL against memory against a plain model: blocking stores, and async ones behind a blocking front."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from eventstore import (
    AsyncInMemoryEventStore,
    ConcurrencyError,
    EventStore,
    InMemoryEventStore,
    InMemorySnapshotStore,
    PostgresEventStore,
    PostgresSnapshotStore,
    SnapshotStore,
)
from eventstore.postgres import migrate
from eventstore.privacy import AsyncInMemorySubjectKeys, InMemorySubjectKeys
from eventstore.testing import EventLoopThread, SyncFromAsyncEventStore
from eventstore.testing.state_machine import StoreMachine
from eventstore.versions import StreamVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg_pool import ConnectionPool

    from eventstore import Event

EXAMPLES = int(os.environ.get("EVENTSTORE_TEST_EXAMPLES", "40"))
"""How many histories are tried; more where there is time."""


def check(machine: type[StoreMachine], examples: int = EXAMPLES, phases: Sequence[Phase] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            phases=phases,
            report_multiple_bugs=False,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize="CI" in os.environ,
            database=None,
        ),
    )


def test_postgres_memory_and_async_memory_are_like_the_model(pool: ConnectionPool, schema: str) -> None:
    with EventLoopThread() as thread, pool.connection() as admin:

        class Machine(StoreMachine):
            examples = 0

            def make_stores(self) -> dict[str, EventStore]:
                Machine.examples += 1
                self.schema = f"{schema}_{Machine.examples}"
                migrate(admin, self.schema)
                keys, async_keys = InMemorySubjectKeys, AsyncInMemorySubjectKeys()
                return {
                    "memory": InMemoryEventStore(subject_keys=keys()),
                    "postgres": PostgresEventStore(pool, self.schema, subject_keys=keys()),
                    "async memory": SyncFromAsyncEventStore(AsyncInMemoryEventStore(subject_keys=async_keys), thread),
                }

            def make_snapshot_stores(self) -> dict[str, SnapshotStore]:
                return {"memory": InMemorySnapshotStore(), "postgres": PostgresSnapshotStore(pool, self.schema)}

            def teardown(self) -> None:
                super().teardown()
                admin.execute("SET client_min_messages = warning")
                admin.execute(f'DROP SCHEMA "{self.schema}" CASCADE')

        check(Machine)


class Forgetful(InMemoryEventStore):
    """Answers a conflict as a success, and stores nothing."""

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        try:
            return super().append(stream_id, events, expected_version)
        except ConcurrencyError as error:
            return error.actual_version or 0


def under_another_id(event: Event) -> Event:
    """The same event, of whatever class."""
    other = copy.copy(event)
    vars(other)["event_id"] = uuid4()
    return other


class Doubling(InMemoryEventStore):
    """Does not know again what it has stored."""

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        known = (
            {event.event_id for event in self.read(stream_id)} if isinstance(stream_id, str) and stream_id else set()
        )
        if expected_version == -1 and any(event.event_id in known for event in events):
            return super().append(stream_id, [under_another_id(event) for event in events], -1)
        return super().append(stream_id, events, expected_version)


class Inclusive(InMemoryEventStore):
    """Reads one event too many."""

    def read(self, stream_id: str, from_version: int = 0, *rest, **options) -> list[Event]:
        lower = from_version - 1 if type(from_version) is int and 3 < from_version < 100 else from_version
        return super().read(stream_id, lower, *rest, **options)


@pytest.mark.parametrize("broken", [Forgetful, Doubling, Inclusive])
def test_a_broken_store_is_found(broken: type[InMemoryEventStore]) -> None:
    class Machine(StoreMachine):
        def make_stores(self) -> dict[str, EventStore]:
            return {"broken": broken()}

    with pytest.raises(AssertionError, match="broken: "):
        check(Machine, examples=2000, phases=[Phase.generate])  # Found in some; once in thirty runs not in 500.
