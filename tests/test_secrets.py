"""A password in a DSN comes out nowhere: not in errors, nor what they are chained to, nor in reprs or help."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from eventstore import (
    AsyncPostgresEventStore,
    InvalidArgument,
    PostgresEventStore,
    PostgresSnapshotStore,
    StoreUnavailable,
)
from eventstore.cli import main
from eventstore.postgres import migrate, planned_sql
from eventstore.postgres.dsn import checked_dsn, without_passwords
from eventstore.postgres.notifications import Server

MISTYPED = [
    "postgres//bob:s3cret@h/db",
    "postgresql+psycopg://bob:s3cret@h/db",
    "postgres:/bob:s3cret@h/db",
    "postgresql://bob:s3cret@h/db?no_such_option=1",
    "postgresql://bob:x@s3cret@h/db",
    "postgresql://bob:s3cret/x@h/db",
    "postgresql://bob:s3cret%@h/db",
    "host=h password='s3cret",
    "host=h password=x s3cret",
    "bob:s3cret@h/db",
    "postgresql://bob:s3cret\0@h/db",
]


def everything_of(error: BaseException | None) -> str:
    """Its texts, and those of all that it is chained to."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error)), *traceback.format_exception_only(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("dsn", MISTYPED)
@pytest.mark.parametrize(
    "use",
    [PostgresEventStore.connect, PostgresSnapshotStore.connect, AsyncPostgresEventStore.connect, migrate, planned_sql],
)
def test_a_malformed_dsn_is_refused_without_any_of_it(use: Callable[[str], Any], dsn: str) -> None:
    with pytest.raises(InvalidArgument, match="the DSN is malformed: ") as raised:
        use(dsn)
    assert "s3cret" not in everything_of(raised.value)
    assert "bob" not in everything_of(raised.value)


@pytest.mark.parametrize("use", [PostgresEventStore.connect, AsyncPostgresEventStore.connect, migrate])
def test_a_dsn_that_is_none_is_refused_in_words(use: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidArgument, match="the DSN must be a str, not NoneType: write postgresql://user@host/"):
        use(None)


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "postgresql://bob:s%403cret@h:5432/db",
        "postgres://h1:1,h2:2/db?target_session_attrs=any",
        "host=/tmp/a@b dbname=d",
        "host=@abstract port=5432",
        "postgresql://%2Ftmp%2Fsocket/db",
        "service=mine passfile=/etc/pass",
    ],
)
def test_a_dsn_that_libpq_understands_is_taken_as_it_is(dsn: str) -> None:
    assert checked_dsn(dsn) == dsn


def test_an_error_of_the_connection_does_not_repeat_the_password() -> None:
    with PostgresEventStore.connect("postgresql://bob:s3cret@127.0.0.1:1/db") as store:
        with pytest.raises(StoreUnavailable) as raised:
            store.read("s")
        assert "s3cret" not in everything_of(raised.value)
        assert "s3cret" not in repr(store) + repr(store.connections) + repr(store.connections.server())
    assert "s3cret" not in repr(Server("host=h password=s3cret", {"password": "s3cret"}))


@pytest.mark.parametrize("dsn", MISTYPED[:-1])
@pytest.mark.parametrize("command", [["status"], ["migrate"], ["read", "s"], ["streams"], ["demo"]])
def test_commands_do_not_repeat_the_password(dsn: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--dsn", dsn]) == 1
    said = "".join(capsys.readouterr())
    assert "the DSN is malformed" in said
    assert "s3cret" not in said
    assert "Traceback" not in said


def test_neither_does_the_complaint_about_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "postgresql://bob:s3cret@h/db"]) == 2
    assert main(["read", "s", "host=h password='s3 cret'", "password=s3cret"]) == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: postgresql://bob:***@h/db" in said
    assert "s3" not in said


def test_help_says_where_a_password_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "put a password into EVENTSTORE_DSN or a file (~/.pgpass, PGPASSFILE)" in said


def test_a_text_without_a_password_stays_as_it_is() -> None:
    assert (
        without_passwords("see https://h/a:b and postgresql://bob@h/db")
        == "see https://h/a:b and postgresql://bob@h/db"
    )
