"""What the driver raises, as the library's errors: no driver error reaches a caller."""

from __future__ import annotations

import re
from typing import Any, Self, TypeVar

import psycopg
from psycopg import BaseConnection
from psycopg.pq import TransactionStatus

from eventstore.core.operations import ConnectionLost
from eventstore.core.refusals import transaction_failed
from eventstore.core.requests import Request
from eventstore.core.subscription_requests import BeginRebuild
from eventstore.errors import (
    AccessDenied,
    EventStoreError,
    InvalidArgument,
    InvalidOperation,
    SchemaError,
    StoreRefused,
    StoreUnavailable,
)
from eventstore.postgres.statements import Statement, Statements

R = TypeVar("R")

_CONFLICTS = {"23505", "40001", "40P01"}
"""unique_violation, serialization_failure, deadlock_detected: somebody else was there first."""
_SCHEMA_MISSING = {"3F000", "42P01", "42703", "42883"}
"""invalid_schema_name, undefined_table, undefined_column, undefined_function."""
_NO_TABLE = {*_SCHEMA_MISSING, "0A000", "42601", "42602", "42809"}
"""As well: feature_not_supported, syntax_error, invalid_name, wrong_object_type."""
_TRANSACTION_FAILED = "25P02"
_SHUTTING_DOWN = {"57P01", "57P02", "57P03"}
_ACCESS_DENIED = {"28000", "28P01", "3D000", "42501"}
"""invalid_authorization_specification, invalid_password, invalid_catalog_name, insufficient_privilege."""
_WARNING = "01000"
_PREPARED_ELSEWHERE = {"26000", "42P05"}
"""invalid_sql_statement_name, duplicate_prepared_statement."""
_OTHER_TYPE = "0A000", "RevalidateCachedQuery"
"""feature_not_supported, and the server's function that says so: "cached plan must not change result type", in the
language of the server."""
FORGET_PLANS = "ROLLBACK"
"""Where no transaction is open, only psycopg heeds it: it forgets what it has prepared, and sends DEALLOCATE ALL.
psycopg 3.3.0 does not notice a DEALLOCATE ALL of ours."""
_NOT_YET = "ES001"
"""What functions of sql/ raise on a standby that will have what was asked for in a moment."""
_NOT_HERE = "55000"
"""object_not_in_prerequisite_state: what functions of sql/ raise, with a hint, where they can't do what is asked."""
_PASSING = {"08", "40", "53", "57", "58", "XX"}
"""Classes of what passes: connections, rolled back transactions, resources, operator intervention, system errors; and
internal errors, by which Citus means trouble on another node."""
_PASSING_STATES = {"25006", "25P03", "55006", "55P03"}
"""As well: read_only_sql_transaction (a failover), idle_in_transaction_session_timeout, object_in_use,
lock_not_available."""
_LOGIN_REFUSED = re.compile(
    r'password authentication failed|role "[^"]*" does not exist|database "[^"]*" does not exist|no pg_hba\.conf entry'
    r"|permission denied for database|no password supplied|is not permitted to log in"
)
"""What the server says then. libpq gives no code for it; in another language it is taken for something that passes."""


def resolve(
    error: psycopg.Error,
    request: Request[R],
    statement: Statement[R],
    statements: Statements,
    *,
    broken: bool,
    session: int,
) -> R:
    """Return the reply of a conflict, where that is what an append met; else raise the error that it is here."""
    if statement.conflict is not None and error.sqlstate in _CONFLICTS:
        return statement.conflict
    if isinstance(request, BeginRebuild) and error.sqlstate in _NO_TABLE:
        raise InvalidArgument(f"tables {', '.join(request.tables)}: {_first_line(error)}") from error
    schema, command = statements.schema, statements.migrate_with
    raise translated(error, broken=broken, schema=schema, migrate_with=command, session=session) from error


def translated(
    error: psycopg.Error, *, broken: bool, schema: str, migrate_with: str | None = None, session: int = 0
) -> EventStoreError:
    """The library's error for a driver's. ``broken``: the connection is, so that nobody knows what became of it.

    ``session`` is the number of the server's session that was asked, where it is known.

    ``migrate_with`` is the command that brings the schema up to date, where a framework has one of its own.
    """
    sqlstate = error.sqlstate
    message = _first_line(error)
    if broken or sqlstate in _SHUTTING_DOWN:
        lost = f"the connection to the server was lost: {message}"
        return ConnectionLost(lost, sqlstate=sqlstate, sessions=[session])
    if sqlstate == _NOT_YET or plans_are_outdated(error):
        return ConnectionLost(message, sqlstate=sqlstate)  # Whoever asks again gets it.
    if sqlstate in _SCHEMA_MISSING:
        usual = f"`eventstore migrate --schema {schema}`, or eventstore.postgres.migrate"
        return SchemaError(schema, f"{message}: run {f'`{migrate_with}`' if migrate_with else usual}")
    if sqlstate == _TRANSACTION_FAILED:
        return transaction_failed()
    if isinstance(error, psycopg.DataError):
        return InvalidArgument(message)
    return _refusal(error, message, schema)


