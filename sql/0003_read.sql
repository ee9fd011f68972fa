-- Reading the whole log without ever skipping an event that commits late.

CREATE FUNCTION {schema}.safe_position(_after bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _highest bigint;
    _drawn bigint;
    _lowest_open bigint;
    _settled bigint;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE 'a standby does not know which transactions are appending: read the log from the primary'
            USING ERRCODE = 'object_not_in_prerequisite_state';
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
    'is not READ COMMITTED.';
