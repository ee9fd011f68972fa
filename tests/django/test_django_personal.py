"""Personal data in Django: forgotten with atomic(), or not at all; the setting, its check, and manage.py."""

from __future__ import annotations

import json
from io import StringIO
from typing import Annotated, Any
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from eventstore import Event, ForgottenSubject, InvalidArgument
from eventstore.contrib.django import conf, event_store
from eventstore.privacy import (
    InMemorySubjectKeys,
    Personal,
    PostgresSubjectKeys,
    Subject,
    SubjectKeys,
    migrate_subject_keys,
)

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")

memory_keys = InMemorySubjectKeys()
not_keys = object()


class DjangoRecipient(Event):
    who: Annotated[str, Subject]
    name: Annotated[str, Personal("(erased)")]


@pytest.fixture(params=["elsewhere", "joined"])
def keys(request: pytest.FixtureRequest) -> Any:
    if request.param == "elsewhere":
        yield InMemorySubjectKeys()
        return
    dsn = conf.conninfo("default")
    migrate_subject_keys(dsn)
    with PostgresSubjectKeys.connect(dsn, wrap=bytes(32)) as keys:
        yield keys


def test_an_atomic_block_that_rolls_back_forgets_nothing(using: str, keys: SubjectKeys) -> None:
    with override_settings(EVENTSTORE_SUBJECT_KEYS=keys):
        store, who = event_store(using), str(uuid4())
        event = DjangoRecipient(who=who, name="Ann")
        store.append(f"Recipient-{who}", [event], 0)
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=using):
            store.forget(who)
            raise ZeroDivisionError
        keys.cache.drop(who)
        assert store.read(f"Recipient-{who}") == [event]
        with transaction.atomic(using=using):
            with pytest.raises(ZeroDivisionError), transaction.atomic(using=using):
                store.forget(who)
                raise ZeroDivisionError
            store.append(f"Recipient-{who}", [DjangoRecipient(who=who, name="Anne")], 1)
        keys.cache.drop(who)
        assert [each.sealed for each in store.read(f"Recipient-{who}")] == [(), ()]


def test_an_atomic_block_that_commits_forgets(using: str, keys: SubjectKeys) -> None:
    with override_settings(EVENTSTORE_SUBJECT_KEYS=keys):
        store, who = event_store(using), str(uuid4())
        store.append(f"Recipient-{who}", [DjangoRecipient(who=who, name="Ann")], 0)
        with transaction.atomic(using=using):
            store.forget(who, reason="Art. 17")
        assert store.read(f"Recipient-{who}")[0].sealed == ("name",)
        with pytest.raises(ForgottenSubject):
            keys.get(who)
        other = str(uuid4())
        store.append(f"Recipient-{other}", [DjangoRecipient(who=other, name="Bob")], 0)
        with store.transaction() as block:
            block.forget(other)
        assert store.read(f"Recipient-{other}")[0].sealed == ("name",)
        store.forget(other)  # Outside of any block.


def test_the_setting_names_keys_or_the_path_to_them() -> None:
    with override_settings(EVENTSTORE_SUBJECT_KEYS=f"{__name__}.memory_keys"):
        assert event_store().subject_keys is memory_keys
        assert [check for check in run_checks() if check.id == "eventstore.E008"] == []
    for wrong in (f"{__name__}.not_keys", f"{__name__}.nothing", "nowhere.keys", 7):
        with override_settings(EVENTSTORE_SUBJECT_KEYS=wrong):
            assert [check.id for check in run_checks() if check.id == "eventstore.E008"] == ["eventstore.E008"]
            with pytest.raises(InvalidArgument, match="EVENTSTORE_SUBJECT_KEYS"):
                event_store()


def test_manage_py_shows_and_forgets_with_the_keys_of_the_project() -> None:
    with override_settings(EVENTSTORE_SUBJECT_KEYS=memory_keys):
        who = str(uuid4())
        event_store().append(f"Recipient-{who}", [DjangoRecipient(who=who, name="Ann")], 0)
        out = StringIO()
        call_command("eventstore", "subjects", "show", who, "--json", stdout=out)
        assert json.loads(out.getvalue())["streams"] == [f"Recipient-{who}"]
        out = StringIO()
        call_command("eventstore", "subjects", "forget", who, "--yes", stdout=out)
        assert out.getvalue().startswith("forgot the subject")
        assert event_store().read(f"Recipient-{who}")[0].sealed == ("name",)
