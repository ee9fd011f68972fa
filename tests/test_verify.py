"""``eventstore verify``: every kind of damage is planted, and found. A whole store has no finding."""

from __future__ import annotations

import json
import sys
import types
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
import pytest
from baskets import Basket, SnapshotsAdded

from eventstore import Event, PostgresEventStore, PostgresSnapshotStore, Repository, Subscription
from eventstore.cli import main
from eventstore.postgres import apply_roles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg_pool import ConnectionPool

Verify: TypeAlias = "Callable[..., tuple[int, list[str], str]]"
EVENT = "(version, position, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)"


@pytest.fixture(autouse=True)
def store(pool: ConnectionPool, schema: str) -> PostgresEventStore:
    """A store with one of everything."""
    store = PostgresEventStore(pool, schema)
    baskets = Repository(store, Basket, PostgresSnapshotStore(pool, schema), snapshot_frequency=2)
    for number in range(3):
        basket = Basket(str(number))
        basket.add(1, 2, 3)
        baskets.save(basket)
    store.close_stream("Basket-1", SnapshotsAdded(number=9), 3)
    store.retire("Basket-2", reason="done")
    subscription = Subscription(store, "mails", lambda _: 1 / 0, on_failure="park", attempts=1, event_types="Odd")
    store.append("odd", [Event(event_type="Odd", metadata={"by": "ann"})], 0)
    subscription.run_until_caught_up()
    assert len(subscription.parked()) == 1
    return store


