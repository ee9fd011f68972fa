"""How a store is: sql/0006 and sql/0008, in one statement."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from eventstore.core.checkpoints import Examined, SubscriptionRow
from eventstore.core.sessions import BlockingSession
from eventstore.core.subscription_requests import Examine
from eventstore.postgres.statements.statement import Rows, statement


def _examined(rows: Rows) -> Examined:
    log, sessions, subscriptions = map(json.loads, rows[0])
    fields = SubscriptionRow._fields
    return Examined(
        **log,
        sessions=[_session(each) for each in sessions],
        subscriptions=[SubscriptionRow(*(each[name] for name in fields)) for each in subscriptions],
    )


def _session(found: dict[str, Any]) -> BlockingSession:
    for name in ("since", "waiting_since"):
        found[name] = found[name] and datetime.fromisoformat(found[name])
    return BlockingSession(**found)


STATEMENTS = (
    statement(
        Examine,
        """
        SELECT
            (SELECT pg_catalog.row_to_json(log)::text FROM {schema}.examine() AS log),
            (
                SELECT coalesce(pg_catalog.json_agg(each), '[]'::json)::text
                FROM {schema}.blocking_sessions(NULL::text) AS each
            ),
            (
                SELECT coalesce(pg_catalog.json_agg(each ORDER BY name), '[]'::json)::text
                FROM {schema}.subscription_status AS each
            )
        """,
        parameters=lambda _: (),
        reply=_examined,
    ),
)
