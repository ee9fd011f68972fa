"""What each role of `eventstore roles` may do, and that it may do nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from eventstore import Event, InvalidArgument, PostgresEventStore, SchemaError
from eventstore.cli import main
from eventstore.postgres import Roles, apply_roles, migrate, roles_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"
FORGED = "(stream_id, version, timestamp, utc_offset, event_id, event_type, data, metadata)"
FORGED += " VALUES ('Order-1', 2, now(), 0, gen_random_uuid(), 'T', '\\x80', '\\x80')"
NOTHING = "-1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', NULL"

ATTEMPTS = {
    "read events": "SELECT * FROM {schema}.events",
    "read the log": "SELECT {schema}.safe_position(0)",
    "append": f"SELECT {{schema}}.append('Order-1', {NOTHING})",
    "append in a transaction": f"SELECT {{schema}}.append_in_transaction('Order-1', {NOTHING})",
    "append to many streams": "SELECT * FROM {schema}.append_many(ARRAY['Order-1'], ARRAY[-1]::bigint[], "
    + "NULL, " * 9
    + "NULL)",
    "append without locks": f"SELECT {{schema}}.write_events('Order-1', {NOTHING}, false, false)",
    "insert a version of one's own": f"INSERT INTO {{schema}}.events {FORGED}",
    "draw a position": "SELECT nextval('{schema}.event_positions')",
    "set the sequence back": "SELECT setval('{schema}.event_positions', 1)",
    "update events": "UPDATE {schema}.events SET event_type = 'x'",
    "delete events": "DELETE FROM {schema}.events",
    "truncate events": "TRUNCATE {schema}.events",
    "lock the table": "LOCK TABLE {schema}.events IN SHARE MODE",
    "disable the trigger": "ALTER TABLE {schema}.events DISABLE TRIGGER append_only",
    "drop the trigger": "DROP TRIGGER append_only ON {schema}.events",
    "skip triggers": "SET session_replication_role = replica",
    "drop events": "DROP TABLE {schema}.events CASCADE",
    "index events": "CREATE INDEX ON {schema}.events (event_type)",
    "rename a function": "ALTER FUNCTION {schema}.append RENAME TO appended",
    "make a table": "CREATE TABLE {schema}.more ()",
    "drop the schema": "DROP SCHEMA {schema} CASCADE",
    "read snapshots": "SELECT * FROM {schema}.snapshots",
    "write snapshots": "INSERT INTO {schema}.snapshots VALUES ('a', 'b', 'c', 1, gen_random_uuid(), '', '')",
    "delete snapshots": "DELETE FROM {schema}.snapshots",
    "truncate snapshots": "TRUNCATE {schema}.snapshots",
    "read the status": "SELECT * FROM {schema}.subscription_status",
    "find who is in the way": "SELECT * FROM {schema}.blocking_sessions(NULL)",
    "read checkpoints": "SELECT * FROM {schema}.subscriptions",
    "move a checkpoint": "UPDATE {schema}.subscriptions SET position = 0",
    "remove a subscription": "SELECT {schema}.remove_subscription('s')",
    "read parked events": "SELECT * FROM {schema}.parked_events",
    "park an event": "INSERT INTO {schema}.parked_events (name, position, attempts, error) VALUES ('s', 1, 1, 'e')",
    "truncate checkpoints": "TRUNCATE {schema}.subscriptions",
    "read migrations": "SELECT * FROM {schema}.migrations",
    "forge migrations": "UPDATE {schema}.migrations SET checksum = ''",
    "archive streams": "SELECT {schema}.archive_streams('{}', '{}', '{}', 'a', '')",
    "restore streams": "SELECT {schema}.restore_streams('')",
    "hand in restored events": "DELETE FROM {schema}.restored_events",
    "see what was archived": "SELECT * FROM {schema}.archived_streams",
    "forge what was archived": "INSERT INTO {schema}.archived_streams VALUES ('Order-1', 1, 'a', '', '')",
    "forget what was archived": "DELETE FROM {schema}.archived_streams",
    "calculate digests": "SELECT {schema}.archived_digests('{}', '{}', '{}')",
    "read another store": "SELECT * FROM {other}.events",
    "append to another store": f"SELECT {{other}}.append('Order-1', {NOTHING})",
    "follow another store": "SELECT * FROM {other}.subscriptions",
    "make a schema": "CREATE SCHEMA {schema}_more",
    "make a role": "CREATE ROLE {schema}_more",
    "become the owner": "SET ROLE {schema}_owner",
    "become the writer of another store": "SET ROLE {other}_writer",
    "read a file of the server": "SELECT pg_read_file('PG_VERSION')",
    "run a program on the server": "COPY {schema}.events TO PROGRAM 'true'",
}
READS = {
    "read events",
    "see what was archived",
    "read the log",
    "read snapshots",
    "read the status",
    "find who is in the way",
}
FOLLOWS = {
    "read checkpoints", "move a checkpoint", "remove a subscription", "read parked events", "park an event",
}  # fmt: skip
MAY = {
    "reader": READS,
    "writer": READS
    | {"append", "append in a transaction", "append to many streams", "write snapshots", "delete snapshots"},
    "follower": READS | FOLLOWS,
    "operator": READS
    | FOLLOWS
    | {"delete snapshots", "read migrations", "archive streams", "restore streams", "hand in restored events"},
}
REFUSED_TO_THE_OWNER = {"update events", "delete events", "truncate events"}
"""By the trigger, which an owner can disable."""
BEYOND_THE_STORE = {
    "skip triggers", "read another store", "append to another store", "follow another store", "make a schema",
    "make a role", "become the writer of another store", "read a file of the server", "run a program on the server",
}  # fmt: skip


@pytest.fixture
def other(dsn: str, schema: str) -> Iterator[str]:
    """Another tenant's store."""
    name = f"{schema}_other"
    migrate(dsn, name)
    yield name
    with psycopg.connect(dsn) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