def plans_are_outdated(error: psycopg.Error) -> bool:
    """Whether a session refuses a prepared statement, which would return another type than when it was prepared.

    The schema was dropped and created again. Nothing was carried out, and the session refuses such statements until
    they are prepared again. At the end of a transaction that failed, the driver has all prepared again anyway.
    """
    return (error.sqlstate, error.diag.source_function) == _OTHER_TYPE


def _refusal(error: psycopg.Error, message: str, schema: str) -> EventStoreError:
    """The error for what the server would not do: for now, or for good."""
    sqlstate = error.sqlstate
    if sqlstate == _NOT_HERE:
        hint = error.diag.message_hint
        return InvalidOperation(f"{message}: {hint}" if hint else message)
    if sqlstate in _ACCESS_DENIED:
        grants = f"`eventstore roles --schema {schema}` prints the GRANTs that each role needs"
        return AccessDenied(f"{message}: {grants}", sqlstate=sqlstate)
    if sqlstate in _PREPARED_ELSEWHERE:
        message += ": a pooler has mixed up prepared statements; use connect(..., prepare=False), or give your pool "
        message += 'kwargs={"prepare_threshold": None}'
    passes = sqlstate is None or sqlstate[:2] in _PASSING or sqlstate in _PASSING_STATES
    return (StoreUnavailable if passes else StoreRefused)(f"the server refused: {message}", sqlstate=sqlstate)


def unavailable(error: psycopg.Error, timeout: float | None = None) -> StoreUnavailable | AccessDenied:
    """The error for one that kept a connection from being had at all, or for so many seconds."""
    refused = error.sqlstate in _ACCESS_DENIED or _LOGIN_REFUSED.search(str(error))
    kind = AccessDenied if refused else StoreUnavailable
    within = "" if timeout is None else f" within {timeout:g} s (the timeout of this store)"
    unavailable = kind(f"no connection to the server{within}: {_first_line(error)}", sqlstate=error.sqlstate)
    error._pgconn = None  # It has the DSN, password included, which whoever logs the cause would see.
    return unavailable


class Warnings:
    """What the server warns of while it commits: the commit may not be what was asked for.

    A cancelled wait for a synchronous standby is not an error for the server. For Citus, neither is a failed commit on
    another node.
    """

    def __init__(self, connection: BaseConnection[Any]) -> None:
        self._connection = connection
        self._first: str | None = None

    def __enter__(self) -> Self:
        self._connection.add_notice_handler(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.remove_notice_handler(self._heard)

    def _heard(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate == _WARNING and notice.severity_nonlocalized == "WARNING":
            self._first = self._first or notice.message_primary

    def check(self) -> None:
        """Raise ConnectionLost if there was one and no transaction is open: asking again shows what is stored."""
        if self._first is not None and self._connection.info.transaction_status == TransactionStatus.IDLE:
            raise ConnectionLost(f"the server warned of its commit: {self._first}", sqlstate=_WARNING)


def none_free(timeout: float | None) -> StoreUnavailable:
    """The error for a pool that had no connection to give, though the server gives one."""
    return StoreUnavailable(
        f"no connection within {timeout or 0:g} s (the timeout of this store): all connections of the pool are in use. "
        "Make the pool larger, or look for what keeps its connections"
    )


def store_closed() -> InvalidOperation:
    """The error for the use of a store after close()."""
    return InvalidOperation("this store is closed")


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def check_connection(connection: BaseConnection[Any]) -> None:
    """Raise InvalidOperation for a connection that would give no reply, or texts that are not in UTF-8."""
    if connection.pgconn.pipeline_status:
        raise InvalidOperation(
            "this connection is in pipeline mode, in which replies come late: call the store outside of "
            "`with connection.pipeline()`"
        )
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    if encoding is not None and encoding != b"UTF8":
        raise InvalidOperation(
            f"this connection has the client_encoding {encoding.decode()}: the store needs UTF8, "
            "which client_encoding=utf8 in its DSN asks for"
        )
