-- Following the log: how far each subscription has come, and the events that it has parked.

CREATE TABLE {schema}.subscriptions (
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    partition integer NOT NULL CHECK (partition BETWEEN -1 AND partitions - 1),
    partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 64),
    failed boolean NOT NULL DEFAULT false,
    position bigint NOT NULL CHECK (position >= 0),
    moved_at timestamp with time zone NOT NULL DEFAULT now(),
    seen_at timestamp with time zone,
    error_position bigint,
    error_since timestamp with time zone,
    error text,
    tables text[] NOT NULL DEFAULT ARRAY[]::text[],
    shadow uuid CHECK ((shadow IS NOT NULL) = (partition = -1)),
    CONSTRAINT subscriptions_name_partition PRIMARY KEY (name, partition)
);

COMMENT ON TABLE {schema}.subscriptions IS
    'The checkpoints. A worker locks the row of its partition in the transaction that moves the checkpoint. When the worker '
    'dies, the server releases the row, and another worker resumes from there.';
COMMENT ON COLUMN {schema}.subscriptions.partition IS
    'The number of the partition: partition_of says which streams belong to it. -1 is a rebuild, of all streams.';
COMMENT ON COLUMN {schema}.subscriptions.partitions IS 'The number of partitions into which the streams of this subscription are split.';
COMMENT ON COLUMN {schema}.subscriptions.failed IS
    'Stopped at error_position: no worker continues until one is started again.';
COMMENT ON COLUMN {schema}.subscriptions.position IS
    'The checkpoint: every event up to this position was handled, parked, or left out by the filter.';
COMMENT ON COLUMN {schema}.subscriptions.moved_at IS 'When the checkpoint was last stored.';
COMMENT ON COLUMN {schema}.subscriptions.seen_at IS
    'When a worker last polled, to within some seconds. NULL if the last one has stopped.';
COMMENT ON COLUMN {schema}.subscriptions.error_position IS 'The position of the event that could not be handled.';
COMMENT ON COLUMN {schema}.subscriptions.error_since IS 'When that event could not be handled for the first time.';
COMMENT ON COLUMN {schema}.subscriptions.error IS 'The error of that event. NULL once the event is handled or parked.';
COMMENT ON COLUMN {schema}.subscriptions.tables IS
    'The tables of a projection''s read model, by their full names. No other projection may rebuild one of them.';

COMMENT ON COLUMN {schema}.subscriptions.shadow IS
    'The end of the name of the schema that holds a rebuild''s tables. Only the end is stored, so that a role that may write '
    'here can''t make an operator drop another schema.';

CREATE TABLE {schema}.parked_events (
    name text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    attempts integer NOT NULL,
    error text NOT NULL,
    parked_at timestamp with time zone NOT NULL DEFAULT now(),
    rebuild boolean NOT NULL DEFAULT false,
    dropped_at timestamp with time zone,
    CONSTRAINT parked_events_name_position PRIMARY KEY (name, rebuild, position)
);

COMMENT ON TABLE {schema}.parked_events IS
    'Events that a subscription could not handle and has parked, to be retried or dropped.';
COMMENT ON COLUMN {schema}.parked_events.name IS 'The subscription.';
COMMENT ON COLUMN {schema}.parked_events.position IS 'The event''s position in the log.';
COMMENT ON COLUMN {schema}.parked_events.attempts IS 'How often the event was tried.';
COMMENT ON COLUMN {schema}.parked_events.error IS 'The error of the last attempt.';
COMMENT ON COLUMN {schema}.parked_events.rebuild IS
    'Whether a rebuild that is still running parked it. It counts once the rebuilt read model is in use.';
COMMENT ON COLUMN {schema}.parked_events.dropped_at IS
    'When somebody dropped the event. The row is kept, because a rebuild leaves the event out too.';

