"""The admin's pages: streams and events are found and can be read, and nothing can be changed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import psycopg
import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape
from parcels.events import Parcel

from eventstore import Event
from eventstore.contrib.django import admin, event_store, repository
from eventstore.contrib.django.test import empty_store
from eventstore.testing.contract.revisions import ContractParcelWeighed

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")

Permission = apps.get_model("auth", "Permission")
User = get_user_model()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENTS = "/admin/eventstore/event/"
STREAMS = "/admin/eventstore/stream/"
SUBSCRIPTIONS = "/admin/eventstore/subscription/"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    empty_store()
    yield
    empty_store()
    User.objects.all().delete()


@pytest.fixture
def client() -> Client:
    """A browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def stored(stream_id: str, *event_types: str, **values: Any) -> None:
    events = [
        Event(event_type=name, data=values, metadata={"user": "ada"}, timestamp=NOON + timedelta(hours=number))
        for number, name in enumerate(event_types)
    ]
    event_store().append(stream_id, events, 0)


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def shown(client: Client, query: str = "") -> list[str]:
    """The events of a page, as ``stream version``."""
    answer = client.get(EVENTS + query)
    assert answer.status_code == 200
    return [f"{event.stream_id} {event.version}" for event in answer.context_data["cl"].result_list]


