"""What the migrations are made of: the packaged SQL files, one each."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from psycopg import Cursor
from psycopg.rows import tuple_row

from eventstore.contrib.django import conf
from eventstore.contrib.django.stores import DjangoSnapshotStore
from eventstore.postgres.migrations import LOCK, carried_out, migrate, migrations, missing_steps
from eventstore.postgres.statements import check_schema, for_schema


class SqlFile(Operation):
    """Run one file of sql/ in the store's schema, unless it was run there already, and record it as `migrate` does."""

    reduces_to_sql = True
    reversible = True  # Django would refuse in words that say nothing: database_backwards does it better.

    def __init__(self, file: str) -> None:
        """``file`` is its name without the ending: ``0001_events``."""
        self.file = file

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Models are another operation's business."""

    def database_forwards(
        self,
        app_label: str,  # noqa: ARG002 Django's
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        using = schema_editor.connection.alias
        if using != conf.setting("DATABASE"):
            return
        schema = check_schema(conf.setting("SCHEMA"))
        if schema_editor.collect_sql:  # sqlmigrate shows what the file is, wherever it has been run.
            (file,) = (file for file in migrations() if f"{file.number:04}_{file.name}" == self.file)
            schema_editor.execute(for_schema(file.text, schema), params=None)
            return
        cursor: Cursor[Any] = Cursor(DjangoSnapshotStore(using, schema).connection, row_factory=tuple_row)
        cursor.execute(LOCK, (schema,))
        for name, text in carried_out(cursor, missing_steps(schema, triggers=True)):
            if name in {"", self.file}:
                schema_editor.execute(text, params=None)

    def database_backwards(
        self,
        app_label: str,  # noqa: ARG002 Django's
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        if schema_editor.connection.alias == conf.setting("DATABASE"):
            raise IrreversibleError(
                "events are never dropped by a migration: drop the schema "
                f"{conf.setting('SCHEMA')!r} yourself if you mean it, and run migrate with --fake"
            )

    def describe(self) -> str:
        return f"Runs sql/{self.file}.sql"


def make_schema_without_migrations(using: str, **_: Any) -> None:
    """Before `migrate`: run all files where the app's migrations are switched off.

    pytest's ``--nomigrations``, ``MIGRATE: False`` of a test database and ``MIGRATION_MODULES`` do that. Django makes
    the tables of the models then, and these are not Django's to make.
    """
    if using == conf.setting("DATABASE") and MigrationLoader.migrations_module("eventstore")[0] is None:
        schema = conf.setting("SCHEMA")
        with transaction.atomic(using=using):
            migrate(DjangoSnapshotStore(using, schema).connection, schema)
