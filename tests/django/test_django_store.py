"""A store on Django's connections: part of atomic(), and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import django.db
import psycopg
import pytest
from django.db import connections, transaction
from parcels.events import Parcel
from parcels.models import Note
from parcels.threads import Thread
from psycopg.pq import TransactionStatus

from eventstore import (
    AppendOutcomeUnknown,
    ConcurrencyError,
    Event,
    ExpectedVersion,
    InvalidArgument,
    InvalidOperation,
    SchemaError,
    StoreUnavailable,
)
from eventstore.contrib.django import DjangoEventStore, event_store, repository, snapshot_store

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")

_numbers = count()


def a_stream() -> str:
    return f"s-{uuid4()}"


def an_event(**data: Any) -> Event:
    return Event(event_type="Happened", data=data)


def a_note(using: str) -> str:
    return Note.objects.using(using).create(text=f"note {next(_numbers)}").text


def noted(text: str) -> bool:
    return Note.objects.filter(text=text).exists()


@pytest.fixture
def store(using: str) -> DjangoEventStore:
    return event_store(using)


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    """Each test leaves its connections as Django gave them."""
    yield
    for alias in ("default", "pooled", "server_side", "repeatable"):
        wrapper = connections[alias]
        assert not wrapper.in_atomic_block
        assert wrapper.connection is None or wrapper.connection.info.transaction_status == TransactionStatus.IDLE


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that the library sends; Django has cursors of another class."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def executed(cursor: psycopg.Cursor[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        if not type(cursor).__module__.startswith("django."):
            sent.append(str(query))
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", executed)
    return sent


class TestOutsideOfAtomic:
    def test_an_append_is_stored_by_itself(self, store: DjangoEventStore, other: psycopg.Connection) -> None:
        stream = a_stream()
        assert store.append(stream, [an_event(), an_event()], 0) == 2
        assert other.execute(
            'SELECT count(*) FROM "Event\'s store".events WHERE stream_id = %s', [stream]
        ).fetchall() == [(2,)]
        with pytest.raises(ConcurrencyError) as conflict:
            store.append(stream, [an_event()], 0)
        assert conflict.value.actual_version == 2

    def test_values_come_back_as_they_went(self, store: DjangoEventStore) -> None:
        """Django has its own ideas of JSON, times and numbers on its connections; they don't touch the store's."""
        zone = timezone(timedelta(hours=5, minutes=30))
        data = {
            "id": uuid4(),
            "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zone),
            "price": Decimal("1.50"),
            "n": {1, 2},
        }
        stream, event = a_stream(), Event(event_type="Happened", data=data, timestamp=datetime(2020, 1, 1, tzinfo=zone))
        store.append(stream, [event], 0)
        (read,) = store.read(stream)
        assert read.data == data
        assert read.data["at"].utcoffset() == timedelta(hours=5, minutes=30)
        assert (read.event_id, read.timestamp, read.timestamp.utcoffset()) == (
            event.event_id,
            event.timestamp,
            event.timestamp.utcoffset(),
        )
        assert isinstance(read.event_id, UUID)

    def test_the_log_can_be_read_outside_of_atomic(self, store: DjangoEventStore) -> None:
        before = max((event.position or 0 for event in store.read_all()), default=0)
        stream = a_stream()
        store.append(stream, [an_event(n=n) for n in range(5)], 0)
        assert [event.data["n"] for event in store.read_all(before, batch_size=2)] == list(range(5))

    def test_djangos_connection_prepares_no_statement(self, store: DjangoEventStore) -> None:
        """Django's connections may go through a PgBouncer that does not keep prepared statements."""
        for _ in range(10):
            store.append(a_stream(), [an_event()], 0)
        assert store.connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)

    def test_a_lost_connection_is_replaced_and_the_append_stored_once(
        self, store: DjangoEventStore, other: psycopg.Connection
    ) -> None:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [store.connection.info.backend_pid])
        stream = a_stream()
        assert store.append(stream, [an_event()], 0) == 1
        assert len(store.read(stream)) == 1

    def test_threads_have_connections_of_their_own(self, store: DjangoEventStore) -> None:
        stream, ready = a_stream(), threading.Barrier(4)

        def write() -> object:
            ready.wait(10)
            with suppress(ConcurrencyError):
                return store.append(stream, [an_event()], 0)

        results = [thread.result() for thread in [Thread(write) for _ in range(4)]]
        assert sorted(map(str, results)) == ["1", "None", "None", "None"]