class TestEvents:
    def test_the_list_shows_the_newest_event_first(self, client: Client) -> None:
        stored("a-1", "Made", "Sold")
        stored("a-2", "Made")
        assert shown(client) == ["a-2 1", "a-1 2", "a-1 1"]

    def test_events_are_found_by_stream_type_and_time(self, client: Client) -> None:
        stored("a-1", "Made", "Sold")
        stored("a-12", "Made")
        stored("b-1", "Made")
        stored("xa-1", "Made")
        assert shown(client, "?q=a-1") == ["a-12 1", "a-1 2", "a-1 1"]
        assert shown(client, "?stream_id__exact=a-1") == ["a-1 2", "a-1 1"]
        assert shown(client, "?event_type=Sold") == ["a-1 2"]
        assert shown(client, "?from=2026-03-01T12:30Z") == ["a-1 2"]
        assert shown(client, "?until=2026-03-01T12:00:00.000001Z&q=a-1") == ["a-12 1", "a-1 1"]
        assert shown(client, "?from=2026-03-01T12:00Z&until=2026-03-01T13:00Z&event_type=Made&q=b") == ["b-1 1"]

    def test_a_time_without_a_zone_is_of_the_zone_that_is_shown(self, client: Client) -> None:
        stored("a-1", "Made", "Sold")
        with override_settings(TIME_ZONE="Asia/Tokyo"):
            assert shown(client, "?from=2026-03-01T22:00") == ["a-1 2"]

    @pytest.mark.parametrize("time", ["yesterday", "2026-02-31T00:00"])
    def test_a_text_that_is_not_a_time_is_not_searched_for(self, client: Client, time: str) -> None:
        assert client.get(f"{EVENTS}?from={time}").headers["Location"].endswith("?e=1")

    def test_the_form_keeps_what_else_was_asked_for(self, client: Client) -> None:
        text = page(client, f"{EVENTS}?q=a-1&event_type=Sold&from=2026-03-01T12:30")
        assert '<input type="hidden" name="event_type" value="Sold">' in text
        assert '<input type="hidden" name="q" value="a-1">' in text
        assert 'name="from" value="2026-03-01T12:30"' in text

    def test_stored_types_can_be_chosen_and_others_asked_for(self, client: Client) -> None:
        stored("a-1", "Made", "Sold")
        text = page(client, f"{EVENTS}?event_type=Unheard")
        for chosen in ("Made", "Sold", "Unheard"):
            assert f"?event_type={chosen}" in text
        assert "?event_type=ParcelPosted" not in text  # a class has it, but no event

    def test_types_that_no_new_event_has_are_known_from_the_planners_statistics(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admin, "_LOOKED_AT", 2)
        stored("a-1", "Made", "Made", "Sold", "Sold", "Sent", "Sent")
        assert "?event_type=Made" not in page(client, EVENTS)
        connection.cursor().execute('ANALYZE "Event\'s store".events')
        assert "?event_type=Made" in page(client, EVENTS)

    def test_whatever_can_be_stored_can_be_shown(self, client: Client, other: psycopg.Connection[Any]) -> None:
        stored("a-1", "Huge", number=10**5000, text="x" * 1_000_000, members=list(range(100_000)))
        stored("a-2", "Evil\u202e\x1b[31m", text="\u202edesrever\x9b31m")
        stored("a-3", "Deep")
        deep = b"\x81\xa1a" + b"\x91" * 900 + b"\x01"
        other.execute('ALTER TABLE "Event\'s store".events DISABLE TRIGGER USER')
        other.execute("UPDATE \"Event's store\".events SET data = %s WHERE stream_id = 'a-3'", [deep])
        other.execute('ALTER TABLE "Event\'s store".events ENABLE TRIGGER USER')
        other.commit()
        text = page(client, EVENTS)
        for position in [event.position for event in event_store().read_all()]:
            text += page(client, f"{EVENTS}{position}/change/")
        for cut in (
            "bytes",
            "an integer of about 5,000 digits",
            "90,0",
            "1,000,000 characters",
            "nested more than 100",
        ):
            assert cut in text
        assert "\\u202e" in text
        assert not {"\u202e", "\x1b", "\x9b"} & set(text)

    def test_a_list_decodes_no_large_events(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        stored("a-1", "Large", text="x" * 100_000)
        stored("a-2", "Small")
        decoded: list[int] = []
        monkeypatch.setattr(admin, "decoded_data", lambda *read: decoded.append(len(read[-1])) or {})
        assert "100,011 bytes" in page(client, EVENTS)
        assert decoded == [1]

    def test_an_older_event_is_shown_as_its_class_has_it_now(self, client: Client) -> None:
        old = Event(event_type="eventstore.contract.Weighed", data={"weight": "1.5"}, revision=1)
        assert event_store().append("a-1", [old, ContractParcelWeighed(grams=7)], 0) == 2
        stored("a-2", "Other")
        found = page(client, f"{EVENTS}?event_type=eventstore.contract.ParcelWeighed")
        assert escape('{"grams": 1500, "by": "unknown"}') in found
        assert escape('{"grams": 7, "by": "unknown"}') in found
        assert "a-2" not in found
        event = next(event_store().read_all())
        assert escape('"grams": 1500') in page(client, f"{EVENTS}{event.position}/change/")

    def test_the_admin_shows_an_events_data_as_text(self, client: Client) -> None:
        stored("a-1", "Made", price=Decimal("1.50"), of=UUID(int=7), seal=b"\xff", to="<b>Zoë</b>")
        (event,) = event_store().read_all()
        text = page(client, f"{EVENTS}{event.position}/change/")
        for value in ('"price": "1.50"', f'"of": "{UUID(int=7)}"', '"seal": "<1 bytes>"', '"to": "<b>Zoë</b>"'):
            assert escape(value) in text
        assert escape('"user": "ada"') in text
        assert str(event.event_id) in text

    def test_one_that_can_not_be_read_says_why_beside_the_others(
        self, client: Client, other: psycopg.Connection[Any]
    ) -> None:
        stored("a-1", "Made", "Sold")
        other.execute('ALTER TABLE "Event\'s store".events DISABLE TRIGGER USER')
        other.execute("UPDATE \"Event's store\".events SET data = '\\xc1' WHERE version = 1")
        other.execute('ALTER TABLE "Event\'s store".events ENABLE TRIGGER USER')
        other.commit()
        assert "This can&#x27;t be read: " in page(client, EVENTS)
        position = next(iter(event_store().read_all(event_types=["Sold"]))).position - 1
        assert "This can&#x27;t be read: " in page(client, f"{EVENTS}{position}/change/")

    def test_a_page_takes_as_many_queries_however_long_the_log(self, client: Client) -> None:
        stored("a-1", "Made")
        with CaptureQueriesContext(connection) as few:
            page(client, EVENTS)
        for number in range(60):
            stored(f"b-{number}", "Made")
        with CaptureQueriesContext(connection) as many:
            page(client, EVENTS)
        assert len(few) == len(many) <= 7

    def test_a_log_is_never_counted_to_its_end(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admin, "_COUNTED", 2)
        stored("a-1", "Made", "Sold", "Sent")
        assert client.get(EVENTS).context_data["cl"].result_count == 2


class TestStreams:
    def test_each_leads_to_its_events(self, client: Client) -> None:
        stored("a&b-1", "Made", "Sold")
        stored("c-1", "Made")
        text = page(client, f"{STREAMS}?q=a")
        link = f"{EVENTS}?stream_id__exact={quote('a&b-1')}"
        assert f'<a href="{link}">a&amp;b-1</a>' in text
        assert '<td class="field-events">2</td>' in text
        assert "c-1" not in text
        assert shown(client, link.removeprefix(EVENTS)) == ["a&b-1 2", "a&b-1 1"]

    def test_the_list_shows_the_newest_stream_first(self, client: Client) -> None:
        stored("a-1", "Made")
        stored("a-2", "Made", "Sold")
        answer = client.get(STREAMS)
        assert [stream.stream_id for stream in answer.context_data["cl"].result_list] == ["a-2", "a-1"]


def parcels_posted(count: int) -> None:
    for _ in range(count):
        parcel = Parcel(uuid4())
        parcel.post("Utrecht")
        repository(Parcel).save(parcel)


class TestSubscriptions:
    def test_a_healthy_one_has_no_red_cross(self, client: Client) -> None:
        from parcels.subscriptions import arrivals  # noqa: PLC0415 an app's, known once Django is set up

        parcels_posted(1)
        arrivals.run_until_caught_up()
        text = page(client, SUBSCRIPTIONS) + page(client, f"{SUBSCRIPTIONS}arrivals/change/")
        assert "icon-no" not in text
        assert '<td class="field-state">stopped</td>' in text
        assert '<td class="field-behind">nothing</td>' in text

    def test_parked_events_are_shown_with_what_happened(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        from parcels.models import Note  # noqa: PLC0415 as above
        from parcels.subscriptions import notes  # noqa: PLC0415 as above

        parcels_posted(4)  # one note each, whose text must be unique
        notes.run_until_caught_up()
        Note.objects.all().delete()
        link = f"{SUBSCRIPTIONS}notes/change/"
        assert f'<a href="{link}">3</a>' in page(client, SUBSCRIPTIONS)
        text = page(client, link)
        positions = [event.position for event in notes.parked()]
        assert all(f'<a href="{EVENTS}{position}/change/">{position}</a>' in text for position in positions)
        assert "IntegrityError" in text
        assert "ParcelPosted" in text
        monkeypatch.setattr(admin, "_PARKED_SHOWN", 1)
        assert "and 2 more" in page(client, link)


class TestNothingCanBeChanged:
    @pytest.mark.parametrize("of", [EVENTS, STREAMS, SUBSCRIPTIONS])
    def test_nobody_may_add_change_or_delete_an_event(self, client: Client, of: str) -> None:
        from parcels.subscriptions import arrivals  # noqa: PLC0415 as above

        stored("a-1", "Made")
        arrivals.run_until_caught_up()
        key = "arrivals" if of == SUBSCRIPTIONS else next(iter(event_store().read_all())).position
        assert client.get(f"{of}add/").status_code == 403
        assert client.post(f"{of}{key}/change/", {"version": 7}).status_code == 403
        assert client.post(f"{of}{key}/delete/", {"post": "yes"}).status_code == 403
        client.post(of, {"action": "delete_selected", "_selected_action": [key], "post": "yes"})
        text = page(client, f"{of}{key}/change/")
        assert 'name="_save"' not in text
        assert "deletelink" not in text
        assert 'name="action"' not in page(client, of)
        assert [event.version for event in event_store().read_all()] == [1]

    def test_to_look_needs_the_permission(self) -> None:
        user = User.objects.create_user("eve", is_staff=True)
        client = Client()
        client.force_login(user)
        assert client.get(EVENTS).status_code == 403
        user.user_permissions.add(Permission.objects.get(codename="view_event"))
        assert client.get(EVENTS).status_code == 200
        assert client.get(STREAMS).status_code == 403
        granted = Permission.objects.filter(content_type__app_label="eventstore").values_list("codename", flat=True)
        assert sorted(granted) == ["view_event", "view_stream", "view_subscription"]


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
class TestInABrowser(StaticLiveServerTestCase):
    """What chromium makes of a page, with the admin's own styles and scripts."""

    def setUp(self) -> None:
        User.objects.create_superuser("root")
        directory = self.enterContext(TemporaryDirectory(ignore_cleanup_errors=True))
        quiet = ["disable-background-networking", "disable-component-update", "disable-gpu", "disable-quic"]
        quiet += ["disable-sync", "headless", "no-first-run", "no-sandbox", f"user-data-dir={directory}"]
        self.browser = [str(BROWSER), *(f"--{option}" for option in quiet), "--virtual-time-budget=5000", "--dump-dom"]

    def seen(self, path: str) -> str:
        command = [*self.browser, f"{self.live_server_url}/enter/?{urlencode({'next': path})}"]
        return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=60).stdout

    def test_an_event_is_searched_for_and_looked_at(self) -> None:
        stored("Parcel-1", "ParcelPosted", "ParcelDelivered", destination="<b>Zoë</b>", signature="A. Turing")
        stored("Parcel-2", "ParcelPosted", destination="Utrecht")
        stored("Letter-1", "ParcelPosted", destination="Delft")
        found = self.seen(f"{EVENTS}?q=Parcel&event_type=ParcelPosted&from=2026-03-01T00:00")
        assert found.count('<th class="field-position">') == 2
        assert "Letter-1" not in found
        assert 'value="2026-03-01T00:00"' in found
        (position,) = (event.position for event in event_store().read("Parcel-1", limit=1))
        event = self.seen(f"{EVENTS}{position}/change/")
        assert '"destination": "&lt;b&gt;Zoë&lt;/b&gt;"' in event
        form = event[event.index('id="event_form"') : event.index('id="footer"')]
        assert re.findall(r"<(?:input|textarea|select|button)[^>]*name=\"(\w+)", form) == ["csrfmiddlewaretoken"]
