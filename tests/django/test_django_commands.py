"""Django's own commands on a project with a store: flush, dumpdata, loaddata, sqlmigrate; and the options of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings
from parcels.models import Note

from eventstore import Event, SchemaError
from eventstore.contrib.django import event_store, snapshot_store
from eventstore.contrib.django.management.commands.eventstore import Command
from eventstore.contrib.django.test import empty_store

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    empty_store()
    yield
    empty_store()
    Note.objects.all().delete()


@pytest.fixture
def production() -> Iterator[None]:
    """The same database, as if it were not named as a test database."""
    with mock.patch.dict(connections["default"].settings_dict["TEST"], NAME="another_name"):
        yield


def happened() -> None:
    event_store().append("s", [Event(event_type="Happened")], 0)


class TestFlush:
    def test_a_test_database_loses_its_events(self) -> None:
        happened()
        call_command("flush", interactive=False, verbosity=0)
        assert list(event_store().read_all()) == []

    @pytest.mark.usefixtures("production")
    def test_flush_outside_of_tests_keeps_events_and_says_what_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        happened()
        Note.objects.create(text="gone")
        call_command("flush", interactive=False, verbosity=0)
        assert len(list(event_store().read_all())) == 1
        assert not Note.objects.exists()
        said = capsys.readouterr().err
        assert "The events were kept." in said
        assert "eventstore rebuild NAME" in said
        assert "flush --events" in said

    @pytest.mark.usefixtures("production")
    def test_flush_with_events_removes_events_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        happened()
        call_command("flush", "--events", interactive=False, verbosity=0)
        assert list(event_store().read_all()) == []
        happened()
        assert capsys.readouterr().err == ""

    @pytest.mark.usefixtures("production")
    @pytest.mark.parametrize(("options", "said"), [([], "except the events"), (["--events"], "all events included")])
    def test_flush_asks_first_and_a_no_changes_nothing(self, options: list[str], said: str) -> None:
        happened()
        Note.objects.create(text="kept")
        with mock.patch("builtins.input", return_value="no") as asked:
            call_command("flush", *options, verbosity=0)
        assert said in asked.call_args.args[0]
        assert len(list(event_store().read_all())) == 1
        assert Note.objects.exists()

    def test_flush_of_another_alias_leaves_the_events_alone(self) -> None:
        happened()
        call_command("flush", interactive=False, verbosity=0, database="pooled")
        assert len(list(event_store().read_all())) == 1

    def test_flush_without_a_schema_does_what_it_always_did(self) -> None:
        with override_settings(EVENTSTORE_SCHEMA="nowhere"):
            call_command("flush", interactive=False, verbosity=0)


class TestFixtures:
    def test_a_whole_project_is_dumped_and_loaded(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        happened()
        Note.objects.create(text="kept")
        file = tmp_path / "all.json"
        call_command("dumpdata", output=str(file))
        assert "back up the events with pg_dump" in capsys.readouterr().err
        assert not [each for each in json.loads(file.read_text()) if each["model"].startswith("eventstore.")]
        call_command("flush", interactive=False, verbosity=0)
        call_command("loaddata", str(file), verbosity=0)
        assert Note.objects.get().text == "kept"

    def test_fixtures_leave_a_store_in_another_database_alone(self, tmp_path: Path) -> None:
        with override_settings(EVENTSTORE_DATABASE="pooled", EVENTSTORE_SCHEMA="nowhere"):
            call_command("dumpdata", output=str(tmp_path / "all.json"), verbosity=0)
            call_command("loaddata", str(tmp_path / "all.json"), verbosity=0)

    @pytest.mark.parametrize("label", ["eventstore", "eventstore.Event"])
    def test_events_alone_can_not_be_dumped(self, label: str) -> None:
        with pytest.raises(CommandError, match="pg_dump"):
            call_command("dumpdata", label)

    def test_an_app_alone_is_dumped_without_a_word(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("dumpdata", "parcels")
        assert capsys.readouterr().err == ""


def test_sqlmigrate_prints_the_sql_although_it_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("sqlmigrate", "eventstore", "0001")
    assert 'CREATE TABLE "Event\'s store".events' in capsys.readouterr().out


class TestWithoutMigrations:
    @pytest.fixture(autouse=True)
    def switched_off(self) -> Iterator[None]:
        labels = ["contenttypes", "auth", "sessions", "admin", "eventstore", "parcels"]
        with override_settings(MIGRATION_MODULES=dict.fromkeys(labels), EVENTSTORE_SCHEMA="without_migrations"):
            yield

    def test_without_migrations_migrate_still_makes_the_schema(self) -> None:
        call_command("migrate", run_syncdb=True, verbosity=0)
        happened()
        call_command("migrate", run_syncdb=True, verbosity=0)
        assert len(list(event_store().read_all())) == 1

    def test_migrate_of_another_alias_makes_no_schema(self, other: psycopg.Connection[Any]) -> None:
        with override_settings(EVENTSTORE_SCHEMA="on_no_other_alias"):
            call_command("migrate", run_syncdb=True, verbosity=0, database="pooled")
        assert other.execute("SELECT FROM pg_namespace WHERE nspname = 'on_no_other_alias'").fetchall() == []


class TestAdvice:
    def test_the_error_for_a_missing_schema_names_djangos_command(self) -> None:
        with override_settings(EVENTSTORE_SCHEMA="not_migrated"):
            for call in (
                lambda: event_store().read("s"),
                lambda: snapshot_store().load("Order", "1", "schema"),
                lambda: list(event_store().read_all()),
            ):
                with pytest.raises(SchemaError, match=r"run `manage\.py migrate`$"):
                    call()
            with pytest.raises(SchemaError, match=r"`manage\.py migrate`$"), event_store().transaction() as transaction:
                transaction.read("s")

    @pytest.mark.parametrize("command", ["run", "rebuild", "retry"])
    def test_the_error_for_an_unknown_subscription_lists_those_there_are(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            call_command("eventstore", command, "arrival")
        assert "there is no subscription 'arrival': there are 'arrivals', 'notes'" in capsys.readouterr().err


class TestOptions:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--no-color", "-v", "2", "status", "--json"],
            ["status", "--json", "--no-color", "--verbosity=0", "--traceback", "-v3"],
            ["status", "--skip-checks", "--pythonpath", ".", "--settings", "x", "--json", "--database", "default"],
        ],
    )
    def test_djangos_own_options_stand_anywhere_in_the_command(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with mock.patch.dict("os.environ"), mock.patch("sys.path", sys.path[:]):
            Command().run_from_argv(["manage.py", "eventstore", *arguments])
        assert capsys.readouterr() == ('{"kind": "health", "ok": true, "problems": []}\n', "")

    def test_what_follows_two_dashes_is_not_djangos(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            Command().run_from_argv(["manage.py", "eventstore", "read", "--", "--no-color"])
        assert "no stream '--no-color'" in capsys.readouterr().err

    def test_an_alias_that_there_is_not_is_named(self) -> None:
        with pytest.raises(CommandError, match=r"'dflt' is not an alias in DATABASES\. There are: default"):
            call_command("eventstore", "status", database="dflt")

    def test_help_for_a_command_needs_no_database(self, capsys: pytest.CaptureFixture[str]) -> None:
        with (
            mock.patch.dict(settings.DATABASES["default"]),
            mock.patch("eventstore.contrib.django.conf.conninfo", side_effect=AssertionError),
        ):
            call_command("eventstore", "status", "--help")
        assert "--json" in capsys.readouterr().out
