"""What is given to the tests of a project, and what Django's own test cases do to a store."""

from __future__ import annotations

from typing import ClassVar
from unittest import mock
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test import TestCase, TransactionTestCase
from parcels.events import Parcel
from parcels.models import Arrival
from parcels.subscriptions import arrivals

from eventstore import Event, InvalidOperation
from eventstore.contrib.django import event_store, repository
from eventstore.contrib.django.test import EventStoreMixin, empty_store

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database", "emptied")


@pytest.fixture(scope="class")
def emptied(django_database: None) -> None:  # noqa: ARG001 it is there then
    """Other tests leave events behind, as no user of the mix-ins does; within a class each test has to find none."""
    empty_store()


def delivered() -> Parcel:
    parcel = Parcel(uuid4())
    parcel.post("Utrecht")
    parcel.deliver("A. Turing")
    repository(Parcel).save(parcel)
    return parcel


class InATestCase(EventStoreMixin, TestCase):
    numbers: ClassVar[list[int]] = []

    def the_store_is_empty_and_usable(self) -> None:
        assert list(event_store().read_all()) == []
        parcel = delivered()
        assert repository(Parcel).load(parcel.id).signature == "A. Turing"
        assert len(list(event_store().read_all())) == 2

    def test_events_of_a_test_case_are_rolled_back(self) -> None:
        self.the_store_is_empty_and_usable()

    def test_the_next_test_case_finds_no_events(self) -> None:
        self.the_store_is_empty_and_usable()

    def test_subscriptions_run_in_the_tests_transaction(self) -> None:
        delivered()
        self.run_subscriptions("arrivals")
        assert Arrival.objects.get().signature == "A. Turing"
        delivered()
        self.run_subscriptions()
        assert Arrival.objects.count() == 2
        assert arrivals.status().positions_behind == 0

    def test_their_checkpoints_were_rolled_back(self) -> None:
        assert Arrival.objects.count() == 0
        with pytest.raises(InvalidOperation, match="run a worker of that name first"):
            arrivals.status()

    def test_subscriptions_are_woken_by_captured_callbacks_only(self) -> None:
        woken = mock.Mock()
        with event_store().wakeups.calling(woken):
            with self.captureOnCommitCallbacks() as callbacks:
                delivered()
            assert callbacks
            woken.assert_not_called()
            with self.captureOnCommitCallbacks(execute=True):
                delivered()
            woken.assert_called_once_with()

    def test_assert_num_queries_counts_appends(self) -> None:
        with self.assertNumQueries(1):
            event_store().append("s", [Event(event_type="Happened")], 0)
        with self.assertNumQueries(2):  # safe_position, and the page
            assert len(list(event_store().read_all())) == 1


class InATransactionTestCase(EventStoreMixin, TransactionTestCase):
    def the_store_is_empty_and_committed_to(self) -> None:
        assert list(event_store().read_all()) == []
        assert delivered().version == 2
        self.run_subscriptions()
        assert not connection.in_atomic_block
        assert len(list(event_store().read_all())) == 2

    def test_events_of_a_transaction_test_case_are_flushed(self) -> None:
        self.the_store_is_empty_and_committed_to()

    def test_the_next_transaction_test_case_finds_no_events(self) -> None:
        self.the_store_is_empty_and_committed_to()

    def test_events_stay_append_only(self) -> None:
        with pytest.raises(Exception, match="append-only"):
            connection.cursor().execute('TRUNCATE "Event\'s store".events')


class WithoutTheMixin(TransactionTestCase):
    """Django's own `flush` after each test is this app's."""

    def test_without_the_mixin_events_are_flushed(self) -> None:
        assert list(event_store().read_all()) == []
        delivered()

    def test_without_the_mixin_the_next_test_finds_no_events(self) -> None:
        assert list(event_store().read_all()) == []
        delivered()


def test_another_database_is_never_emptied() -> None:
    settings = connections["default"].settings_dict
    delivered()
    with (
        mock.patch.dict(settings, NAME="production"),
        pytest.raises(InvalidOperation, match="'production' is not named"),
    ):
        empty_store()
    with mock.patch.dict(settings, TEST={**settings["TEST"], "NAME": "mine"}), pytest.raises(InvalidOperation):
        empty_store()
    assert len(list(event_store().read_all())) == 2
