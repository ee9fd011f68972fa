-- Appending: lock the stream, register, check the version, draw positions. A changed function gets a new name in a new
-- file, so that processes of the last release keep working while those of the next one start.
--
-- The functions that write run with their owner's rights. So a writer needs no privilege on the table, and can neither choose
-- the version or position of an event nor insert one without the locks. Each function sets its search_path, so that nobody
-- can replace the functions and operators that it calls by those of another schema.

CREATE TYPE {schema}.append_reply AS (version bigint, position bigint, outcome text);

COMMENT ON TYPE {schema}.append_reply IS
    'What became of an append. outcome is "stored", with the version and the position of the last of its events; "repeated", '
    'with the same, where they were stored before, with the same ids at the same place; "conflict", with the version that the '
    'stream is at instead, or NULL where this transaction cannot see it; "already stored", with the version and the '
    'position of the event that has one of the ids, elsewhere in the stream; or "retired", with those of the tombstone.';

CREATE FUNCTION {schema}.settled_reply(
    _stream_id text, _expected_version bigint, _event_ids uuid[], _given_ids uuid[], _last bigint, _last_position bigint,
    _retired boolean
) RETURNS {schema}.append_reply
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _before bigint := _expected_version;
    _version bigint;
    _position bigint;
BEGIN
    IF _expected_version < 0 THEN
        -- The concatenation keeps the planner from walking through the whole stream.
        SELECT min(version) - 1 INTO _before FROM {schema}.events
        WHERE event_id = ANY (_event_ids) AND stream_id || '' = _stream_id;
    END IF;
    IF _before < _last AND cardinality(_event_ids) > 0 AND _event_ids = ARRAY(
        SELECT event_id FROM {schema}.events
        WHERE stream_id = _stream_id AND version > _before ORDER BY version LIMIT cardinality(_event_ids)
    ) THEN
        SELECT version, position INTO _version, _position FROM {schema}.events
        WHERE stream_id = _stream_id AND version = _before + cardinality(_event_ids);
        RETURN (_version, _position, 'repeated'::text);
    END IF;
    IF _retired THEN
        RETURN (_last, _last_position, 'retired'::text);
    END IF;
    IF _expected_version < 0 OR _given_ids IS NOT NULL THEN
        SELECT version, position INTO _version, _position FROM {schema}.events
        WHERE event_id = ANY (CASE WHEN _expected_version < 0 THEN _event_ids ELSE _given_ids END)
            AND stream_id || '' = _stream_id
        ORDER BY version LIMIT 1;
        IF FOUND THEN
            RETURN (_version, _position, 'already stored'::text);
        END IF;
    END IF;
    IF (_expected_version >= 0 AND _expected_version <> _last) OR (_expected_version = -2 AND _last = 0) THEN
        RETURN (_last, NULL::bigint, 'conflict'::text);
    END IF;
    RETURN NULL;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.settled_reply FROM PUBLIC;

COMMENT ON FUNCTION {schema}.settled_reply IS
    'The reply to an append of which nothing must be stored now; NULL if its events are to be stored. The stream is at _last, the '
    'position of which is _last_position, and _retired if it ends with a tombstone. Relies on its caller''s search_path, as write_events does.';

CREATE FUNCTION {schema}.write_events(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[],
    _revisions smallint[],
    _given_ids uuid[],
    _closing boolean,
    _tombstone boolean
) RETURNS {schema}.append_reply
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _last bigint;
    _position bigint;
    _retired boolean;
    _reply {schema}.append_reply;
