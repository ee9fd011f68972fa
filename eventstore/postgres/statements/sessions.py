"""Who is in the way: sql/0008."""

from __future__ import annotations

from eventstore.core.requests import ListBlockingSessions
from eventstore.core.sessions import BlockingSession
from eventstore.postgres.statements.statement import each, statement

STATEMENTS = (
    statement(
        ListBlockingSessions,
        """
        SELECT holds, pid, prepared, role, application, state, since, position, waiting, waiting_since,
            subscription
        FROM {schema}.blocking_sessions(%(stream_id)b::text)
        """,
        reply=each(BlockingSession),
    ),
)
