"""A process that records personal data and forgets it, and one that watches whether it can still be read.

The keys are in another database than the events, so that nothing makes one of the two commits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from eventstore import AppendOutcomeUnknown, Event, PostgresEventStore, StoreUnavailable
from eventstore.postgres import migrate
from eventstore.privacy import Personal, PostgresSubjectKeys, Subject, migrate_subject_keys
from eventstore.testing.campaign.history import History

KEEPS_KEYS = "keeps-keys"
"""The bug that is planted here."""
_SCHEMA, _KEYS = "forgetting", "campaign_keys"
_KEY_TTL = 1.0
"""The checker has the same number."""
_NEWEST = 200
_CALM_SECONDS = 0.05


class CampaignMemberNamed(Event):
    """What is recorded."""

    event_type: str = "eventstore.campaign.MemberNamed"
    member: Annotated[str, Subject]
    name: Annotated[str, Personal("")]


class _KeepsKeys(PostgresSubjectKeys):
    def destroy(self, subject: str, reason: str) -> None:
        """Destroy nothing."""


def prepare(dsn: str) -> None:
    """Create the schema of the events, and the database of the keys."""
    migrate(dsn, _SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_KEYS}")  # pyright: ignore[reportArgumentType, reportCallIssue] a constant
    migrate_subject_keys(make_conninfo(dsn, dbname=_KEYS))


def forget(dsn: str, history: History, stop: threading.Event, planted: str | None) -> None:
    """Record members and forget them, one after the other, until told to stop."""
    with _store(dsn, planted) as store:
        history.write("from")
        while not stop.is_set():
            member = uuid4().hex
            event = CampaignMemberNamed(member=member, name="Ann")
            if _done(lambda: store.append(f"member-{member}", [event], 0), stop) and _done(  # noqa: B023 called at once
                lambda: store.forget(member),  # noqa: B023
                stop,
            ):
                history.write("forgotten", member=member)
        history.write("end")


def watch(dsn: str, history: History, stop: threading.Event, planted: str | None) -> None:
    """Note whose data can be read until told to stop, and once more then, with nothing remembered."""
    with _store(dsn, planted) as store:
        history.write("from")
        while not stop.wait(_CALM_SECONDS):
            _look(store, history, _NEWEST)
    time.sleep(_KEY_TTL)
    with _store(dsn, planted) as store:
        while not _look(store, history, None):
            time.sleep(_CALM_SECONDS)
    history.write("end")


@contextmanager
def _store(dsn: str, planted: str | None) -> Generator[PostgresEventStore, None, None]:
    kind = _KeepsKeys if planted == KEEPS_KEYS else PostgresSubjectKeys
    keys_dsn = make_conninfo(dsn, dbname=_KEYS)
    with (
        kind.connect(keys_dsn, wrap=bytes(32), key_ttl=_KEY_TTL) as keys,
        PostgresEventStore.connect(dsn, _SCHEMA, subject_keys=keys) as store,
    ):
        yield store


def _done(work: object, stop: threading.Event) -> bool:
    """Call something until it succeeds; whether it did before the end."""
    assert callable(work)
    while True:
        try:
            work()
        except (StoreUnavailable, AppendOutcomeUnknown):
            if stop.wait(_CALM_SECONDS):
                return False
        else:
            return True


def _look(store: PostgresEventStore, history: History, limit: int | None) -> bool:
    """Note whose data can be read now; whether that could be found out."""
    began = time.monotonic()
    try:
        found = [
            event.member
            for event in store.read_all(event_types=CampaignMemberNamed, backwards=limit is not None, limit=limit)
            if isinstance(event, CampaignMemberNamed) and not event.sealed
        ]
    except StoreUnavailable:
        return False
    history.write("readable", began=began, members=found)
    return True
