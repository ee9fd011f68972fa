"""``eventstore migrate``: a schema brought up to date, or the SQL that would do it."""

from __future__ import annotations

from eventstore.postgres import migrate, planned_sql


def run(dsn: str, schema: str, *, dry_run: bool, triggers: bool) -> int:
    """Apply what is missing and say what it was; or print it."""
    up_to_date = f"schema {schema!r} is up to date"
    if dry_run:
        print(planned_sql(dsn, schema, triggers=triggers).strip() or f"-- {up_to_date}")
        return 0
    applied = migrate(dsn, schema, triggers=triggers)
    print(f"schema {schema!r}: applied {', '.join(applied)}" if applied else up_to_date)
    return 0
