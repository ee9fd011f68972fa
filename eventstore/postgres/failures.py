"""What the driver raises, as the library's errors: no driver error reaches a caller."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg import BaseConnection

from eventstore.core.checkpoints import BeginRebuild
from eventstore.core.operations import Append, ConnectionLost
from eventstore.errors import EventStoreError, InvalidArgument, InvalidOperation, SchemaError, StoreUnavailable
from eventstore.postgres.statements import AnyRequest

_CONFLICTS = {"23505", "40001", "40P01"}
"""unique_violation, serialization_failure, deadlock_detected: somebody else was there first."""
_SCHEMA_MISSING = {"3F000", "42P01", "42703", "42883"}
"""invalid_schema_name, undefined_table, undefined_column, undefined_function."""
_NO_TABLE = {*_SCHEMA_MISSING, "0A000", "42601", "42602", "42809"}
"""As well: feature_not_supported, syntax_error, invalid_name, wrong_object_type."""
_TRANSACTION_FAILED = "25P02"
_SHUTTING_DOWN = {"57P01", "57P02", "57P03"}

MIGRATE_WITH: dict[str, str] = {}
"""The command that brings a schema up to date, by the schema's name, where a framework has one of its own."""


def resolve(error: psycopg.Error, request: AnyRequest, *, broken: bool, schema: str) -> None:
    """Return None, the reply of a conflict, where that is what an append met; else raise the error that it is here."""
    if isinstance(request, Append) and error.sqlstate in _CONFLICTS:
        return
    if isinstance(request, BeginRebuild) and error.sqlstate in _NO_TABLE:
        raise InvalidArgument(f"tables {', '.join(request.tables)}: {_first_line(error)}") from error
    raise translated(error, broken=broken, schema=schema) from error


def translated(error: psycopg.Error, *, broken: bool, schema: str) -> EventStoreError:
    """The library's error for a driver's. ``broken``: the connection is, so that nobody knows what became of it."""
    sqlstate = error.sqlstate
    message = _first_line(error)
    if broken or sqlstate in _SHUTTING_DOWN:
        return ConnectionLost(f"the connection to the server was lost: {message}", sqlstate=sqlstate)
    if sqlstate in _SCHEMA_MISSING:
        command = MIGRATE_WITH.get(schema)
        advice = (
            f"`{command}`" if command else f"`eventstore migrate --schema {schema}`, or eventstore.postgres.migrate"
        )
        return SchemaError(schema, f"{message}: run {advice}")
    if sqlstate == _TRANSACTION_FAILED:
        return InvalidOperation("this transaction has failed earlier, and can only be rolled back")
    if isinstance(error, psycopg.DataError):
        return InvalidArgument(message)
    return StoreUnavailable(f"the server refused: {message}", sqlstate=sqlstate)


def unavailable(error: psycopg.Error) -> StoreUnavailable:
    """The error for one that kept a connection from being had at all."""
    unavailable = StoreUnavailable(f"no connection to the server: {_first_line(error)}", sqlstate=error.sqlstate)
    error._pgconn = None  # It has the DSN, password included, which whoever logs the cause would see.
    return unavailable


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def check_encoding(connection: BaseConnection[Any]) -> None:
    """Raise InvalidOperation for a connection whose texts are not in UTF-8: names would be taken for others."""
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    if encoding is not None and encoding != b"UTF8":
        raise InvalidOperation(
            f"this connection has the client_encoding {encoding.decode()}: the store needs UTF8, "
            "which client_encoding=utf8 in its DSN asks for"
        )


class ThisProcess:
    """The process that a pool was made in: its connections are of no use in a child that was forked later."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise InvalidOperation in a forked child."""
        if os.getpid() != self._pid:
            raise InvalidOperation(
                "this process was forked after the store had got its pool, whose connections belong to the parent: "
                "make a pool and a store in the child, or use the store's connect(), which does so by itself"
            )