CREATE FUNCTION {schema}.partition_of(_stream_id text, _partitions integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN get_byte(sha256(convert_to(_stream_id, 'UTF8')), 0) % _partitions;

COMMENT ON FUNCTION {schema}.partition_of IS
    'The partition that a stream belongs to: the first byte of the SHA-256 of its id, modulo the number of partitions.';

CREATE FUNCTION {schema}.full_names(_tables text[]) RETURNS text[]
LANGUAGE plpgsql STABLE AS $eventstore$
DECLARE
    -- Where the caller's search_path finds them now. A table that does not exist has no full name yet.
    _found regclass[];
BEGIN
    _found := ARRAY(SELECT pg_catalog.to_regclass(each) FROM pg_catalog.unnest(_tables) AS each);
    RETURN {schema}.names_of(_found);
EXCEPTION WHEN syntax_error OR invalid_name OR feature_not_supported THEN
    RETURN ARRAY[]::text[];  -- What can't be a table's name is refused by begin_rebuild.
END
$eventstore$;

CREATE FUNCTION {schema}.names_of(_tables regclass[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    RETURN ARRAY(
        SELECT format('%I.%I', nspname, relname)
        FROM unnest(_tables) WITH ORDINALITY AS each (oid, number)
        JOIN pg_class USING (oid) JOIN pg_namespace ON pg_namespace.oid = relnamespace
        ORDER BY number
    );
END
$eventstore$;

COMMENT ON FUNCTION {schema}.full_names IS 'The full names of tables that the caller''s search_path finds, in their order.';
COMMENT ON FUNCTION {schema}.names_of IS 'The full names of tables, in their order.';

CREATE FUNCTION {schema}.register_subscription(_name text, _partitions integer, _position bigint, _tables text[])
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _there integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('subscription ' || _name, {event_positions}::regclass::oid::bigint));
    SELECT max(partitions) INTO _there FROM {schema}.subscriptions WHERE name = _name AND partition >= 0;
    IF _there <> _partitions THEN
        PERFORM FROM {schema}.subscriptions WHERE name = _name AND partition >= 0 ORDER BY partition FOR UPDATE;
        IF (SELECT count(DISTINCT position) FROM {schema}.subscriptions WHERE name = _name AND partition >= 0) > 1 THEN
            RETURN false;
        END IF;
        SELECT max(position) INTO _position FROM {schema}.subscriptions WHERE name = _name AND partition >= 0;
        DELETE FROM {schema}.subscriptions WHERE name = _name AND partition >= 0;
    END IF;
    IF _there IS DISTINCT FROM _partitions THEN
        INSERT INTO {schema}.subscriptions (name, partition, partitions, position, tables)
        SELECT _name, number, _partitions, _position, _tables FROM generate_series(0, _partitions - 1) AS number;
    END IF;
    UPDATE {schema}.subscriptions SET failed = false, tables = _tables
    WHERE name = _name AND (failed OR tables <> _tables);
    RETURN true;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.register_subscription IS
    'Creates the rows of a subscription, at _position if it is new, and lets one that has stopped try again. _tables are the '
    'full names of its read model''s tables. Returns false if it has another number of partitions, whose positions differ.';

CREATE FUNCTION {schema}.poll_subscription(
    _name text,
    OUT lowest bigint,
    OUT safe bigint,
    OUT highest bigint,
    OUT error text,
    OUT error_position bigint
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    SELECT min(position) INTO lowest FROM {schema}.subscriptions WHERE name = _name AND partition >= 0;
    safe := {schema}.safe_position(coalesce(lowest, 0));
    highest := coalesce((SELECT position FROM {schema}.events ORDER BY position DESC LIMIT 1), 0);
    SELECT part.error, part.error_position INTO error, error_position
    FROM {schema}.subscriptions AS part WHERE name = _name AND failed ORDER BY part.error_position LIMIT 1;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.poll_subscription IS
    'What a worker needs before it reads events: the checkpoint of the partition that is furthest behind (NULL if there is no '
    'such subscription), the position up to which it may read, the position of the newest event, and where another worker has '
    'stopped. These are separate statements, because some engines can''t call functions in a query of tables.';

CREATE VIEW {schema}.subscription_status AS
SELECT
    subscription.*,
    highest,
    coalesce(extract(epoch FROM greatest(now() - oldest, interval '0')), 0)::double precision AS seconds_behind,
    failure.error,
    failure.error_position,
    extract(epoch FROM clock_timestamp() - failure.error_since)::double precision AS seconds_failing,
    (
        SELECT count(*) FROM {schema}.parked_events
        WHERE parked_events.name = subscription.name AND NOT rebuild AND dropped_at IS NULL
    ) AS parked,
    (SELECT position FROM {schema}.subscriptions WHERE name = subscription.name AND partition = -1) AS rebuilt_to
FROM (
    SELECT
        name,
        max(partitions) AS partitions,
        min(position) AS position,
        extract(epoch FROM clock_timestamp() - (array_agg(moved_at ORDER BY position, moved_at))[1])::double precision
            AS seconds_unmoved,
        extract(epoch FROM clock_timestamp() - max(seen_at))::double precision AS seconds_unseen,
        bool_or(failed) AS failed,
        -- A lock on a row is not in pg_locks, but the row names the transaction that has it.
        bool_or(EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'transactionid' AND granted AND transactionid = subscriptions.xmax
        )) AS at_work
    FROM {schema}.subscriptions WHERE partition >= 0 GROUP BY name
) AS subscription
CROSS JOIN (SELECT coalesce(max(position), 0) AS highest FROM {schema}.events) AS log
LEFT JOIN LATERAL (
    SELECT timestamp AS oldest FROM {schema}.events AS event WHERE event.position > subscription.position
    ORDER BY event.position LIMIT 1
) AS next ON true
LEFT JOIN LATERAL (
    SELECT error, error_position, error_since FROM {schema}.subscriptions AS part
    WHERE part.name = subscription.name AND error IS NOT NULL AND partition >= 0 ORDER BY error_position LIMIT 1
) AS failure ON true;

COMMENT ON VIEW {schema}.subscription_status IS
    'How far behind each subscription is, all its partitions together. `eventstore status` prints it.';
COMMENT ON COLUMN {schema}.subscription_status.position IS 'The checkpoint of the partition that is furthest behind.';
COMMENT ON COLUMN {schema}.subscription_status.highest IS 'The position of the newest event.';
COMMENT ON COLUMN {schema}.subscription_status.seconds_behind IS 'The age of the oldest event above the checkpoint.';
COMMENT ON COLUMN {schema}.subscription_status.seconds_unseen IS
    'The seconds since a worker last polled. If there are more than 15, or NULL, nobody is working.';
COMMENT ON COLUMN {schema}.subscription_status.seconds_unmoved IS
    'The seconds since the checkpoint of the partition that is furthest behind was last stored.';
COMMENT ON COLUMN {schema}.subscription_status.at_work IS
    'Whether somebody has a checkpoint locked: a worker, as long as it is at a batch.';
COMMENT ON COLUMN {schema}.subscription_status.seconds_failing IS
    'The seconds since the event at error_position could not be handled for the first time.';
COMMENT ON COLUMN {schema}.subscription_status.parked IS 'How many events are parked.';
COMMENT ON COLUMN {schema}.subscription_status.rebuilt_to IS 'The position that a rebuild has reached, if one is running.';

CREATE FUNCTION {schema}.examine(OUT highest bigint, OUT safe bigint, OUT trouble text, OUT migration integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $eventstore$
BEGIN
    migration := (SELECT max(number) FROM {schema}.migrations);
    highest := coalesce((SELECT position FROM {schema}.events ORDER BY position DESC LIMIT 1), 0);
    safe := {schema}.safe_position(0);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    trouble := SQLERRM;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.examine IS
    'What a check of health needs to know of the log: the position of the newest event, the one up to which readers may read, '
    'what is wrong if they may not, and the number of the newest migration. Waits for a locked table for 200 ms at most.';
