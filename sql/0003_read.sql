-- Reading the whole log without ever skipping an event that commits late.

CREATE TABLE {schema}.log_mark (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    position bigint NOT NULL,
    marked_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE {schema}.log_mark IS
    'At most one row, which mark_log writes on the primary: how far standbys may read the log. A transaction that is visible '
    'when the position is calculated has its commit before the mark''s in the write-ahead log, so whoever sees the mark sees '
    'the events up to it.';
COMMENT ON COLUMN {schema}.log_mark.position IS 'No transaction can commit a position up to this one any more.';
COMMENT ON COLUMN {schema}.log_mark.marked_at IS
    'When somebody last marked the log, to within 5 seconds. By that, standbys notice that nobody does any more.';

CREATE FUNCTION {schema}.safe_position(_after bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _highest bigint;
    _drawn bigint;
    _lowest_open bigint;
    _settled bigint;
    _marked_at timestamp with time zone;
BEGIN
    IF pg_is_in_recovery() THEN
        SELECT position, marked_at INTO _highest, _marked_at FROM {schema}.log_mark;
        IF NOT FOUND THEN
            RAISE 'a standby does not know which transactions are appending, and nobody has marked how far it may read'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Read the log from the primary, or keep `eventstore mark` running there.';
        END IF;
        -- Both are times of the primary.
        IF pg_last_xact_replay_timestamp() > _marked_at + interval '15 seconds' THEN
            RAISE 'nobody has marked since % how far a standby may read the log: keep `eventstore mark` running on the primary',
                _marked_at
                USING ERRCODE = 'system_error';
        END IF;
        RETURN greatest(_after, _highest);
    END IF;
    -- The three statements below must each see what was committed before it.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN NULL;
    END IF;
    _highest := coalesce((SELECT position FROM {schema}.events ORDER BY position DESC LIMIT 1), 0);
    -- The events first, then the sequence, which may draw in between. Where the log holds positions that this sequence has not
    -- drawn, the locks of those who did are on another node, and readers would skip what commits late.
    SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO _drawn FROM {schema}.event_positions;
    IF _highest > _drawn OR _highest > 0 AND (SELECT position FROM {schema}.events ORDER BY position LIMIT 1) < (
        SELECT seqstart FROM pg_sequence WHERE seqrelid = {event_positions}::regclass
    ) THEN
        RAISE 'the log holds positions that the sequence event_positions of this node has not drawn: it is at %, the newest '
            'event at %', _drawn, _highest
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Read the log on the node that appends; on a logical replica that takes over, setval the sequence first. An '
                'event that was inserted by hand is for the owner to remove.';
    END IF;
    -- What open transactions registered: 40 bits, restored as the number nearest to last_value that ends in them (549755813888
    -- is half the range). Prepared transactions have no pid.
    SELECT min(
        last_value + 549755813888
        - ((last_value + 549755813888 - ((classid::bigint & 255) << 32 | objid::bigint)) & 1099511627775)
    )
    INTO _lowest_open
    FROM pg_locks, {schema}.event_positions AS positions
    WHERE locktype = 'advisory'
        AND objsubid = 1
        AND mode = 'ShareLock'
        AND granted
        AND classid::bigint >> 8 = positions.tableoid::bigint & 16777215
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid();
    IF _lowest_open IS NULL OR _lowest_open >= _highest THEN
        RETURN greatest(_after, _highest);
    END IF;
    -- Above the lowest open one, positions are settled as far as they are all there.
    _settled := greatest(_after, _lowest_open);
    RETURN coalesce(
        (
            SELECT max(position) FROM (
                SELECT position, row_number() OVER (ORDER BY position) AS number
                FROM {schema}.events WHERE position > _settled ORDER BY position LIMIT 1000
            ) AS next
            WHERE position = _settled + number
        ),
        _settled
    );
END
$eventstore$;

COMMENT ON FUNCTION {schema}.safe_position IS
    'The highest position up to which a reader that has read all up to _after may now read, in a later statement, and '
    'never miss one: no transaction can still commit a position in between. Waits for nobody. NULL where the transaction '
    'is not READ COMMITTED. On a standby it is the position that mark_log has marked.';

CREATE FUNCTION {schema}.mark_log() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _safe bigint;
    _marked bigint;
    _marked_at timestamp with time zone;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE 'a standby can''t mark how far the log may be read: mark it on the primary'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    _safe := {schema}.safe_position(0);
    SELECT position, marked_at INTO _marked, _marked_at FROM {schema}.log_mark;
    IF _marked IS NULL OR _marked < _safe OR _marked_at < now() - interval '5 seconds' THEN
        INSERT INTO {schema}.log_mark AS mark (position, marked_at) VALUES (_safe, now())
        ON CONFLICT (single) DO UPDATE
        SET position = greatest(mark.position, excluded.position), marked_at = greatest(mark.marked_at, excluded.marked_at);
    END IF;
    RETURN _safe;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.mark_log FROM PUBLIC;

COMMENT ON FUNCTION {schema}.mark_log IS
    'Marks how far standbys may read the log, and returns that position. It is calculated and stored on one server, so after a '
    'failover that lost events the mark is one of the log that is left. NULL, and no mark, as for safe_position.';

CREATE FUNCTION {schema}.is_replayed(_upto bigint, _marked bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    IF _marked >= _upto THEN
        RETURN true;
    END IF;
    RAISE 'this standby has the log up to position % so far, and not up to %', coalesce(_marked, 0), _upto
        USING ERRCODE = 'ES001';
END
$eventstore$;

COMMENT ON FUNCTION {schema}.is_replayed IS
    'Raises ES001 on a standby that is behind the one that said how far the log may be read, as several behind one address may '
    'be. The mark is a parameter, because some engines can''t read tables in a function that is called in a query of tables.';
