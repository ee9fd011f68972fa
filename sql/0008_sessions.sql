-- The sessions for which readers of the log, or writers, have to wait.

CREATE FUNCTION {schema}.blocking_sessions(_stream_id text)
RETURNS TABLE (
    holds text,
    pid integer,
    prepared text,
    role text,
    application text,
    state text,
    since timestamp with time zone,
    "position" bigint,
    waiting integer,
    waiting_since timestamp with time zone,
    subscription text
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $eventstore$
#variable_conflict use_column
DECLARE
    _store bigint := {event_positions}::regclass::oid::bigint;
    _stream bigint := hashtextextended(_stream_id, _store);
    _database oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    -- With its partitions, if it has any.
    _events oid[] := ARRAY(
        SELECT {events}::regclass::oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = {events}::regclass
    );
    _subscriptions oid := (
        SELECT oid FROM pg_class WHERE relname = 'subscriptions'
            AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = {event_positions}::regclass)
    );
    _highest bigint := 0;
BEGIN
    -- A session that has locked the table, or waits to, is found without reading the table, which would wait as well.
    IF NOT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'relation' AND database = _database AND relation = ANY (_events) AND mode = 'AccessExclusiveLock'
    ) THEN
        -- Leave room below the largest bigint, where a position inserted by hand may be: the next lines add to it.
        BEGIN
            _highest := least(
                coalesce((SELECT position FROM {schema}.events ORDER BY position DESC LIMIT 1), 0), 9223370937343148031);
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- Somebody has come for such a lock since.
        END;
    END IF;
    RETURN QUERY
    WITH locks AS MATERIALIZED (
        SELECT
            pid, virtualtransaction, mode, granted, waitstart, locktype = 'relation' AS is_table,
            classid::bigint << 32 | objid::bigint AS key, classid::bigint >> 8 = _store & 16777215 AS is_registration,
            -- Restored from 40 bits as safe_position does, as the number nearest to the highest position.
            _highest + 549755813888
            - ((_highest + 549755813888 - ((classid::bigint & 255) << 32 | objid::bigint)) & 1099511627775) AS registered
        FROM pg_locks
        WHERE database = _database
            AND (locktype = 'advisory' AND objsubid = 1 OR locktype = 'relation' AND relation = ANY (_events))
    ), holders AS (
        (
            SELECT 'readers' AS holds, pid, virtualtransaction, registered, 0 AS waiting, NULL::timestamptz AS waiting_since
            FROM locks
            WHERE is_registration AND granted AND mode = 'ShareLock' AND registered < _highest
                AND pid IS DISTINCT FROM pg_backend_pid()
            ORDER BY registered LIMIT 1
        )
        UNION ALL
        SELECT
            CASE WHEN held.is_table THEN 'table' ELSE 'writers' END, held.pid, held.virtualtransaction, NULL::bigint,
            count(DISTINCT waits.pid)::integer, min(waits.waitstart)
        FROM locks AS held
        LEFT JOIN locks AS waits ON NOT waits.granted AND waits.pid IS DISTINCT FROM held.pid
            AND waits.is_table = held.is_table AND (held.is_table OR waits.key = held.key)
        WHERE held.granted AND held.pid IS DISTINCT FROM pg_backend_pid() AND CASE
            WHEN NOT held.is_table THEN waits.pid IS NOT NULL OR held.key = _stream
            WHEN held.mode IN ('AccessExclusiveLock') THEN true
            WHEN held.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock') THEN waits.pid IS NOT NULL
            ELSE waits.mode = 'AccessExclusiveLock'
        END
        GROUP BY held.is_table, held.pid, held.virtualtransaction
    )
    SELECT
        holds, holders.pid, gid, coalesce(usename, owner)::text, application_name, state,
        coalesce(xact_start, state_change, prepared), registered, waiting, waiting_since, NULL::text
    FROM holders
    LEFT JOIN pg_stat_activity AS session ON session.pid = holders.pid
    -- A prepared transaction has no pid. Its lock on its own number leads to its name.
    LEFT JOIN pg_locks AS own ON holders.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid' AND own.granted
        AND own.virtualtransaction = holders.virtualtransaction
    LEFT JOIN pg_prepared_xacts AS transaction ON transaction.transaction = own.transactionid
    ORDER BY holds, waiting_since, holders.pid;
    -- A lock on a row is not in pg_locks, but the row names the transaction that has it. A worker holds the row of its partition
    -- as well, and is seen to work.
    IF has_table_privilege(_subscriptions, 'SELECT') THEN
        BEGIN
            RETURN QUERY
            SELECT
                'subscription', own.pid, gid, coalesce(usename, owner)::text, application_name, state,
                coalesce(xact_start, state_change, prepared), part.position, 0, NULL::timestamptz, part.name
            FROM {schema}.subscriptions AS part
            JOIN pg_locks AS own ON own.locktype = 'transactionid' AND own.granted AND own.transactionid = part.xmax
            LEFT JOIN pg_stat_activity AS session ON session.pid = own.pid
            LEFT JOIN pg_prepared_xacts AS transaction ON own.pid IS NULL AND transaction.transaction = own.transactionid
            WHERE part.partition >= 0 AND coalesce(part.seen_at < now() - interval '15 seconds', true)
                AND own.pid IS DISTINCT FROM pg_backend_pid()
            ORDER BY part.name, part.partition;
        EXCEPTION WHEN lock_not_available OR feature_not_supported THEN
            NULL;  -- Somebody has locked the table, or it lies on another node than this session.
        END;
    END IF;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.blocking_sessions IS
    'The sessions and prepared transactions that hold others back. holds is "readers" for the open append at whose position '
    'readers of the log have to stop; "writers" for one that holds an advisory lock for which others wait, or that of '
    '_stream_id, which may be NULL; "table" for one that has locked the table of events; "subscription" for one that has locked '
    'the checkpoint of a subscription that no worker was seen on for 15 seconds, if the caller may read checkpoints. waiting is '
    'the number of sessions that wait, since waiting_since. Runs with the rights of its caller: state and since of other roles'' '
    'sessions are NULL, unless the caller is a member of pg_read_all_stats. Locks of streams can''t be distinguished from other '
    '64-bit advisory locks.';
