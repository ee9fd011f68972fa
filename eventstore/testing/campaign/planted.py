"""Bugs to plant, which the campaign must find: in the database by SQL, or in the client by a store that errs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from eventstore import Event, PostgresEventStore, PostgresTransaction, StoreUnavailable
from eventstore.codec.record import EVENT_ID, POSITION, VERSION
from eventstore.core.operations import ConnectionLost
from eventstore.core.requests import Append, ReadStream, SessionsGone, Stored
from eventstore.event import new_event_id
from eventstore.testing.campaign import faults
from eventstore.testing.campaign.appends import Interrupted
from eventstore.testing.campaign.followers import ELSEWHERE, MOODS_PARK
from eventstore.testing.campaign.forgetting import KEEPS_KEYS
from eventstore.versions import StreamVersion


@dataclass(frozen=True, slots=True)
class Bug:
    """``shows_as``: the anomalies, one of which is to be found. ``faults``: those that bring it out."""

    shows_as: Sequence[str]
    faults: Sequence[str]
    statements: Sequence[str] = ()
    changes: Sequence[tuple[str, str, str]] = ()
    """To functions of the schema: a name, a text in it, and what stands there instead."""
    store: type[PostgresEventStore] = PostgresEventStore
    pauses: tuple[float, float] = (0.0, 0.1)
    """Seconds between two faults, at least and at most."""


class _CommitsEachEvent(PostgresEventStore):
    """Appends a batch event by event."""

    def append(self, stream_id: str, events: Sequence[Event], expected_version: int) -> StreamVersion:
        version = StreamVersion(expected_version)
        for event in events:
            version = super().append(stream_id, [event], version)
        return version


class _RetriesWithNewIds(PostgresEventStore):
    """Makes new events of those whose append was not answered."""

    def execute(self, request: Any) -> Any:
        try:
            return super().execute(request)
        except ConnectionLost:
            if not isinstance(request, Append):
                raise
            event_ids = [new_event_id().bytes for _ in request.records.event_ids]
            renamed = request.records._replace(event_ids=event_ids)
            return super().execute(replace(request, records=renamed))


class _TakesAbsenceForFailure(PostgresEventStore):
    """Looks once, after an append that was not answered, and believes that what is not there will not come."""

    def execute(self, request: Any) -> Any:
        try:
            return super().execute(request)
        except ConnectionLost as error:
            if not isinstance(request, Append):
                raise
            stored = super().execute(ReadStream(request.stream_id, 0, 2**63 - 1, backwards=True, limit=100))
            places = {UUID(bytes=row[EVENT_ID]): Stored(row[VERSION], row[POSITION]) for row in stored}
            found = places.get(UUID(bytes=request.records.event_ids[-1]))
            if found is None:
                raise StoreUnavailable("it is not there") from error
            return found


class _TakesEveryRefusalForFinal(PostgresEventStore):
    """Believes that a message whose answer was lost is not in the server any more."""

    def execute(self, request: Any) -> Any:
        return True if isinstance(request, SessionsGone) else super().execute(request)


class _LeavesTransactionsOpen(PostgresEventStore):
    """Forgets a transaction whose block a signal has ended."""

    @contextmanager
    def transaction(self) -> Generator[PostgresTransaction, None, None]:
        block = super().transaction()
        store = block.__enter__()
        try:
            yield store
        except Interrupted:
            _FORGOTTEN.append(block)
            raise
        except BaseException as error:
            if not block.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            block.__exit__(None, None, None)


class _TakesACancelForSuccess(PostgresEventStore):
    """Believes that a statement that was cancelled had been carried out."""

    def execute(self, request: Any) -> Any:
        try:
            return super().execute(request)
        except StoreUnavailable as error:
            if not isinstance(request, Append) or error.sqlstate != _CANCELLED:
                raise
            return Stored(max(request.expected_version, 0) + len(request.records.event_ids), 1)


_FORGOTTEN: list[object] = []
_CANCELLED = "57014"
_WITHOUT_LOCK = ("append", "_locked text := pg_advisory_xact_lock(", "_locked text := (")
_END_OF_INSERT = "unnest(_event_types), unnest(_data), unnest(_metadata);"

BUGS = {
    "skip": Bug(
        shows_as=["reader skipped"],
        faults=[faults.TERMINATE, faults.PAUSE],
        statements=[
            """
            CREATE OR REPLACE FUNCTION eventstore.safe_position(_after bigint) RETURNS bigint LANGUAGE sql
            AS 'SELECT greatest(_after, max(position)) FROM eventstore.events'
            """
        ],
    ),
    "lost": Bug(
        shows_as=["acknowledged, lost"],
        faults=[faults.TERMINATE, faults.PAUSE],
        changes=[
            _WITHOUT_LOCK,
            ("write_events", _END_OF_INSERT, f"{_END_OF_INSERT[:-1]} ON CONFLICT DO NOTHING;"),
        ],
    ),
    "duplicate-versions": Bug(
        shows_as=["duplicate version"],
        faults=[faults.TERMINATE, faults.PAUSE],
        statements=[
            "ALTER TABLE eventstore.events DROP CONSTRAINT events_stream_version",
            "CREATE INDEX ON eventstore.events (stream_id, version)",  # Slow queries would show as well.
        ],
        changes=[_WITHOUT_LOCK],
    ),
    "async-commit": Bug(
        shows_as=["acknowledged, lost"],
        faults=[faults.KILL_BACKEND, faults.RESTART, faults.KILL_SERVER],
        pauses=(2.0, 3.0),  # Clients must have come back, or there is nothing to lose.
        statements=[
            "ALTER SYSTEM SET synchronous_commit = off",
            "SELECT pg_reload_conf()",
        ],
    ),
    "commit-per-event": Bug(
        shows_as=["refused, visible", "acknowledged, torn", "unknown, half there"],
        faults=[faults.KILL_WRITER],
        pauses=(0.2, 0.6),
        store=_CommitsEachEvent,
    ),
    "new-ids": Bug(
        shows_as=["never invoked", "refused, visible"],
        faults=[faults.CUT_AFTER],
        store=_RetriesWithNewIds,
    ),
    "not-there-means-failed": Bug(
        shows_as=["refused, visible"],
        faults=[faults.CUT_PAUSED],
        store=_TakesAbsenceForFailure,
    ),
    "refused-means-gone": Bug(
        shows_as=["refused, visible"],
        faults=[faults.CUT_STOPPED],
        store=_TakesEveryRefusalForFinal,
    ),
    "cancelled-means-done": Bug(
        shows_as=["acknowledged, lost"],
        faults=[faults.CANCEL],
        store=_TakesACancelForSuccess,
    ),
    "interrupted-and-forgotten": Bug(
        shows_as=["transaction left open", "reader stalled"],
        faults=[faults.INTERRUPT],
        store=_LeavesTransactionsOpen,
    ),
    MOODS_PARK: Bug(
        shows_as=["projection skipped"],
        faults=[faults.LOCK_MODEL, faults.READ_ONLY],
    ),
    KEEPS_KEYS: Bug(
        shows_as=["forgotten, readable"],
        faults=[faults.TERMINATE],
    ),
    ELSEWHERE: Bug(
        shows_as=["projection doubled"],
        faults=[faults.KILL_FOLLOWER],
        pauses=(0.5, 2.0),
    ),
}


def plant(bug: Bug, dsn: str) -> None:
    """Change the migrated schema."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, old, new in bug.changes:
            row = connection.execute(
                "SELECT pg_get_functiondef(oid) FROM pg_proc"
                " WHERE proname = %s AND pronamespace = 'eventstore'::regnamespace",
                (name,),
            ).fetchone()
            if row is None or old not in row[0]:
                raise LookupError(f"{name} does not contain {old!r} any more: change the planted bug with it")
            connection.execute(sql.SQL(row[0].replace(old, new)))
        for statement in bug.statements:
            connection.execute(sql.SQL(statement))  # pyright: ignore[reportArgumentType] of the above


def store_for(planted: str | None, dsn: str) -> PostgresEventStore:
    """The store that a client uses."""
    kind = BUGS[planted].store if planted else PostgresEventStore
    return kind.connect(dsn)
