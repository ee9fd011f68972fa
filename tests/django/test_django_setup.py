"""Migrations that are those of sql/, settings that are checked, and what an app defines is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from parcels import subscriptions
from parcels.events import ParcelPosted

from eventstore import Event, InvalidArgument, SchemaError
from eventstore import event_types as events_module
from eventstore.contrib.django import conf, event_store, projection, snapshot_store, subscription
from eventstore.contrib.django.files import SqlFile
from eventstore.contrib.django.test import empty_store
from eventstore.contrib.django.workers import targets, workers
from eventstore.eventlock import described_program, text_of
from eventstore.postgres import migrate
from eventstore.postgres.migrations import migrations

pytest_plugins = ["parcels.fixtures"]
pytestmark = pytest.mark.usefixtures("django_database")

SCHEMA = "Event's store"


class TestMigrations:
    def test_there_is_a_migration_for_each_sql_file_in_the_same_order(self) -> None:
        loader = MigrationLoader(None)
        leaf = loader.graph.leaf_nodes("eventstore")
        planned = [name for app, name in loader.graph.forwards_plan(leaf[0]) if app == "eventstore"]
        assert len(leaf) == 1
        assert planned == [f"{file.number:04}_{file.name}" for file in migrations()]
        for name in planned:
            operations = loader.get_migration("eventstore", name).operations
            assert [each.file for each in operations if isinstance(each, SqlFile)] == [name]

    def test_the_models_lack_no_migration(self) -> None:
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)

    def test_eventstore_migrate_finds_nothing_to_do(self) -> None:
        assert migrate(conf.conninfo("default"), SCHEMA) == []

    def test_what_eventstore_migrate_has_done_django_records_only(self, other: psycopg.Connection[Any]) -> None:
        """The whole of it: a second schema, in which the same migrations meet what is there already."""
        migrate(conf.conninfo("default"), "by_hand")
        with override_settings(EVENTSTORE_SCHEMA="by_hand"):
            for file in migrations():
                apply(SqlFile(f"{file.number:04}_{file.name}"))
        applied = other.execute("SELECT number FROM by_hand.migrations ORDER BY number").fetchall()
        assert applied == [(file.number,) for file in migrations() if file.number]

    def test_a_store_with_partitions_is_only_recorded_and_can_be_emptied(self, other: psycopg.Connection[Any]) -> None:
        migrate(conf.conninfo("default"), "divided", partitions=3)
        with override_settings(EVENTSTORE_SCHEMA="divided"):
            for file in migrations():
                apply(SqlFile(f"{file.number:04}_{file.name}"))
            for number in range(9):
                event_store().append(f"s-{number}", [Event(event_type="T")], 0)
            empty_store()
            assert list(event_store().read_all()) == []
            event_store().append("s", [Event(event_type="T")], 0)
            for table in ("events", "events_00", "events_01", "events_02"):
                with pytest.raises(psycopg.errors.RestrictViolation):
                    other.execute(f"TRUNCATE divided.{table}".encode())
                other.rollback()

    def test_migrations_one_by_one_make_what_eventstore_migrate_makes(self, other: psycopg.Connection[Any]) -> None:
        with override_settings(EVENTSTORE_SCHEMA="one_by_one"):
            for file in migrations():
                apply(SqlFile(f"{file.number:04}_{file.name}"))
                applied = other.execute("SELECT coalesce(max(number), 0) FROM one_by_one.migrations").fetchall()
                other.rollback()
                assert applied == [(file.number,)]
        assert migrate(conf.conninfo("default"), "one_by_one") == []

    def test_a_database_that_is_newer_is_refused(self, other: psycopg.Connection[Any]) -> None:
        migrate(conf.conninfo("default"), "newer")
        other.execute("INSERT INTO newer.migrations VALUES (9999, 'future', '')")
        other.commit()
        with override_settings(EVENTSTORE_SCHEMA="newer"), pytest.raises(SchemaError, match="newer eventstore"):
            apply(SqlFile("0001_events"))

    def test_other_databases_are_left_alone(self, other: psycopg.Connection[Any]) -> None:
        with override_settings(EVENTSTORE_SCHEMA="not_here"):
            apply(SqlFile("0001_events"), using="pooled")
        assert other.execute("SELECT FROM pg_namespace WHERE nspname = 'not_here'").fetchall() == []

    def test_going_back_never_drops_events(self) -> None:
        with pytest.raises(IrreversibleError, match="never dropped"):
            call_command("migrate", "eventstore", "zero", verbosity=0)
        assert list(event_store().read_all(batch_size=1)) is not None

    def test_the_sql_can_be_seen_before(self, capsys: pytest.CaptureFixture[str]) -> None:
        with override_settings(EVENTSTORE_SCHEMA="seen_before"):
            call_command("sqlmigrate", "eventstore", "0001", no_color=True)
        assert 'CREATE TABLE "seen_before".events' in capsys.readouterr().out


def apply(operation: SqlFile, using: str = "default") -> None:
    with connections[using].schema_editor() as editor:
        operation.database_forwards("eventstore", editor, None, None)  # type: ignore[arg-type] it looks at neither


@pytest.fixture
def unset() -> Iterator[None]:
    """The settings of a project that has said nothing."""
    with override_settings():
        del settings.EVENTSTORE_SCHEMA
        yield


class TestSettings:
    def test_a_change_that_stored_events_do_not_survive_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "events.lock"
        text = text_of(described_program(["parcels.events"]))
        path.write_text(text, "utf-8")
        with override_settings(EVENTSTORE_EVENTS_LOCK=path):
            assert run_checks() == []
        path.write_text(text.replace("fields.destination", "fields.address"), "utf-8")
        with override_settings(EVENTSTORE_EVENTS_LOCK=str(path)):
            (found,) = run_checks()
        assert found.id == "eventstore.E007"
        assert "ParcelPosted: the field destination is new, and what is stored lacks it" in found.msg

    @pytest.mark.usefixtures("unset")
    def test_each_setting_has_a_default(self) -> None:
        assert run_checks() == []
        assert (event_store().using, event_store().statements.schema) == ("default", "eventstore")

    def test_the_schema_is_that_of_the_call_or_of_the_resolver(self) -> None:
        assert event_store(schema="tenant_a").statements.schema == "tenant_a"
        assert snapshot_store(schema="tenant_a").statements.schema == "tenant_a"
        current = iter(["tenant_b", "tenant_c", "tenant_b"])
        with override_settings(EVENTSTORE_SCHEMA_RESOLVER=lambda: next(current)):
            stores = [event_store(), event_store(), event_store()]
            assert [store.statements.schema for store in stores] == ["tenant_b", "tenant_c", "tenant_b"]
            assert stores[0] is stores[2]
            assert event_store(schema="tenant_d").statements.schema == "tenant_d"

    @pytest.mark.parametrize(
        ("resolver", "said"),
        [
            ("nowhere.schema", "No module named 'nowhere'"),
            (7, "it must be a function"),
            (lambda: "pg_x", "names that begin with 'pg_'"),
            (lambda: None, "schema must be a str"),
        ],
    )
    def test_a_wrong_resolver_is_said_where_a_store_is_asked_for(self, resolver: object, said: str) -> None:
        with override_settings(EVENTSTORE_SCHEMA_RESOLVER=resolver), pytest.raises(InvalidArgument, match=said):
            event_store()

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("EVENTSTORE_DATABASE", "events", "'events', which is not an alias in DATABASES"),
            ("EVENTSTORE_DATABASE", "sqlite", "'sqlite', which is not a PostgreSQL database but SQLite"),
            ("EVENTSTORE_SCHEMA", "pg_mine", "names that begin with 'pg_'"),
            ("EVENTSTORE_SCHEMA", "x" * 64, "PostgreSQL keeps 63"),
            ("EVENTSTORE_SCHEMA", None, "EVENTSTORE_SCHEMA is wrong"),
            ("EVENTSTORE_SCHEMA", "100%", "percent sign"),
            ("EVENTSTORE_SNAPSHOT_FREQUENCY", 0, "EVENTSTORE_SNAPSHOT_FREQUENCY is 0"),
            ("EVENTSTORE_SNAPSHOT_FREQUENCY", "100", "EVENTSTORE_SNAPSHOT_FREQUENCY is '100'"),
            ("EVENTSTORE_SNAPSHOT_FREQUENCY", True, "EVENTSTORE_SNAPSHOT_FREQUENCY is True"),
            ("EVENTSTORE_NOTIFY", "yes", "EVENTSTORE_NOTIFY is 'yes'"),
            ("EVENTSTORE_EVENTS_LOCK", 7, "EVENTSTORE_EVENTS_LOCK is 7, which is not a path"),
            ("EVENTSTORE_EVENTS_LOCK", "missing/events.lock", "there is no such file"),
            ("EVENTSTORE_TIMEOUT", "60", "EVENTSTORE_TIMEOUT must be a number"),
            ("EVENTSTORE_SHEMA", "orders", "EVENTSTORE_SHEMA is not a setting"),
        ],
    )
    def test_a_wrong_one_is_named(self, name: str, value: object, said: str) -> None:
        with override_settings(**{name: value}):
            (found,) = run_checks()
        assert said in found.msg
        assert found.id.startswith("eventstore.")

    def test_a_misspelt_setting_is_guessed(self) -> None:
        with override_settings(EVENTSTORE_SNAPSHOTS_FREQUENCY=5):
            (found,) = run_checks()
        assert found.hint == "Is it EVENTSTORE_SNAPSHOT_FREQUENCY?"

    def test_no_snapshots_are_a_choice(self) -> None:
        with override_settings(EVENTSTORE_SNAPSHOT_FREQUENCY=None):
            assert run_checks() == []


class TestConnectionsOfOnesOwn:
    def test_own_connections_lead_to_the_database_of_the_moment(self, using: str) -> None:
        """Which in tests is the test database, whatever it was when the store was made."""
        server = event_store(using)._server()
        with server.connect() as connection:
            assert connection.info.dbname == connections["default"].settings_dict["NAME"] != "postgres"
            assert connection.autocommit
            assert type(connection.cursor()) is psycopg.Cursor

    def test_own_connections_have_the_role_that_django_assumes(self, other: psycopg.Connection[Any]) -> None:
        other.execute("CREATE ROLE assumed")
        other.commit()
        wrapper = connections.create_connection("default")
        wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": {"assume_role": "assumed"}}
        connections["assuming"] = wrapper
        try:
            with psycopg.connect(conf.conninfo("assuming")) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("assumed",)
        finally:
            del connections["assuming"]
            other.execute("DROP ROLE assumed")
            other.commit()


class TestDiscovery:
    def test_the_modules_of_apps_were_imported(self) -> None:
        assert apps.get_app_config("eventstore").verbose_name == "Event store"
        assert events_module._event_classes["ParcelPosted"] is ParcelPosted
        assert workers == {"arrivals": subscriptions.arrivals, "notes": subscriptions.notes}
        assert targets["arrivals"] == "parcels.subscriptions:arrivals"

    def test_a_name_is_taken_once(self) -> None:
        def another(event: Event, _: object = None) -> None:
            """Never called."""

        with pytest.raises(InvalidArgument, match=r"parcels.subscriptions:arrivals are both called 'arrivals'"):
            projection("arrivals")(another)
        with pytest.raises(InvalidArgument, match="both called 'notes'"):
            subscription("notes")(another)