BEGIN
    SELECT version, position, tombstone INTO _last, _position, _retired
    FROM {schema}.events WHERE stream_id = _stream_id ORDER BY version DESC LIMIT 1;
    _last := coalesce(_last, 0);
    IF _expected_version <> _last OR _given_ids IS NOT NULL OR _retired THEN
        _reply := {schema}.settled_reply(_stream_id, _expected_version, _event_ids, _given_ids, _last, _position, _retired);
        IF _reply.outcome IS NOT NULL THEN
            RETURN _reply;
        END IF;
    END IF;
    IF cardinality(_event_ids) = 0 THEN
        RETURN (_last, _position, 'stored'::text);
    END IF;
    INSERT INTO {schema}.events
        (version, timestamp, utc_offset, revision, closing, tombstone, event_id, stream_id, event_type, data, metadata)
    -- Side by side in the target list they are walked through together; in FROM each would be put into a store of rows first.
    SELECT _last + generate_subscripts(_event_ids, 1), unnest(_timestamps), unnest(_utc_offsets), unnest(_revisions),
        _closing, _tombstone, unnest(_event_ids), _stream_id, unnest(_event_types), unnest(_data), unnest(_metadata);
    RETURN (_last + cardinality(_event_ids), currval({event_positions}::regclass), 'stored'::text);
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.write_events FROM PUBLIC;

COMMENT ON FUNCTION {schema}.write_events IS
    'The part of an append between its locks and its commit; call append instead, whose search_path it relies on. '
    '_expected_version: 0 or more is the version that the stream must have, -1 any, -2 any but 0. _given_ids are those of the '
    'ids that the writer may have used before; NULL if there are none. They are looked for in the stream. _closing and _tombstone '
    'are the flags of the events, and are for appends of one event.';

CREATE FUNCTION {schema}.append(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[],
    _revisions smallint[],
    _given_ids uuid[],
    _closing boolean DEFAULT false,
    _tombstone boolean DEFAULT false
) RETURNS {schema}.append_reply
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    -- Plain expressions, as these are, are calculated at once; PERFORM would have the server set up a query for each.
    -- The stream's lock: other writers of this stream wait for the end of the transaction. An advisory ExclusiveLock.
    _locked text := pg_advisory_xact_lock(hashtextextended(_stream_id, {event_positions}::regclass::oid::bigint))::text;
    _drawn bigint := pg_sequence_last_value({event_positions}::regclass);
    _registered text;
    _used boolean;
    _called boolean;
BEGIN
    IF _drawn IS NULL THEN  -- Nobody has appended yet.
        -- The events first, then the sequence, as others may append the first events just now.
        _used := EXISTS (SELECT FROM {schema}.events);
        SELECT last_value - (NOT is_called)::integer, is_called INTO _drawn, _called FROM {schema}.event_positions;
        IF _used AND NOT _called THEN
            RAISE 'the sequence event_positions has drawn nothing, though there are events: positions would be used twice'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Append on the node that has drawn them; on a logical replica that takes over, setval it first.';
        END IF;
    END IF;
    -- Register: announce to readers that this transaction may commit positions above the last one drawn, and none below. An
    -- advisory ShareLock; its key is 24 bits of the sequence's oid, then 40 bits of that position.
    _registered := pg_advisory_xact_lock_shared(
        ({event_positions}::regclass::oid::bigint & 16777215) << 40 | (_drawn & 1099511627775))::text;
    RETURN {schema}.write_events(
        _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets, _revisions,
        _given_ids, _closing, _tombstone);
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.append FROM PUBLIC;

COMMENT ON FUNCTION {schema}.append IS
    'Appends events to one stream, as the only statement of its transaction. The parameters are those of write_events.';

CREATE FUNCTION {schema}.append_in_transaction(
    _stream_id text,
    _expected_version bigint,
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[],
    _revisions smallint[],
    _given_ids uuid[],
    _closing boolean DEFAULT false,
    _tombstone boolean DEFAULT false
) RETURNS {schema}.append_reply
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    -- How many appends this transaction has registered for; rolled back to a savepoint together with their locks.
    _setting text := 'eventstore.appends_' || {event_positions}::regclass::oid::text;
    _appends integer := coalesce(nullif(current_setting(_setting, true), ''), '0');
    -- Every lock takes a slot of the server's lock table, about 64 for each connection that it allows.
    _crowded boolean := _appends >= 256;
    _noted text := set_config(_setting, (_appends + 1)::text, true);