class TestInsideAtomic:
    def test_an_append_inside_atomic_is_stored_with_the_block(
        self, store: DjangoEventStore, other: psycopg.Connection
    ) -> None:
        stream = a_stream()
        with transaction.atomic(using=store.using):
            note = a_note(store.using)
            assert store.append(stream, [an_event()], 0) == 1
            assert store.append(stream, [an_event()], 1) == 2
            assert [event.version for event in store.read(stream)] == [1, 2]
            assert other.execute('SELECT FROM "Event\'s store".events WHERE stream_id = %s', [stream]).fetchall() == []
        assert len(store.read(stream)) == 2
        assert noted(note)

    def test_an_append_inside_atomic_is_rolled_back_with_the_block_even_as_its_first_statement(
        self, store: DjangoEventStore
    ) -> None:
        stream = a_stream()
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=store.using):
            store.append(stream, [an_event()], 0)
            a_note(store.using)
            raise ZeroDivisionError
        assert store.read(stream) == []

    def test_an_inner_block_takes_its_events_with_it(self, store: DjangoEventStore) -> None:
        stream = a_stream()
        with transaction.atomic(using=store.using):
            store.append(stream, [an_event()], 0)
            with suppress(ZeroDivisionError), transaction.atomic(using=store.using):
                store.append(stream, [an_event()], 1)
                raise ZeroDivisionError
            assert store.append(stream, [an_event()], 1) == 2
        assert len(store.read(stream)) == 2

    def test_a_conflict_leaves_the_block_usable(self, store: DjangoEventStore) -> None:
        stream = a_stream()
        store.append(stream, [an_event()], 0)
        with transaction.atomic(using=store.using):
            with pytest.raises(ConcurrencyError):
                store.append(stream, [an_event()], 0)
            note = a_note(store.using)
            assert store.append(stream, [an_event()], 1) == 2
        assert noted(note)
        assert len(store.read(stream)) == 2

    def test_an_error_that_is_swallowed_does_not_take_the_block_with_it(
        self, store: DjangoEventStore, other: psycopg.Connection
    ) -> None:
        """PostgreSQL would answer the COMMIT with ROLLBACK, and Django would say nothing."""
        stream = a_stream()
        other.execute(
            """
            SELECT pg_advisory_xact_lock(hashtextextended(%s, tableoid::bigint)) FROM "Event's store".event_positions
            """,
            [stream],
        )
        with transaction.atomic(using=store.using):
            note = a_note(store.using)
            store.connection.execute("SET LOCAL lock_timeout = '20ms'")
            with suppress(StoreUnavailable):
                store.append(stream, [an_event()], 0)
            kept = a_stream()
            store.append(kept, [an_event()], 0)
        assert noted(note)
        assert len(store.read(kept)) == 1
        assert store.read(stream) == []

    def test_a_deadlock_is_a_conflict_and_leaves_the_block_usable(self) -> None:
        store = event_store()  # Once: it takes the server a second.
        first, second, both = a_stream(), a_stream(), threading.Barrier(2)

        def write(one: str, two: str) -> bool:
            with transaction.atomic(using=store.using):
                store.append(one, [an_event()], ExpectedVersion.ANY)
                both.wait(10)
                try:
                    store.append(two, [an_event()], ExpectedVersion.ANY)
                except ConcurrencyError:
                    a_note(store.using)
                    return False
                return True

        threads = [Thread(lambda: write(first, second)), Thread(lambda: write(second, first))]
        assert sorted(thread.result() for thread in threads) == [False, True]
        assert len(store.read(first)) + len(store.read(second)) == 3

    def test_a_block_that_has_failed_is_said_to_have(self, store: DjangoEventStore) -> None:
        note = a_note(store.using)
        with suppress(django.db.Error), transaction.atomic(using=store.using):
            with suppress(django.db.IntegrityError):
                Note.objects.using(store.using).create(text=note)
            with pytest.raises(InvalidOperation, match="failed earlier"):
                store.append(a_stream(), [an_event()], 0)
        with suppress(django.db.Error), transaction.atomic(using=store.using):
            with suppress(django.db.Error):
                connections[store.using].cursor().execute("SELECT 1 / 0")
            with pytest.raises(InvalidOperation, match="failed earlier"):
                store.append(a_stream(), [an_event()], 0)

    def test_a_block_that_django_will_roll_back_takes_nothing_more(self, store: DjangoEventStore) -> None:
        with transaction.atomic(using=store.using):
            with suppress(ZeroDivisionError), transaction.atomic(using=store.using, savepoint=False):
                raise ZeroDivisionError
            with pytest.raises(InvalidOperation, match="failed earlier"):
                store.append(a_stream(), [an_event()], 0)

    def test_a_lost_connection_is_the_stores_error(self, store: DjangoEventStore, other: psycopg.Connection) -> None:
        with suppress(django.db.Error), transaction.atomic(using=store.using):
            a_note(store.using)
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [store.connection.info.backend_pid])
            with pytest.raises(StoreUnavailable, match="rolled back"):
                store.append(a_stream(), [an_event()], 0)
        assert store.append(a_stream(), [an_event()], 0) == 1

    def test_autocommit_that_is_off_counts_as_a_transaction(self, store: DjangoEventStore) -> None:
        stream = a_stream()
        transaction.set_autocommit(False, using=store.using)
        try:
            store.append(stream, [an_event()], 0)
            transaction.rollback(using=store.using)
            assert store.read(stream) == []
            store.append(stream, [an_event()], 0)
            transaction.commit(using=store.using)
        finally:
            transaction.rollback(using=store.using)
            transaction.set_autocommit(True, using=store.using)
        assert len(store.read(stream)) == 1

    def test_an_old_snapshot_finds_the_conflict_and_stays_usable(self) -> None:
        store, stream = event_store("repeatable"), a_stream()
        with transaction.atomic(using="repeatable"):
            store.read(stream)  # The snapshot is of now.
            event_store().append(stream, [an_event()], 0)
            with pytest.raises(ConcurrencyError):
                store.append(stream, [an_event()], 0)
            note = a_note("repeatable")
        assert noted(note)


