"""A store's requests on a connection that belongs to a framework, in whatever transaction that has open.

Each request of ours gets a savepoint of its own there: whatever becomes of it, and whoever swallows the error, the
your transaction stays as it was before the request. Nothing here commits or rolls back more than that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

from psycopg import Connection
from psycopg.pq import TransactionStatus

from eventstore.core.operations import ConnectionLost
from eventstore.core.requests import Request
from eventstore.errors import StoreUnavailable
from eventstore.postgres import transactions
from eventstore.postgres.statements import RawSql, Statements
from eventstore.postgres.stores import execute

R = TypeVar("R")


def execute_borrowed(connection: Connection[Any], request: Request[R], statements: Statements) -> R:
    """The reply to a request.

    Raises EventStoreErrors only: ConnectionLost outside of a transaction, where it may be repeated; StoreUnavailable
    in one, which is rolled back then.
    """
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        return execute(connection, request, statements)
    try:
        _command(connection, transactions.SAVEPOINT, statements)
        try:
            reply = execute(connection, request, statements.in_transaction)
        except BaseException:
            with suppress(StoreUnavailable):  # What is raised already says more.
                _undo(connection, statements)
            raise
        if connection.info.transaction_status == TransactionStatus.INERROR:
            _undo(connection, statements)  # A conflict that the server found by itself, such as a deadlock.
        else:
            _command(connection, transactions.RELEASE, statements)
    except ConnectionLost as lost:
        raise transactions.rolled_back(lost) from lost
    return reply


def _undo(connection: Connection[Any], statements: Statements) -> None:
    _command(connection, transactions.ROLLBACK_TO, statements)
    _command(connection, transactions.RELEASE, statements)


def _command(connection: Connection[Any], command: RawSql, statements: Statements) -> None:
    execute(connection, command, statements)
