"""Personal data on the explorer's pages: sealed, unless somebody may see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from explorers import LOCAL, page, words
from psycopg_pool import ConnectionPool
from werkzeug.test import Client

from eventstore import Aggregate, Event, InvalidArgument, PostgresEventStore, StoreUnavailable, handles
from eventstore.explorer import Explorer
from eventstore.privacy import InMemorySubjectKeys, Personal, Subject, SubjectForgotten


class RevealedCustomerRegistered(Event, personal_metadata={"ip": Personal()}):
    customer_id: Annotated[str, Subject]
    email: Annotated[str, Personal("(erased)")]
    newsletter: bool


class RevealedCustomer(Aggregate["RevealedCustomer"]):
    email: str = ""

    @handles(RevealedCustomerRegistered)
    def _registered(self, event: RevealedCustomerRegistered) -> None:
        self.email = event.email


EMAIL, ADDRESS = "ann@example.org", "192.0.2.7"
PAGES = ["/", "/live", "/events", "/events/1", "/stream?id=RevealedCustomer-1"]
"""Those that show what is in an event."""


class Keys(InMemorySubjectKeys):
    """A key store that says when something is destroyed."""

    destroyed: list[str]

    def destroy(self, subject: str, reason: str) -> None:
        self.destroyed.append(subject)
        super().destroy(subject, reason)


@pytest.fixture
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    keys = Keys()
    keys.destroyed = []
    found = PostgresEventStore(pool, schema, subject_keys=keys)
    event = RevealedCustomerRegistered(customer_id="4711", email=EMAIL, newsletter=True, metadata={"ip": ADDRESS})
    found.append("RevealedCustomer-1", [event], 0)
    return found


def texts(explorer: Explorer) -> dict[str, str]:
    """What a reader sees on each page."""
    return {path: words(page(explorer, path)) for path in [*PAGES, "/streams", "/trace?id=4711", "/subscriptions"]}


@pytest.mark.parametrize("reveal", [None, lambda _: False, lambda _: 1 / 0], ids=["not given", "refused", "failed"])
def test_personal_fields_are_sealed_to_everybody_else(reveal: Any, store: PostgresEventStore) -> None:
    found = texts(Explorer(store, reveal=reveal, aggregates=[RevealedCustomer]))
    assert [path for path, text in found.items() if EMAIL in text or ADDRESS in text] == []
    assert "email sealed personal data of 4711" in found["/events/1"]
    assert "ip sealed personal data of 4711" in found["/events/1"]
    assert "newsletter bool True" in found["/events/1"]
    assert '"email": {"$sealed": "4711"}' in found["/events"]
    assert '"(erased)"' in found["/stream?id=RevealedCustomer-1"]
    assert not any("may see them" in text for text in found.values())


def test_personal_fields_are_shown_to_whom_reveal_says(store: PostgresEventStore) -> None:
    found = texts(Explorer(store, reveal=lambda _: True, aggregates=[RevealedCustomer]))
    assert [path for path in PAGES if EMAIL not in found[path]] == []
    assert f"ip text {ADDRESS}" in found["/events/1"]
    assert all("Personal fields are shown: you may see them." in found[path] for path in PAGES if path != "/live")


def test_reveal_is_asked_for_each_request_of_those_who_are_allowed_only(store: PostgresEventStore) -> None:
    asked: list[str] = []

    def reveal(request: Any) -> bool:
        asked.append(request.headers.get("X-User", ""))
        return asked[-1] == "ann"

    client = Client(Explorer(store, allowed=lambda request: request.headers.get("X-User") != "eve", reveal=reveal))
    path = "/stream?id=RevealedCustomer-1"
    users = ("ann", "bob", "eve", "ann")
    texts = [client.get(path, headers={"X-User": user}, environ_overrides=LOCAL).text for user in users]
    assert [EMAIL in text for text in texts] == [True, False, False, True]
    assert asked == ["ann", "bob", "ann"]


def test_the_data_of_a_forgotten_subject_is_sealed_to_everybody(store: PostgresEventStore) -> None:
    store.forget("4711", reason="ticket 1")
    found = texts(Explorer(store, reveal=lambda _: True))
    assert [path for path, text in found.items() if EMAIL in text] == []
    assert "personal data of 4711" in found["/events/1"]


def test_looking_destroys_no_key(store: PostgresEventStore) -> None:
    """As reading the log does, where the process that forgot the subject died before it could."""
    keys = store.subject_keys
    assert isinstance(keys, Keys)
    store.append("eventstore.subjects-4711", [SubjectForgotten(subject="4711")], 0)
    texts(Explorer(store, reveal=lambda _: True))
    assert keys.destroyed == []
    list(store.read_all())
    assert keys.destroyed == ["4711"]


def test_what_was_sealed_elsewhere_stays_sealed(store: PostgresEventStore) -> None:
    store.subject_keys = InMemorySubjectKeys()
    assert "email sealed personal data of 4711" in texts(Explorer(store, reveal=lambda _: True))["/events/1"]


def test_pages_say_that_the_keys_can_not_be_reached(store: PostgresEventStore) -> None:
    class Gone(InMemorySubjectKeys):
        def get_many(self, subjects: Sequence[str]) -> dict[str, bytes | None]:  # noqa: ARG002
            raise StoreUnavailable("the key store is away")

    store.subject_keys = Gone()
    text = texts(Explorer(store, reveal=lambda _: True))["/events/1"]
    assert "Personal fields can't be opened: the key store is away" in text
    assert "email sealed personal data of 4711" in text


def test_reveal_needs_the_keys_and_must_be_a_function(store: PostgresEventStore, pool: ConnectionPool) -> None:
    with pytest.raises(InvalidArgument, match=r"this store has none: give it subject_keys="):
        Explorer(PostgresEventStore(pool), reveal=lambda _: True)
    wrong: Any = True
    with pytest.raises(InvalidArgument, match="reveal must be a function"):
        Explorer(store, reveal=wrong)