class TestItsOwnTransaction:
    def test_appends_and_the_orms_writes_are_stored_together(self, store: DjangoEventStore) -> None:
        one, two = a_stream(), a_stream()
        with store.transaction() as both:
            both.append(one, [an_event()], 0)
            both.append(two, [an_event()], 0)
            store.append(one, [an_event()], 1)  # The store itself takes part as well.
            note = a_note(store.using)
            assert both.connection is store.connection
        assert [len(store.read(stream)) for stream in (one, two)] == [2, 1]
        assert noted(note)
        with pytest.raises(ZeroDivisionError), store.transaction() as both:
            both.append(one, [an_event()], 2)
            unseen = a_note(store.using)
            raise ZeroDivisionError
        assert len(store.read(one)) == 2
        assert not noted(unseen)

    def test_a_transaction_within_atomic_is_a_savepoint(self, store: DjangoEventStore) -> None:
        stream = a_stream()
        with store.transaction() as outer:
            outer.append(stream, [an_event()], 0)
            with suppress(ZeroDivisionError), outer.transaction() as inner:
                inner.append(stream, [an_event()], 1)
                raise ZeroDivisionError
            assert outer.append(stream, [an_event()], 1) == 2
        assert len(store.read(stream)) == 2

    def test_the_orms_errors_pass_as_they_are(self, store: DjangoEventStore) -> None:
        note = a_note(store.using)
        with pytest.raises(django.db.IntegrityError), store.transaction():
            Note.objects.using(store.using).create(text=note)

    def test_a_failure_that_was_swallowed_is_not_forgotten(self, store: DjangoEventStore) -> None:
        stream, note = a_stream(), a_note(store.using)
        with pytest.raises(InvalidOperation, match="nothing of it was stored"), store.transaction() as both:
            both.append(stream, [an_event()], 0)
            with suppress(django.db.IntegrityError):
                Note.objects.using(store.using).create(text=note)
        with pytest.raises(InvalidOperation, match="nothing of it was stored"), store.transaction() as both:
            both.append(stream, [an_event()], 0)
            with suppress(psycopg.Error):
                both.connection.execute("SELECT 1 / 0")
        assert store.read(stream) == []

    def test_a_transaction_refuses_appends_after_its_end(self, store: DjangoEventStore) -> None:
        with store.transaction() as both:
            pass
        with pytest.raises(InvalidOperation, match="has ended"):
            both.append(a_stream(), [an_event()], 0)

    def test_a_lost_connection_before_the_commit_means_that_nothing_was_stored(
        self, store: DjangoEventStore, other: psycopg.Connection
    ) -> None:
        stream = a_stream()
        with pytest.raises(StoreUnavailable), store.transaction() as both:
            both.append(stream, [an_event()], 0)
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [both.connection.info.backend_pid])
            both.append(stream, [an_event()], 1)
        assert store.read(stream) == []

    def test_a_lost_answer_to_the_commit_is_reported(self, store: DjangoEventStore, other: psycopg.Connection) -> None:
        stream, event = a_stream(), an_event()
        with pytest.raises(AppendOutcomeUnknown) as unknown, store.transaction() as both:
            both.append(stream, [event], 0)
            pid = both.connection.info.backend_pid
            check = both._check  # The last that is done before the commit.

            def check_and_cut() -> None:
                check()
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

            both._check = check_and_cut  # type: ignore[method-assign]
        assert (unknown.value.stream_id, unknown.value.event_ids) == (stream, (event.event_id,))
        assert store.append(stream, [event], 0) == 1