BEGIN
    IF NOT _crowded AND current_setting('transaction_isolation') = 'read committed' THEN
        RETURN {schema}.append(
            _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets, _revisions,
            _given_ids, _closing, _tombstone);
    END IF;
    -- The version check misses conflicts where the snapshot is old or the stream not locked. The constraint finds them,
    -- and a subtransaction keeps the caller's transaction usable.
    BEGIN
        IF _crowded THEN
            RETURN {schema}.write_events(
                _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets,
                _revisions, _given_ids, _closing, _tombstone);
        END IF;
        RETURN {schema}.append(
            _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets, _revisions,
            _given_ids, _closing, _tombstone);
    EXCEPTION WHEN unique_violation THEN
        RETURN (NULL::bigint, NULL::bigint, 'conflict'::text);
    END;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.append_in_transaction FROM PUBLIC;

COMMENT ON FUNCTION {schema}.append_in_transaction IS
    'Appends events to one stream within a transaction that continues, at any isolation level and to any number of streams. '
    'Parameters as of write_events.';

CREATE FUNCTION {schema}.append_many(
    _stream_ids text[],
    _expected_versions bigint[],
    _streams integer[],
    _steps integer[],
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[],
    _revisions smallint[],
    _given_ids uuid[]
) RETURNS SETOF {schema}.append_reply
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _store bigint := {event_positions}::regclass::oid::bigint;
    -- As in append_in_transaction: how many streams this transaction has locked.
    _setting text := 'eventstore.appends_' || _store::text;
    _appends integer := coalesce(nullif(current_setting(_setting, true), ''), '0');
    _crowded boolean := _appends > 0 AND _appends + cardinality(_stream_ids) > 256;
    _noted text := set_config(_setting, (_appends + cardinality(_stream_ids))::text, true);