@pytest.fixture
def verify(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> Verify:
    def verify(*arguments: str) -> tuple[int, list[str], str]:
        code = main(["verify", "--dsn", dsn, "--schema", schema, *arguments])
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err

    return verify


@pytest.fixture
def damage(dsn: str, schema: str) -> Callable[[str], None]:
    def damage(statements: str) -> None:
        with psycopg.connect(dsn, options=f"-c search_path={schema}") as connection:
            connection.execute("ALTER TABLE events DISABLE TRIGGER append_only")
            connection.execute(statements.encode())
            connection.execute("ALTER TABLE events ENABLE TRIGGER append_only")

    return damage


def test_a_whole_store_has_no_finding(store: PostgresEventStore, verify: Verify) -> None:
    code, out, err = verify()
    end = store.last_position()
    assert (code, out, err) == (0, [f"12 events, up to position {end}: 0 finding(s)"], "")


DAMAGES = {
    "a gap in the versions": (
        "DELETE FROM events WHERE stream_id = 'Basket-0' AND version = 2",
        "version: version 3 of stream 'Basket-0', at position 3: version 2 is missing, and is not recorded as archived",
    ),
    "a version below 1": (
        "UPDATE events SET version = 0 WHERE stream_id = 'odd'",
        "version: version 0 of stream 'odd', at position 12: versions begin at 1",
    ),
    "positions that fall while versions rise": (
        (
            "UPDATE events SET position = 100 WHERE stream_id = 'Basket-0' AND version = 2;"
            "SELECT setval('event_positions', 100)"
        ),
        "order: version 3 of stream 'Basket-0', at position 3: version 2 is at position 100, which must be lower",
    ),
    "a position twice": (
        "UPDATE events SET position = 3 WHERE stream_id = 'Basket-1' AND version = 1",
        "position: version 1 of stream 'Basket-1', at position 3: it must be above 3, that of the event before",
    ),
    "a position below 1": (
        "UPDATE events SET position = -7 WHERE stream_id = 'Basket-0' AND version = 1",
        "position: version 1 of stream 'Basket-0', at position -7: it must be above 0, that of the event before",
    ),
    "a sequence below the log": (
        "SELECT setval('event_positions', 5)",
        "sequence: event_positions: it has drawn 5, and the newest event is at 12: positions would be used twice",
    ),
    "an event id twice": (
        "UPDATE events SET event_id = (SELECT event_id FROM events WHERE position = 1) WHERE position = 3",
        "event id: version 3 of stream 'Basket-0', at position 3: version 1 has the same id, ",
    ),
    "a payload that is cut off": (
        "UPDATE events SET data = substr(data, 1, 3) WHERE position = 1",
        "payload: version 1 of stream 'Basket-0', at position 1: ",
    ),
    "metadata that is not msgpack": (
        "UPDATE events SET metadata = '\\xc1' WHERE position = 12",
        "metadata: version 1 of stream 'odd', at position 12: ",
    ),
    "a timestamp beyond the years of Python": (
        "UPDATE events SET timestamp = '12000-01-01' WHERE position = 1",
        "timestamp: version 1 of stream 'Basket-0', at position 1: ",
    ),
    "a revision below 1": (
        "UPDATE events SET revision = 0 WHERE position = 1",
        "revision: version 1 of stream 'Basket-0', at position 1: revision 0 is below 1",
    ),
    "an event type without a name": (
        "UPDATE events SET event_type = '' WHERE position = 1",
        "name: version 1 of stream 'Basket-0', at position 1: event type must not be empty",
    ),
    "a tombstone without its mark": (
        "UPDATE events SET tombstone = false WHERE tombstone",
        "tombstone: version 4 of stream 'Basket-2', at position 11: an event of type 'eventstore.Tombstone' has the",
    ),
    "an event after a tombstone": (
        (
            f"INSERT INTO events {EVENT} SELECT 5, 13, now(), 0, gen_random_uuid(), stream_id, 'T', '\\x80', '\\x80'"
            " FROM events WHERE tombstone; SELECT setval('event_positions', 13)"
        ),
        "tombstone: version 5 of stream 'Basket-2', at position 13: the event before it retired the stream",
    ),
    "a snapshot with another state": (
        "UPDATE snapshots SET state = state || '\\x00' WHERE aggregate_id = '0'",
        "snapshot: of Basket 0, at version 3: its checksum is not that of its state",
    ),
    "a snapshot of a stream that is shorter": (
        "DELETE FROM events WHERE stream_id = 'Basket-0' AND version = 3",
        "snapshot: of Basket 0, at version 3: its stream has no event at that version",
    ),
    "a snapshot of another stream": (
        "UPDATE events SET event_id = gen_random_uuid() WHERE position = 3",
        "snapshot: of Basket 0, at version 3: its stream has another event at that version",
    ),
    "a checkpoint above the log": (
        "UPDATE subscriptions SET position = 1000",
        "checkpoint: of subscription 'mails', partition 0: it is at 1000, and the newest event is at 12",
    ),
    "a parked event that is gone": (
        "UPDATE parked_events SET position = 999",
        "parked event: of subscription 'mails': there is no event at position 999",
    ),
    "an archived stream without its tombstone": (
        "INSERT INTO archived_streams VALUES ('Gone-1', 7, 'archive', '\\x00', '\\x00')",
        "archived stream: 'Gone-1': its tombstone or closing event, version 7, is missing",
    ),
    "a trigger that is disabled": (
        (
            "ALTER TABLE events ENABLE TRIGGER append_only; ALTER TABLE events DISABLE TRIGGER append_only;"
            "ALTER TABLE events RENAME TO e; CREATE VIEW v AS SELECT 1; ALTER TABLE e RENAME TO events;"
            "DROP TRIGGER append_only ON events; CREATE TRIGGER append_only BEFORE UPDATE ON events"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        ),
        "schema: trigger append_only of events: it was changed after the migrations, to ",
    ),
    "a trigger of somebody else": (
        "CREATE TRIGGER more BEFORE UPDATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
        "schema: trigger more of events: no migration has made it",
    ),
    "an index that was dropped": ("DROP INDEX events_event_id", "schema: index events_event_id: it is missing"),
    "a constraint that was dropped": (
        "ALTER TABLE events DROP CONSTRAINT events_stream_version",
        "schema: constraint events_stream_version of events: it is missing",
    ),
    "a function with another body": (
        "CREATE OR REPLACE FUNCTION safe_position(_after bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 9::bigint'",
        "schema: function safe_position(_after bigint): it was changed after the migrations",
    ),
    "a column of another type": (
        "ALTER TABLE snapshots ALTER COLUMN taken_at TYPE date",
        "schema: column snapshots.taken_at: it was changed after the migrations, to 'date NOT NULL ",
    ),
    "a migration that was not applied": (
        "DELETE FROM migrations WHERE name = 'operations'",
        "schema: '",
    ),
    "an append that everybody may make": (
        "GRANT EXECUTE ON FUNCTION append TO PUBLIC",
        "grants: EXECUTE on append to PUBLIC: it is more than the role needs: revoke it",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_found(
    damage: Callable[[str], None],
    verify: Verify,
    what: str,
) -> None:
    statements, finding = DAMAGES[what]
    damage(statements)
    code, out, _ = verify()
    assert code == 1
    assert any(line.startswith(finding) for line in out), out
    assert out[-1].endswith(f"{len(out) - 1} finding(s)")
    code, lines, _ = verify("--json")
    found = [json.loads(line) for line in lines]
    assert code == 1
    assert [f"{each['kind']}: {each['subject']}: {each['detail']}" for each in found[:-1]] == out[:-1]
    assert found[-1]["findings"] == len(found) - 1 == sum(found[-1]["kinds"].values())


def test_missing_and_additional_grants_of_the_roles_are_found(dsn: str, schema: str, verify: Verify) -> None:
    roles = apply_roles(dsn, schema)
    try:
        assert verify()[0] == 0
        with psycopg.connect(dsn) as connection:
            connection.execute(f"REVOKE SELECT ON {schema}.events FROM {roles.reader}")
            connection.execute(f"GRANT TRUNCATE ON {schema}.events TO {roles.writer}")
        code, out, _ = verify()
        assert (code, out[:-1]) == (
            1,
            [
                f"grants: SELECT on events to {roles.reader}: it is missing: run `eventstore roles --apply`",
                f"grants: TRUNCATE on events to {roles.writer}: it is more than the role needs: revoke it",
            ],
        )
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"REASSIGN OWNED BY {roles.owner} TO CURRENT_USER")
            for role in roles:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_verify_leaves_nothing_behind(dsn: str, verify: Verify) -> None:
    verify()
    with psycopg.connect(dsn) as connection:
        left = connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'eventstore_verify_%'").fetchall()
    assert left == []


@pytest.fixture
def shop(store: PostgresEventStore) -> Iterator[str]:
    module = types.ModuleType("verifiedshop")
    module.__dict__.update(baskets=Repository(store, Basket), number=7)
    sys.modules["verifiedshop"] = module
    yield "verifiedshop:baskets"
    del sys.modules["verifiedshop"]


def test_a_snapshot_that_differs_from_a_replay_is_found(
    shop: str,
    verify: Verify,
    damage: Callable[[str], None],
) -> None:
    assert verify("--replay", shop)[0] == 0
    damage("UPDATE events SET data = (SELECT data FROM events WHERE position = 2) WHERE position = 1")
    code, out, _ = verify("--replay", shop)
    assert code == 1
    assert out[0].startswith("replay: of Basket 0, at version 3: its attributes last_by_digit, parts, total differ")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("verifiedshop", "name a repository as package.module:name"),
        ("verifiedshop:number", "is not a Repository of eventstore"),
        ("nosuchmodule:x", "there is no module 'nosuchmodule'"),
    ],
)
def test_what_is_not_a_repository_is_refused(verify: Verify, target: str, message: str) -> None:
    code, out, err = verify("--replay", target)
    assert (code, out) == (1, [])
    assert message in err