class TestAnnouncements:
    def test_subscriptions_are_woken_after_the_commit_only(self, store: DjangoEventStore) -> None:
        woken = mock.Mock()
        with store.wakeups.calling(woken):
            with transaction.atomic(using=store.using):
                store.append(a_stream(), [an_event()], 0)
                woken.assert_not_called()
            woken.assert_called_once_with()
            with suppress(ZeroDivisionError), transaction.atomic(using=store.using):
                store.append(a_stream(), [an_event()], 0)
                raise ZeroDivisionError
            woken.assert_called_once_with()
            store.append(a_stream(), [an_event()], 0)
            assert woken.call_count == 2
            with store.transaction() as both:
                both.append(a_stream(), [an_event()], 0)
            assert woken.call_count == 3


class TestRepositories:
    def test_an_aggregate_is_saved_and_loaded_within_a_block(self, using: str) -> None:
        parcels = repository(Parcel, using)
        parcel = Parcel(uuid4())
        with transaction.atomic(using=using):
            parcel.post("Utrecht")
            parcels.save(parcel)
            assert parcels.load(parcel.id).destination == "Utrecht"
        parcels.update(parcel.id, lambda parcel: parcel.deliver("A. Turing"))
        assert parcels.load(parcel.id).signature == "A. Turing"

    def test_a_django_store_takes_few_statements(self, using: str, statements: list[str]) -> None:
        """Outside of a block one each; inside, a savepoint goes around it; in transaction() it needs none."""
        parcels, parcel = repository(Parcel, using), Parcel(uuid4())

        def sent(call: Callable[[], object]) -> int:
            statements.clear()
            call()
            return len(statements)

        parcel.post("Utrecht")
        assert sent(lambda: parcels.save(parcel)) == 1
        assert sent(lambda: parcels.load(parcel.id)) == 1  # a snapshot and the events since
        with transaction.atomic(using=using):
            parcel.deliver("A. Turing")
            assert sent(lambda: parcels.save(parcel)) == 3
            assert sent(lambda: parcels.load(parcel.id)) == 3
        with event_store(using).transaction() as both:
            assert sent(lambda: both.append(a_stream(), [an_event()], 0)) == 1

    def test_snapshots_are_taken_as_often_as_the_setting_says(self, using: str, settings_of: Any) -> None:
        parcel = Parcel(uuid4())
        for number in range(5):
            parcel.post(str(number))
        with settings_of(EVENTSTORE_SNAPSHOT_FREQUENCY=5):
            repository(Parcel, using).save(parcel)
        found = snapshot_store(using).load("Parcel", str(parcel.id), Parcel.class_schema())
        assert found is not None
        assert found.version == 5
        other = Parcel(uuid4())
        other.post("Delft")
        with settings_of(EVENTSTORE_SNAPSHOT_FREQUENCY=None):
            repository(Parcel, using).save(other)
        assert snapshot_store(using).load("Parcel", str(other.id), Parcel.class_schema()) is None

    def test_a_snapshot_that_fails_harms_nothing(self, using: str) -> None:
        parcels = repository(Parcel, using)
        parcel = Parcel(uuid4())
        parcel.post("Utrecht")
        with transaction.atomic(using=using):
            event_store(using).connection.execute('ALTER TABLE "Event\'s store".snapshots RENAME TO elsewhere')
            parcels.save(parcel)
            assert parcels.load(parcel.id).destination == "Utrecht"  # Its snapshot could not be looked for.
            event_store(using).connection.execute('ALTER TABLE "Event\'s store".elsewhere RENAME TO snapshots')
        assert parcels.exists(parcel.id)


class TestErrors:
    def test_a_missing_schema_is_named_and_the_block_stays_usable(self, using: str) -> None:
        store = DjangoEventStore(using, "nowhere")
        with transaction.atomic(using=using):
            for call in (lambda: store.append("s", [an_event()], 0), lambda: store.read("s")):
                with pytest.raises(SchemaError, match="nowhere"):
                    call()
            note = a_note(using)
        assert noted(note)

    def test_a_server_that_is_not_there(self) -> None:
        wrapper = connections.create_connection("default")
        wrapper.settings_dict = {**wrapper.settings_dict, "HOST": "/nowhere"}
        connections["gone"] = wrapper
        try:
            with pytest.raises(StoreUnavailable, match="no connection"):
                DjangoEventStore("gone", "eventstore").read("s")
            with (
                pytest.raises(StoreUnavailable, match="no connection"),
                DjangoEventStore("gone", "eventstore").transaction(),
            ):
                pass
        finally:
            del connections["gone"]

    def test_a_database_that_is_not_postgresql_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="'sqlite' is not a PostgreSQL"):
            event_store("sqlite").read("s")
        connections["sqlite"].close()

    def test_djangos_store_refuses_bind(self, store: DjangoEventStore) -> None:
        with pytest.raises(InvalidArgument, match="joins Django's transactions by itself"):
            store.bind(store.connection)
