"""Checkpoints and parked events: sql/0006."""

from __future__ import annotations

from eventstore.core.checkpoints import Claimed, ParkedEvent, Poll, SubscriptionRow
from eventstore.core.subscription_requests import (
    Attend,
    Claim,
    DropParked,
    Heartbeat,
    InRecovery,
    ListDropped,
    ListParked,
    ListParkedStreams,
    ListSubscriptions,
    NoteError,
    Park,
    PollSubscription,
    Probe,
    Register,
    Remove,
    SaveCheckpoint,
    TakeParked,
)
from eventstore.postgres.arrays import INT8, array
from eventstore.postgres.statements.statement import (
    Parameters,
    each,
    found,
    names,
    nothing,
    one,
    optional,
    statement,
    value,
)

_PARKED = """
    WHERE (name, position) IN (
        SELECT name, position FROM {schema}.parked_events
        WHERE name = %(name)b AND position = %(position)b::bigint AND NOT rebuild AND dropped_at IS NULL
        FOR UPDATE SKIP LOCKED
    ) AND NOT rebuild
    """
"""A parked event that nobody else is retrying."""


def _attend(request: Attend) -> Parameters:
    bases, positions = (
        array(INT8, [each.to_bytes(8, signed=True) for each in several])
        for several in (request.bases, request.positions)
    )
    return names(request.names), bases, positions, names(request.names)


STATEMENTS = (
    statement(
        Register,
        "SELECT {schema}.register_subscription(%b::text, %b::integer, %b::bigint, {schema}.full_names(%b::text[]))",
        parameters=lambda request: (request.name, request.partitions, request.position, names(request.tables)),
        reply=value(bool),
    ),
    statement(
        PollSubscription,
        "SELECT lowest, safe, highest, error, error_position FROM {schema}.poll_subscription(%(name)b::text)",
        reply=one(Poll),
    ),
    statement(
        Heartbeat,
        """
        UPDATE {schema}.subscriptions SET seen_at = CASE WHEN %(present)b::boolean THEN pg_catalog.now() END
        WHERE (name, partition) IN (
            SELECT name, partition FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0
            FOR UPDATE SKIP LOCKED
        )
        """,
        reply=nothing,
    ),
    statement(
        Attend,
        """
        WITH wanted AS (
            SELECT * FROM ROWS FROM (pg_catalog.unnest(%b::text[]), pg_catalog.unnest(%b::bigint[]),
                pg_catalog.unnest(%b::bigint[])) AS each (name, base, upto)
        ), free AS (
            SELECT name, partition, NOT failed AND position >= base AND position < upto AS moves, upto
            FROM {schema}.subscriptions JOIN wanted USING (name) WHERE partition >= 0
            FOR UPDATE OF subscriptions SKIP LOCKED
        ), attended AS (
            UPDATE {schema}.subscriptions AS subscription SET seen_at = pg_catalog.now(),
                position = CASE WHEN moves THEN upto ELSE position END,
                moved_at = CASE WHEN moves THEN pg_catalog.now() ELSE moved_at END
            FROM free WHERE subscription.name = free.name AND subscription.partition = free.partition
        )
        SELECT name, min(position) FROM {schema}.subscriptions
        WHERE name = ANY (%b::text[]) AND partition >= 0 GROUP BY name HAVING NOT bool_or(failed)
        """,
        parameters=_attend,
        reply=dict,
    ),
    statement(
        Claim,
        """
        SELECT partition, partitions, position FROM {schema}.subscriptions
        WHERE name = %(name)b AND position < %(below)b::bigint AND NOT failed
            AND CASE WHEN %(partition)b::integer IS NULL THEN partition >= 0 ELSE partition = %(partition)b::integer END
        ORDER BY position, partition LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        reply=optional(Claimed),
    ),
    statement(
        SaveCheckpoint,
        """
        UPDATE {schema}.subscriptions SET position = %(position)b::bigint, moved_at = pg_catalog.now(),
            seen_at = pg_catalog.now(), error = NULL, error_position = NULL, error_since = NULL
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
        reply=nothing,
    ),
    statement(
        NoteError,
        """
        UPDATE {schema}.subscriptions
        SET error = %(error)b, error_position = %(position)b::bigint, failed = %(failed)b::boolean,
            error_since = CASE
                WHEN error_position = %(position)b::bigint THEN error_since ELSE pg_catalog.clock_timestamp()
            END
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
        reply=nothing,
    ),
    statement(
        Park,
        """
        INSERT INTO {schema}.parked_events (name, position, attempts, error, rebuild)
        VALUES (%(name)b, %(position)b, %(attempts)b, %(error)b, %(rebuild)b)
        """,
        reply=nothing,
    ),
    statement(
        ListParkedStreams,
        """
        SELECT DISTINCT stream_id FROM {schema}.parked_events AS parked JOIN {schema}.events USING (position)
        WHERE name = %(name)b AND rebuild = %(rebuild)b AND dropped_at IS NULL
        """,
        reply=lambda rows: frozenset(stream_id for (stream_id,) in rows),
    ),
    statement(
        ListParked,
        """
        SELECT parked.position, stream_id, version, event_type, attempts, error, parked_at
        FROM {schema}.parked_events AS parked JOIN {schema}.events USING (position)
        WHERE name = %(name)b AND NOT rebuild AND dropped_at IS NULL
        ORDER BY parked.position
        """,
        reply=each(ParkedEvent),
    ),
    statement(TakeParked, f"DELETE FROM {{schema}}.parked_events {_PARKED} RETURNING position", reply=found),
    statement(
        DropParked,
        f"UPDATE {{schema}}.parked_events SET dropped_at = pg_catalog.now() {_PARKED} RETURNING position",
        reply=found,
    ),
    statement(
        ListDropped,
        """
        SELECT position FROM {schema}.parked_events WHERE name = %(name)b AND dropped_at IS NOT NULL ORDER BY position
        """,
        reply=each(int),
    ),
    statement(
        ListSubscriptions,
        """
        SELECT name, partitions, position, highest, seconds_behind, seconds_unseen, failed, error, error_position,
            parked, rebuilt_to, seconds_unmoved, seconds_failing, at_work
        FROM {schema}.subscription_status WHERE name = coalesce(%(name)b::text, name) ORDER BY name
        """,
        reply=each(SubscriptionRow),
    ),
    statement(
        Remove,
        "SELECT {schema}.remove_subscription(%(name)b::text)",
        reply=value(bool),
    ),
    statement(InRecovery, "SELECT pg_catalog.pg_is_in_recovery()", reply=value(bool)),
    statement(
        Probe,
        "SELECT 1",
        reply=nothing,
    ),
)