def test_one_stream_is_verified_alone(verify: Verify, damage: Callable[[str], None]) -> None:
    damage("DELETE FROM events WHERE stream_id = 'Basket-0' AND version = 2")
    assert verify("--stream", "Basket-1")[:2] == (0, ["4 events, up to position 10: 0 finding(s)"])
    assert verify("--stream", "Basket-0")[0] == 1


def test_only_events_above_a_position_are_verified(verify: Verify, damage: Callable[[str], None]) -> None:
    damage("UPDATE events SET data = '\\xc1' WHERE position = 1")
    assert verify("--since-position", "1")[:2] == (0, ["11 events, up to position 12: 0 finding(s)"])
    assert verify("--since-position", "0")[0] == 1


def test_verify_reads_at_the_rate_that_is_given(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("eventstore.cli.verifying.time.sleep", slept.append)
    assert verify("--rate", "4")[0] == 0
    assert slept[0] == pytest.approx(3, abs=1)


def test_what_a_role_may_not_check_is_said(dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    roles = apply_roles(dsn, schema)
    try:
        code = main(["verify", "--dsn", f"{dsn}&options=-c%20role%3D{roles.reader}", "--schema", schema, "--json"])
        out = capsys.readouterr().out.splitlines()
        summary: dict[str, Any] = json.loads(out[-1])
        assert (code, summary["events"], summary["findings"]) == (0, 12, 0)
        assert [each.partition(":")[0] for each in summary["not_checked"]] == [
            "the sequence",
            "checkpoints",
            "parked events",
            "the schema and its grants",
        ]
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute(f"REASSIGN OWNED BY {roles.owner} TO CURRENT_USER")
            for role in roles:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_schema_that_is_not_there_is_said(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--dsn", dsn, "--schema", "nowhere"]) == 1
    assert "eventstore migrate" in capsys.readouterr().err