BEGIN
    IF NOT _crowded THEN
        -- In the order of their keys, so that no two batches wait for each other.
        PERFORM pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT hashtextextended(stream_id, _store) AS key FROM unnest(_stream_ids) AS stream_id ORDER BY key
        ) AS ordered;
        -- No event: it registers.
        PERFORM {schema}.append(_stream_ids[1], -1, ARRAY[]::uuid[], NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        IF current_setting('transaction_isolation') = 'read committed' THEN
            RETURN QUERY SELECT * FROM {schema}.write_many(
                _stream_ids, _expected_versions, _streams, _steps, _event_ids, _event_types, _data, _metadata, _timestamps,
                _utc_offsets, _revisions, _given_ids);
            RETURN;
        END IF;
    END IF;
    -- The constraint finds what the version check misses, as in append_in_transaction.
    BEGIN
        RETURN QUERY SELECT * FROM {schema}.write_many(
            _stream_ids, _expected_versions, _streams, _steps, _event_ids, _event_types, _data, _metadata, _timestamps,
            _utc_offsets, _revisions, _given_ids);
    EXCEPTION WHEN unique_violation THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bigint, 'conflict'::text FROM unnest(_stream_ids);
    END;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.append_many FROM PUBLIC;

COMMENT ON FUNCTION {schema}.append_many IS
    'Appends events to several streams, all or none, alone or within a transaction that continues. _stream_ids names each stream '
    'once, at most 256, with its expected version beside it. The events are in the order of their positions: _streams has '
    'for each the subscript of its stream, _steps its number among the new events of that stream. Returns a reply for each stream. '
    'If one is "conflict", "already stored" or "retired", nothing is stored, and the replies of streams that were not refused are NULL.';

CREATE FUNCTION {schema}.write_many(
    _stream_ids text[],
    _expected_versions bigint[],
    _streams integer[],
    _steps integer[],
    _event_ids uuid[],
    _event_types text[],
    _data bytea[],
    _metadata bytea[],
    _timestamps timestamp with time zone[],
    _utc_offsets integer[],
    _revisions smallint[],
    _given_ids uuid[]
) RETURNS SETOF {schema}.append_reply
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _versions bigint[];
    _positions bigint[];
    _retired boolean[];
    _replies {schema}.append_reply[];
    _reply {schema}.append_reply;
    _repeated boolean[] := array_fill(false, ARRAY[cardinality(_stream_ids)]);
    _refused boolean := false;
    _known boolean;
    _each record;
BEGIN
    SELECT array_agg(coalesce(last.version, 0) ORDER BY number), array_agg(last.position ORDER BY number),
        array_agg(coalesce(last.tombstone, false) ORDER BY number)
    INTO _versions, _positions, _retired
    FROM unnest(_stream_ids) WITH ORDINALITY AS wanted (id, number)
    LEFT JOIN LATERAL (
        SELECT version, position, tombstone FROM {schema}.events WHERE stream_id = id ORDER BY version DESC LIMIT 1
    ) AS last ON true;
    IF _given_ids IS NOT NULL OR _expected_versions <> _versions OR true = ANY (_retired) THEN
        _known := EXISTS (
            SELECT FROM {schema}.events WHERE event_id = ANY (_event_ids) AND stream_id || '' = ANY (_stream_ids)
        );
        FOR _each IN
            SELECT number, coalesce(ids, ARRAY[]::uuid[]) AS ids, _expected_versions[number] AS expected
            FROM generate_subscripts(_stream_ids, 1) AS number
            LEFT JOIN (
                SELECT stream, array_agg(event_id ORDER BY step) AS ids
                FROM unnest(_streams, _steps, _event_ids) AS event (stream, step, event_id) GROUP BY stream
            ) AS own ON stream = number
            WHERE _known OR _expected_versions[number] >= 0 AND _expected_versions[number] <> _versions[number]
                OR _expected_versions[number] = -2 OR _retired[number]
        LOOP
            _reply := {schema}.settled_reply(
                _stream_ids[_each.number], _each.expected, _each.ids, _given_ids, _versions[_each.number],
                _positions[_each.number], _retired[_each.number]);
            _replies[_each.number] := _reply;
            _repeated[_each.number] := coalesce(_reply.outcome = 'repeated', false);
            _refused := _refused OR coalesce(_reply.outcome <> 'repeated', false);
        END LOOP;
    END IF;
    IF _refused THEN
        RETURN QUERY
        SELECT (_replies[number]).version, (_replies[number]).position, (_replies[number]).outcome
        FROM generate_subscripts(_stream_ids, 1) AS number ORDER BY number;
        RETURN;
    END IF;
    RETURN QUERY
    WITH new AS (
        SELECT unnest(_streams) AS stream, unnest(_steps) AS step, unnest(_timestamps) AS timestamp,
            unnest(_utc_offsets) AS utc_offset, unnest(_revisions) AS revision, unnest(_event_ids) AS event_id,
            unnest(_event_types) AS event_type, unnest(_data) AS data, unnest(_metadata) AS metadata
    ), inserted AS (
        INSERT INTO {schema}.events
            (version, timestamp, utc_offset, revision, event_id, stream_id, event_type, data, metadata)
        SELECT _versions[stream] + step, timestamp, utc_offset, revision, event_id, _stream_ids[stream], event_type, data,
            metadata
        FROM new WHERE NOT _repeated[stream]
        RETURNING stream_id, version, position
    ), last AS (
        SELECT stream_id, max(version) AS version, max(position) AS position FROM inserted GROUP BY stream_id
    )
    SELECT coalesce((_replies[number]).version, last.version, _versions[number]),
        coalesce((_replies[number]).position, last.position, _positions[number]),
        coalesce((_replies[number]).outcome, 'stored')
    FROM unnest(_stream_ids) WITH ORDINALITY AS wanted (id, number) LEFT JOIN last ON stream_id = id ORDER BY number;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.write_many FROM PUBLIC;

COMMENT ON FUNCTION {schema}.write_many IS
    'The part of append_many between its locks and its commit; call append_many instead, whose search_path it relies on.';
