"""The contract, on Django's connections."""

from __future__ import annotations

import pytest

from eventstore.contrib.django import DjangoEventStore, DjangoSnapshotStore, event_store, snapshot_store
from eventstore.contrib.django.test import empty_store
from eventstore.testing import Capabilities, EventStoreContract, SnapshotStoreContract

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
def emptied(django_database: None) -> None:  # noqa: ARG001 it is there then
    empty_store()


class TestDjangoEventStore(EventStoreContract):
    # In one thread, what is done beside an open block is part of it; test_django_store.py has the threads.
    capabilities = Capabilities(concurrency=False)

    @pytest.fixture
    def store(self, using: str) -> DjangoEventStore:
        return event_store(using)


class TestDjangoSnapshotStore(SnapshotStoreContract):
    @pytest.fixture
    def store(self, using: str) -> DjangoSnapshotStore:
        return snapshot_store(using)
