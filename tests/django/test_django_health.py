"""The view of a project's health."""

from __future__ import annotations

import json

import pytest
from django.test import RequestFactory
from parcels.models import Note  # noqa: F401 makes the project

from eventstore import Event, ExpectedVersion, Subscription
from eventstore.contrib.django import event_store
from eventstore.contrib.django.views import health

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")


def test_the_view_answers_with_200_or_503() -> None:
    request = RequestFactory().get("/health/")
    well = health(request)
    assert (well.status_code, json.loads(well.content)["ok"]) == (200, True)
    worker = Subscription(event_store(), "health", lambda _: None)
    worker.run_until_caught_up()
    try:
        event_store().append("Health-1", [Event(event_type="T")], ExpectedVersion.ANY)
        ill = health(request, max_lag=0)
        assert (ill.status_code, "nobody works on subscription health" in ill.text) == (503, True)
        assert health(RequestFactory().post("/health/")).status_code == 405
    finally:
        worker.remove()
