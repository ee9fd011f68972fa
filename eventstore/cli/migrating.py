"""``eventstore migrate``, ``roles`` and ``promote``: what prepares a database, or what would be done."""

from __future__ import annotations

from eventstore.codec.showing import cleaned
from eventstore.postgres import apply_roles, migrate, planned_sql, promote, roles_sql


def run(dsn: str, schema: str, *, dry_run: bool, triggers: bool) -> int:
    """Apply what is missing and say what it was; or print it."""
    up_to_date = f"schema {schema!r} is up to date"
    if dry_run:
        print(planned_sql(dsn, schema, triggers=triggers).strip() or f"-- {up_to_date}")
        return 0
    applied = migrate(dsn, schema, triggers=triggers)
    print(f"schema {schema!r}: applied {', '.join(applied)}" if applied else up_to_date)
    return 0


def roles(dsn: str | None, schema: str, prefix: str | None) -> int:
    """Make the roles of a store in a database, and say what they are called; or, without a database, print the SQL."""
    if dsn is None:
        print(roles_sql(schema, prefix).strip())
        return 0
    made = apply_roles(dsn, schema, prefix)
    done = (
        f"schema {schema!r}: {', '.join(made)} have what they need. Make a login a member: GRANT {made.writer} TO ..."
    )
    print(cleaned(done))
    return 0


def promotion(dsn: str, schema: str, *, apply: bool) -> int:
    """Let a logical replica take over, or say what that would change."""
    drawn, newest = promote(dsn, schema, dry_run=not apply)
    if apply:
        print(cleaned(f"schema {schema!r}: the sequence of positions was at {drawn}, and continues above {newest}"))
    else:
        print(
            cleaned(
                f"schema {schema!r}: the sequence of positions is at {drawn}, and would continue above {newest}, the "
                "newest event; --apply sets it"
            )
        )
    return 0
