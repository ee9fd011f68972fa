"""For the tests of a project: ``class OrderTests(EventStoreMixin, TestCase)``, or before a ``TransactionTestCase``."""

from __future__ import annotations

from django.db import connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.db.transaction import atomic
from django.test import TestCase, TransactionTestCase, override_settings
from psycopg.sql import SQL, Identifier

from eventstore.contrib.django import conf
from eventstore.contrib.django.stores import event_store
from eventstore.contrib.django.workers import workers
from eventstore.errors import InvalidOperation

_IS_EMPTY = SQL("""
    SELECT NOT EXISTS (SELECT FROM {0}.events) AND NOT EXISTS (SELECT FROM {0}.snapshots)
        AND NOT EXISTS (SELECT FROM {0}.subscriptions)
""")
_EMPTY = SQL("""
    ALTER TABLE {0}.events DISABLE TRIGGER USER;
    TRUNCATE {0}.events, {0}.snapshots, {0}.subscriptions, {0}.parked_events RESTART IDENTITY;
    ALTER TABLE {0}.events ENABLE TRIGGER USER;
""")


class EventStoreMixin(TransactionTestCase):
    """An empty event store for each test.

    In a TestCase everything is part of the transaction that it rolls back, subscriptions that are run here included. A
    TransactionTestCase flushes its tables after each test, and the store with them.
    """

    @classmethod
    def setUpClass(cls) -> None:
        # A connection that only notifies would keep the test database from being dropped.
        cls.enterClassContext(override_settings(EVENTSTORE_NOTIFY=False))
        super().setUpClass()

    def run_subscriptions(self, *names: str) -> None:
        """Let the project's subscriptions and projections handle what there is: those of these names, or all."""
        for name in names or workers:
            workers[name].run_until_caught_up()

    def _fixture_teardown(self) -> None:
        super()._fixture_teardown()  # type: ignore[misc]  # pyright: ignore left out of Django's stubs
        using = conf.setting("DATABASE")
        if not isinstance(self, TestCase) and (self.databases == "__all__" or using in self.databases):
            empty_store(using)


def empty_store(using: str | None = None) -> None:
    """Remove all events, snapshots and checkpoints of the project's store, in a test database.

    Raises InvalidOperation where the database is not called as test databases are.
    """
    store = event_store(using)
    settings = connections[store.using].settings_dict
    if not str(settings["NAME"]).startswith(settings["TEST"]["NAME"] or TEST_DATABASE_PREFIX):
        raise InvalidOperation(f"{settings['NAME']!r} is no test database: its events stay")
    schema = Identifier(conf.setting("SCHEMA"))
    with atomic(using=store.using):
        connection = store.connection
        (empty,) = connection.cursor().execute(_IS_EMPTY.format(schema)).fetchone() or (True,)
        if not empty:
            connection.cursor().execute(_EMPTY.format(schema))
