"""``eventstore subjects``: what it prints of a subject, how it forgets one, and how it rotates keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated

import pytest

from eventstore import Aggregate, Event, PostgresEventStore, PostgresSnapshotStore, Repository, Subscription
from eventstore.cli import main
from eventstore.privacy import InMemorySubjectKeys, Personal, PostgresSubjectKeys, Subject, SubjectForgotten

Run = Callable[..., tuple[int, str, str]]
OLD, NEW = "8f" * 32, "7e" * 32


class CliSubjectNamed(Event):
    who: Annotated[str, Subject]
    name: Annotated[str, Personal("")]


class CliPerson(Aggregate["CliPerson"]):
    name: Annotated[str, Personal("")] = ""

    def apply(self, event: Event) -> None:
        self.name = event.name if isinstance(event, CliSubjectNamed) else ""


subject_keys = InMemorySubjectKeys()
not_keys = object()


@pytest.fixture
def run(
    dsn: str, schema: str, keys_schema: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("EVENTSTORE_KEY_ENCRYPTION_KEY", OLD)
    monkeypatch.delenv("EVENTSTORE_KEYS_DSN", raising=False)

    def run(action: str, *arguments: str) -> tuple[int, str, str]:
        where = ["--dsn", dsn, "--schema", schema, "--keys-schema", keys_schema]
        code = main(["subjects", action, *where, *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stored(dsn: str, schema: str, keys_schema: str) -> None:
    with (
        PostgresSubjectKeys.connect(dsn, wrap=bytes.fromhex(OLD), schema=keys_schema) as keys,
        PostgresEventStore.connect(dsn, schema, subject_keys=keys) as store,
    ):
        person = CliPerson("1")
        for name in ("Ann", "Anne"):
            person._record(CliSubjectNamed(who="ann", name=name))
        Repository(store, CliPerson, PostgresSnapshotStore(store.connections, schema), 2).save(person)
        store.append("Note-1", [CliSubjectNamed(who="ann", name="Ann"), CliSubjectNamed(who="bob", name="Bob")], 0)
        Subscription(store, "mails", lambda _: None).run_until_caught_up()


@pytest.mark.usefixtures("stored")
class TestWithData:
    def test_show_prints_the_key_and_the_streams(self, run: Run) -> None:
        code, printed, _ = run("show", "ann")
        assert code == 0
        first, *streams = printed.splitlines()
        assert first.startswith("ann  has a key since ")
        assert "wrapped by sha256:" in first
        assert streams == ["  stream CliPerson-1", "  stream Note-1"]
        found = json.loads(run("show", "ann", "--json")[1])
        assert (found["streams"], found["forgotten_at"]) == (["CliPerson-1", "Note-1"], None)
        code, _, complaint = run("show", "nobody")
        assert (code, complaint.count("\n")) == (1, 1)
        assert "nothing is known of the subject 'nobody'" in complaint

    def test_forget_without_yes_does_nothing_where_nobody_can_be_asked(self, run: Run, dsn: str, schema: str) -> None:
        code, printed, complaint = run("forget", "ann")
        assert (code, printed) == (1, "")
        assert "would forget the subject 'ann', whose personal data is in 2 stream(s): say --yes" in complaint
        with PostgresEventStore.connect(dsn, schema) as store:
            assert list(store.read_all(event_types=SubjectForgotten)) == []

    def test_a_dry_run_lists_streams_snapshots_and_subscriptions_and_forgets_nothing(self, run: Run) -> None:
        code, printed, _ = run("forget", "ann", "--dry-run")
        assert code == 0
        assert printed.splitlines()[1:] == [
            "  stream CliPerson-1",
            "  stream Note-1",
            "  snapshot CliPerson 1 at version 2",
            "  subscription mails at position 4, may have seen it",
        ]
        assert json.loads(run("forget", "ann", "--dry-run", "--json")[1])["snapshots"] == [
            {"aggregate_type": "CliPerson", "aggregate_id": "1", "version": 2}
        ]
        assert "has a key since" in run("show", "ann")[1]

    def test_forget_forgets_and_says_for_how_long_others_may_read(self, run: Run, dsn: str, schema: str) -> None:
        code, printed, _ = run("forget", "ann", "--reason", "Art. 17", "--yes")
        assert code == 0
        assert printed == (
            "forgot the subject 'ann', whose personal data is in 2 stream(s) (position 5); other processes may read it "
            "for 60 s\n"
        )
        with PostgresEventStore.connect(dsn, schema) as store:
            (event,) = store.read_all(event_types=SubjectForgotten)
            assert (event.subject, event.reason) == ("ann", "Art. 17")
        assert run("show", "ann")[1].splitlines()[0].endswith(": Art. 17")
        assert "snapshot" not in run("forget", "ann", "--dry-run")[1]
        again = json.loads(run("forget", "ann", "--yes", "--json")[1])
        assert again == {"subject": "ann", "position": 5, "repeated": True, "streams": ["CliPerson-1", "Note-1"]}

    def test_on_a_terminal_it_asks_first(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal:
            def __init__(self, answer: str) -> None:
                self.readline = lambda: answer

            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        code, printed, _ = run("forget", "ann")
        assert (code, printed.endswith("Nothing was forgotten.\n")) == (1, True)
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        assert run("forget", "ann")[0] == 0

    def test_a_subject_of_which_nothing_is_known_is_not_forgotten_by_mistake(self, run: Run) -> None:
        code, printed, complaint = run("forget", "anne", "--yes")
        assert (code, printed) == (1, "")
        assert "nothing is known of the subject 'anne', so nothing was forgotten" in complaint
        assert run("show", "anne")[0] == 1
        assert run("forget", "anne", "--yes", "--unknown")[0] == 0
        assert run("show", "anne")[0] == 0

    def test_subjects_are_listed_page_by_page(self, run: Run) -> None:
        run("forget", "bob", "--yes", "--unknown")
        assert [line.split()[:2] for line in run("list")[1].splitlines()] == [["ann", "has"], ["bob", "forgotten"]]
        assert [json.loads(line)["subject"] for line in run("list", "--json", "--after", "ann")[1].splitlines()] == [
            "bob"
        ]
        assert run("list", "--limit", "0") == (0, "", "")
        assert run("list", "--limit", "1")[1].startswith("ann ")

    def test_rotate_wraps_all_keys_by_the_new_one(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVENTSTORE_KEY_ENCRYPTION_KEY", NEW)
        code, _, complaint = run("rotate")
        assert code == 1
        assert "is wrapped by the key-encryption key" in complaint
        assert NEW not in complaint
        monkeypatch.setenv("EVENTSTORE_FORMER_KEY_ENCRYPTION_KEYS", f"{OLD},")
        assert run("rotate")[:2] == (0, "wrapped 2 key(s) by the present key-encryption key\n")
        assert json.loads(run("rotate", "--json")[1]) == {"rewrapped": 0}
        monkeypatch.delenv("EVENTSTORE_FORMER_KEY_ENCRYPTION_KEYS")
        assert run("rotate")[0] == 0


def test_rotate_needs_a_key_encryption_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, words in ((None, "set EVENTSTORE_KEY_ENCRYPTION_KEY"), ("s3cret", "hexadecimal"), ("8f", "32 bytes")):
        monkeypatch.delenv("EVENTSTORE_KEY_ENCRYPTION_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("EVENTSTORE_KEY_ENCRYPTION_KEY", value)
        code, _, complaint = run("rotate")
        assert code == 1
        assert words in complaint
        assert "s3cret" not in complaint


def test_nothing_but_rotate_needs_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTSTORE_KEY_ENCRYPTION_KEY")
    assert run("list") == (0, "", "")
    assert run("forget", "ann", "--yes", "--unknown")[0] == 0


def test_migrate_makes_the_schema_of_the_keys(run: Run, keys_schema: str) -> None:
    assert run("migrate") == (0, f"schema '{keys_schema}' is up to date\n", "")


def test_a_schema_that_is_missing_is_named_with_the_command_that_makes_it(run: Run) -> None:
    code, _, complaint = run("list", "--keys-schema", "test_nowhere")
    assert code == 1
    assert "`eventstore subjects migrate --keys-schema test_nowhere`" in complaint


def test_the_keys_of_an_application_can_be_named(run: Run) -> None:
    subject_keys.get_or_create("eve")
    assert run("list", "--keys", "test_cli_subjects:subject_keys")[1].startswith("eve ")
    for target in ("test_cli_subjects", "test_cli_subjects:not_keys", "test_cli_subjects:nothing", "nowhere:keys"):
        code, _, complaint = run("list", "--keys", target)
        assert (code, complaint.count("\n")) == (1, 1)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["show"], ["forget"], ["list", "--limit", "-1"]])
def test_invalid_commands_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subjects", *arguments]) == 2
    assert "usage:" in capsys.readouterr().err
