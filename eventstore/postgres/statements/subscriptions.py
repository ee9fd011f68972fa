"""Checkpoints and parked events: sql/0006."""

from __future__ import annotations

from eventstore.core.checkpoints import Claimed, ParkedEvent, Poll, SubscriptionRow
from eventstore.core.subscription_requests import (
    Claim,
    DropParked,
    Heartbeat,
    ListParked,
    ListSubscriptions,
    NoteError,
    Park,
    PollSubscription,
    Probe,
    Register,
    Remove,
    SaveCheckpoint,
)
from eventstore.postgres.statements.statement import each, found, nothing, one, optional, statement, value

STATEMENTS = (
    statement(
        Register,
        "SELECT {schema}.register_subscription(%(name)b::text, %(partitions)b::integer, %(position)b::bigint)",
        reply=value(bool),
    ),
    statement(
        PollSubscription,
        """
        SELECT lowest, {schema}.safe_position(coalesce(lowest, 0)), error, error_position
        FROM (
            SELECT min(position) AS lowest FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0
        ) AS standing
        LEFT JOIN LATERAL (
            SELECT error, error_position FROM {schema}.subscriptions WHERE name = %(name)b AND failed
            ORDER BY error_position LIMIT 1
        ) AS failure ON true
        """,
        reply=one(Poll),
    ),
    statement(
        Heartbeat,
        """
        UPDATE {schema}.subscriptions SET seen_at = CASE WHEN %(present)b::boolean THEN clock_timestamp() END
        WHERE (name, partition) IN (
            SELECT name, partition FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0
            FOR UPDATE SKIP LOCKED
        )
        """,
        reply=nothing,
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
        UPDATE {schema}.subscriptions SET position = %(position)b::bigint, moved_at = clock_timestamp(),
            seen_at = clock_timestamp(), error = NULL, error_position = NULL
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
        reply=nothing,
    ),
    statement(
        NoteError,
        """
        UPDATE {schema}.subscriptions
        SET error = %(error)b, error_position = %(position)b::bigint, failed = %(failed)b::boolean
        WHERE name = %(name)b AND partition = %(partition)b::integer
        """,
        reply=nothing,
    ),
    statement(
        Park,
        """
        INSERT INTO {schema}.parked_events (name, position, attempts, error)
        VALUES (%(name)b, %(position)b, %(attempts)b, %(error)b)
        """,
        reply=nothing,
    ),
    statement(
        ListParked,
        """
        SELECT parked.position, stream_id, version, event_type, attempts, error, parked_at
        FROM {schema}.parked_events AS parked JOIN {schema}.events USING (position) WHERE name = %(name)b
        ORDER BY parked.position
        """,
        reply=each(ParkedEvent),
    ),
    statement(
        DropParked,
        """
        DELETE FROM {schema}.parked_events WHERE (name, position) IN (
            SELECT name, position FROM {schema}.parked_events WHERE name = %(name)b AND position = %(position)b::bigint
            FOR UPDATE SKIP LOCKED
        ) RETURNING position
        """,
        reply=found,
    ),
    statement(
        ListSubscriptions,
        """
        SELECT name, partitions, position, highest, seconds_behind, seconds_unseen, failed, error, error_position,
            parked, rebuilt_to
        FROM {schema}.subscription_status WHERE name = coalesce(%(name)b::text, name) ORDER BY name
        """,
        reply=each(SubscriptionRow),
    ),
    statement(
        Remove,
        """
        WITH unparked AS (DELETE FROM {schema}.parked_events WHERE name = %(name)b)
        DELETE FROM {schema}.subscriptions WHERE name = %(name)b AND partition >= 0 RETURNING partition
        """,
        reply=found,
    ),
    statement(
        Probe,
        "SELECT 1",
        reply=nothing,
    ),
)
