-- Appending: lock the stream, register, check the version, draw positions. A changed function gets a new name in a new
-- file, so that processes of the last release go on while those of the next one start.

CREATE FUNCTION {schema}.write_events(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[]
) RETURNS bigint
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _last bigint;
    _before bigint;
BEGIN
    SELECT version INTO _last FROM {schema}.events WHERE stream_id = _stream_id ORDER BY version DESC LIMIT 1;
    _last := coalesce(_last, 0);
    IF _expected_version <> _last THEN
        _before := _expected_version;
        IF _expected_version < 0 THEN
            -- The concatenation keeps the planner from walking through the whole stream.
            SELECT min(version) - 1 INTO _before FROM {schema}.events
            WHERE event_id = ANY (_event_ids) AND stream_id || '' = _stream_id;
        END IF;
        IF _event_ids = (
            SELECT array_agg(event_id ORDER BY version) FROM (
                SELECT event_id, version FROM {schema}.events
                WHERE stream_id = _stream_id AND version > _before ORDER BY version LIMIT cardinality(_event_ids)
            ) AS there
        ) THEN
            RETURN _before + cardinality(_event_ids);
        END IF;
        IF _before IS NOT NULL OR (_expected_version = -2 AND _last = 0) THEN
            RETURN -1 - _last;
        END IF;
    END IF;
    INSERT INTO {schema}.events
        (version, timestamp, utc_offset, event_id, stream_id, event_type, data, metadata)
    -- Side by side in the target list they are walked through together; in FROM each would be put into a store of rows first.
    SELECT _last + generate_subscripts(_event_ids, 1), unnest(_timestamps), unnest(_utc_offsets), unnest(_event_ids),
        _stream_id, unnest(_event_types), unnest(_data), unnest(_metadata);
    RETURN _last + cardinality(_event_ids);
END
$eventstore$;

COMMENT ON FUNCTION {schema}.write_events IS
    'The part of an append between its locks and its commit; call append instead. _expected_version: 0 or more is the '
    'version that the stream must have, -1 any, -2 any but 0. Returns the version of the last of these events, whether '
    'stored now or, with the same ids at the same place, before; or, where the stream is elsewhere, -1 minus its version.';

CREATE FUNCTION {schema}.append(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[]
) RETURNS bigint
LANGUAGE plpgsql AS $eventstore$
DECLARE
    -- Plain expressions, as these are, are calculated at once; PERFORM would have the server set up a query for each.
    -- The stream's lock: other writers of this stream wait for the end of the transaction. An advisory ExclusiveLock.
    _locked text := pg_advisory_xact_lock(hashtextextended(_stream_id, {event_positions}::regclass::oid::bigint))::text;
    _drawn bigint := pg_sequence_last_value({event_positions}::regclass);
    _registered text;
BEGIN
    IF _drawn IS NULL THEN
        -- There is no event yet, or this role must not see the sequence, which is an error here.
        SELECT last_value - (NOT is_called)::integer INTO _drawn FROM {schema}.event_positions;
    END IF;
    -- Register: tells readers that this transaction may commit positions above the last one drawn, and none below. An
    -- advisory ShareLock; its key is 24 bits of the sequence's oid, then 40 bits of that position.
    _registered := pg_advisory_xact_lock_shared(
        ({event_positions}::regclass::oid::bigint & 16777215) << 40 | (_drawn & 1099511627775))::text;
    RETURN {schema}.write_events(
        _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets);
END
$eventstore$;

COMMENT ON FUNCTION {schema}.append IS
    'Appends events to one stream in a transaction of its own. Parameters and result as of write_events.';

CREATE FUNCTION {schema}.append_in_transaction(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[]
) RETURNS bigint
LANGUAGE plpgsql AS $eventstore$
DECLARE
    -- How many appends this transaction has registered for; rolled back to a savepoint together with their locks.
    _setting text := 'eventstore.appends_' || {event_positions}::regclass::oid;
    _appends integer := coalesce(nullif(current_setting(_setting, true), ''), '0');
    -- Every lock takes a slot of the server's lock table, about 64 for each connection that it allows.
    _crowded boolean := _appends >= 256;
    _noted text := set_config(_setting, (_appends + 1)::text, true);
BEGIN
    IF NOT _crowded AND current_setting('transaction_isolation') = 'read committed' THEN
        RETURN {schema}.append(
            _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets);
    END IF;
    -- The version check misses conflicts where the snapshot is old or the stream not locked. The constraint finds them,
    -- and a subtransaction keeps the caller's transaction usable.
    BEGIN
        IF _crowded THEN
            RETURN {schema}.write_events(
                _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets);
        END IF;
        RETURN {schema}.append(
            _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets);
    EXCEPTION WHEN unique_violation THEN
        RETURN NULL;
    END;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.append_in_transaction IS
    'Appends events to one stream within a transaction that goes on: at any isolation level, and to any number of streams. '
    'Parameters and result as of write_events; NULL is a conflict whose version this transaction cannot see.';