def roles(dsn: str, schema: str, other: str) -> Iterator[Roles]:
    made = apply_roles(dsn, schema), apply_roles(dsn, other)
    yield made[0]
    with psycopg.connect(dsn) as connection:
        for role in (*made[0], *made[1]):
            connection.execute(
                f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}".encode()
            )


def outcome(connection: psycopg.Connection, statement: str) -> str:
    """What becomes of a statement, of which nothing stays."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return "denied"
    except psycopg.errors.RestrictViolation:
        return "refused by the trigger"
    return "done"


@pytest.mark.parametrize("role", [*MAY, "owner"])
def test_a_role_may_do_what_it_is_for_and_nothing_else(
    dsn: str, schema: str, other: str, roles: Roles, role: str
) -> None:
    with PostgresEventStore.connect(dsn, schema) as store:
        store.append("Order-1", [Event(event_type="T")], 0)
    with psycopg.connect(dsn, autocommit=True) as connection:
        # As if this role had logged in: SET ROLE alone would leave it the rights of the session to become others.
        connection.execute(f"SET SESSION AUTHORIZATION {getattr(roles, role)}".encode())
        became = {
            what: outcome(connection, statement.replace("{schema}", schema).replace("{other}", other))
            for what, statement in ATTEMPTS.items()
        }
    if role == "owner":
        expected = dict.fromkeys(ATTEMPTS, "done")
        expected |= dict.fromkeys(BEYOND_THE_STORE, "denied")
        expected |= dict.fromkeys(REFUSED_TO_THE_OWNER, "refused by the trigger")
    else:
        expected = {what: "done" if what in MAY[role] else "denied" for what in ATTEMPTS}
    assert became == expected


def test_an_operator_archives_and_restores(
    dsn: str, schema: str, roles: Roles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PostgresEventStore.connect(dsn, schema) as store:
        store.append("Order-1", [Event(event_type="T")], 0)
        store.retire("Order-1", reason="done")
    for role, code in ((roles.follower, 1), (roles.writer, 1), (roles.operator, 0)):
        where = ["--dsn", make_conninfo(dsn, options=f"-c role={role}"), "--schema", schema]
        place = str(tmp_path / role)
        assert main(["archive", *where, "--category", "Order", "--retired-for", "0d", "--to", place]) == code
        assert ("permission denied" in capsys.readouterr().err) is bool(code)
    assert main(["restore", *where, place]) == 0


def test_what_runs_with_its_owners_rights_has_no_more_than_the_stores_owner(
    dsn: str, schema: str, roles: Roles
) -> None:
    with psycopg.connect(dsn) as connection:
        owners = connection.execute(
            """
            SELECT DISTINCT owner::regrole::text FROM (
                SELECT nspowner AS owner, oid AS home FROM pg_namespace
                UNION ALL SELECT relowner, relnamespace FROM pg_class
                UNION ALL SELECT proowner, pronamespace FROM pg_proc
                UNION ALL SELECT typowner, typnamespace FROM pg_type
            ) AS objects WHERE home = %s::regnamespace
            """,
            (schema,),
        ).fetchall()
        flags = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls, rolreplication FROM pg_roles"
            " WHERE rolname = ANY (%s)",
            (list(roles),),
        ).fetchall()
    assert owners == [(roles.owner,)]
    assert flags == [(False,) * 6] * 5


def test_roles_can_be_applied_again_and_the_owner_migrates(dsn: str, schema: str, roles: Roles) -> None:
    assert apply_roles(dsn, schema) == roles
    assert migrate(make_conninfo(dsn, options=f"-c role={roles.owner}"), schema) == []


def test_the_command_prints_what_it_would_run(
    dsn: str, schema: str, roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["roles", "--schema", schema]) == 0  # without a database
    printed = capsys.readouterr().out
    assert printed == roles_sql(schema)
    with psycopg.connect(dsn) as connection:
        connection.execute(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {roles.writer}".encode())
        connection.execute(printed.encode())
        allowed = "SELECT has_function_privilege(%s, oid, 'execute') FROM pg_proc WHERE oid = %s::regproc"
        assert connection.execute(allowed, (roles.writer, f"{schema}.append")).fetchone() == (True,)
    assert main(["roles", "--apply", "--dsn", dsn, "--schema", schema]) == 0
    assert f"GRANT {schema}_writer TO ..." in capsys.readouterr().out


def test_names_that_would_end_a_comment_or_a_body_are_only_names(dsn: str) -> None:
    name = "a\n\"'; SELECT 1/0 --{x}%s\\"
    migrate(dsn, name)
    made = apply_roles(dsn, name)
    try:
        assert made.writer == f"{name}_writer"
        assert apply_roles(dsn, name) == made
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            for role in made:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("", "must not be empty"),
        ("x" * 55, "would make names of 64 bytes"),
        ("pg_x", "are PostgreSQL's own"),
        ("a$eventstore$", "must not contain"),
    ],
)
def test_an_invalid_prefix_of_role_names_is_refused(prefix: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        roles_sql("eventstore", prefix)


def test_a_schema_that_is_not_there_is_refused_and_no_role_is_left(dsn: str) -> None:
    with pytest.raises(SchemaError, match="run `eventstore migrate --schema nowhere`"):
        apply_roles(dsn, "nowhere")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname LIKE 'nowhere%'").fetchall() == []


def test_the_documentation_quotes_what_the_command_prints() -> None:
    grants = re.search(
        r"^```sql\n(GRANT USAGE .*?)^```$", (DOCS / "postgresql.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert grants is not None
    assert roles_sql().endswith(grants[1])


def test_the_documentation_lists_the_roles_with_what_each_may_do() -> None:
    table = re.findall(r"^\| `eventstore_(\w+)` \|", (DOCS / "security.md").read_text(), re.MULTILINE)
    assert table == list(Roles._fields)
