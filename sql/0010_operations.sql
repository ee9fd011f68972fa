-- Events in archives: they leave the log, and come back, only by the functions below.

CREATE TABLE {schema}.archived_streams (
    stream_id text COLLATE "C" NOT NULL,
    before bigint NOT NULL,
    archive text NOT NULL,
    manifest bytea NOT NULL,
    digest bytea NOT NULL,
    archived_at timestamp with time zone NOT NULL DEFAULT now(),
    archived_by text NOT NULL DEFAULT session_user,
    CONSTRAINT archived_streams_stream_before PRIMARY KEY (stream_id, before)
);

CREATE INDEX archived_streams_manifest ON {schema}.archived_streams (manifest);

COMMENT ON TABLE {schema}.archived_streams IS
    'The streams whose older events were moved into an archive, and deleted here. A row for each time, until they are restored.';
COMMENT ON COLUMN {schema}.archived_streams.before IS
    'The version of the tombstone or closing event that is now the first of the stream. All below it are in archives.';
COMMENT ON COLUMN {schema}.archived_streams.archive IS 'Where the archive was written: a directory or an address.';
COMMENT ON COLUMN {schema}.archived_streams.manifest IS
    'The SHA-256 of the archive''s manifest, by which the archive is known wherever it is. Empty if it is in no archive of this '
    'store: an import began in the middle of the stream.';
COMMENT ON COLUMN {schema}.archived_streams.digest IS
    'What archived_digests returned for the events that were deleted. Only these can be restored.';
COMMENT ON COLUMN {schema}.archived_streams.archived_by IS 'The login that did it.';
COMMENT ON INDEX {schema}.archived_streams_manifest IS 'Finds what is in one archive.';

CREATE FUNCTION {schema}.archived_digests(_stream_ids text[], _befores bigint[], _digests bytea[])
RETURNS TABLE (stream_id text, before bigint, expected bytea, digest bytea, highest bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $eventstore$
    SELECT wanted.stream_id, wanted.before, wanted.digest, sha256(string_agg(sha256(
        int8send(event.version) || int8send(event.position) || timestamptz_send(event.timestamp) || int4send(event.utc_offset)
        || int2send(event.revision) || boolsend(event.closing) || boolsend(event.tombstone) || uuid_send(event.event_id)
        || int4send(octet_length(event.event_type)) || convert_to(event.event_type, 'UTF8')
        || int4send(octet_length(event.data)) || event.data || event.metadata
    ), ''::bytea ORDER BY event.version)), max(event.position)
    FROM unnest(_stream_ids, _befores, _digests) AS wanted (stream_id, before, digest)
    LEFT JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version < wanted.before
    GROUP BY wanted.stream_id, wanted.before, wanted.digest
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.archived_digests FROM PUBLIC;

COMMENT ON FUNCTION {schema}.archived_digests IS
    'Of each stream, for the events below a version, beside the digest that is expected: the SHA-256 of the SHA-256 of each row, '
    'with all its columns but the stream''s id, and the highest position. docs/format.md says how it is calculated. It takes what '
    'is expected, because a join with its rows, the number of which nobody can estimate, might take for ever.';

CREATE FUNCTION {schema}.archive_streams(
    _stream_ids text[], _befores bigint[], _digests bytea[], _archive text, _manifest bytea
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _setting text := 'eventstore.archiving_' || {event_positions}::regclass::oid::text;
    _highest bigint;
    _reason text;
    _deleted bigint;
BEGIN
    -- A rebuild that has begun is found below; one that begins later finds the record.
    PERFORM pg_advisory_xact_lock(hashtextextended('eventstore.archive', {event_positions}::regclass::oid::bigint));
    SELECT array_agg(wanted.stream_id), array_agg(wanted.before), array_agg(wanted.digest)
    INTO _stream_ids, _befores, _digests
    FROM unnest(_stream_ids, _befores, _digests) AS wanted (stream_id, before, digest)
    WHERE NOT EXISTS (
        SELECT FROM {schema}.archived_streams AS archived
        WHERE archived.stream_id = wanted.stream_id AND archived.before = wanted.before
            AND archived.manifest = _manifest AND archived.digest = wanted.digest
    );
    IF _stream_ids IS NULL THEN
        RETURN 0;
    END IF;
    SELECT format('version %s of stream %L is neither a tombstone nor a closing event, and would be the first', before, wanted.stream_id)
    INTO _reason
    FROM unnest(_stream_ids, _befores) AS wanted (stream_id, before)
    LEFT JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version = wanted.before
    WHERE (event.closing OR event.tombstone) IS NOT TRUE LIMIT 1;
    IF _reason IS NULL THEN
        SELECT max(found.highest), min(format('the archive does not have the events that the store has below version %s of stream %L',
            found.before, found.stream_id)) FILTER (WHERE found.digest IS DISTINCT FROM found.expected)
        INTO _highest, _reason
        FROM {schema}.archived_digests(_stream_ids, _befores, _digests) AS found;
    END IF;
    IF _reason IS NULL THEN
        SELECT format('the checkpoint of subscription %L is in the way: it is at position %s, and the events go up to %s', name, position, _highest)
        INTO _reason
        FROM {schema}.subscriptions WHERE position < _highest ORDER BY position, name LIMIT 1;
    END IF;
    IF _reason IS NULL THEN
        SELECT format('subscription %L has parked the event at position %s, which is in the way', name, position) INTO _reason
        FROM {schema}.parked_events AS parked JOIN {schema}.events AS event USING (position)
        JOIN unnest(_stream_ids, _befores) AS wanted (stream_id, before)
            ON event.stream_id = wanted.stream_id AND event.version < wanted.before
        WHERE dropped_at IS NULL ORDER BY position LIMIT 1;
    END IF;
    IF _reason IS NOT NULL THEN
        RAISE '%', _reason USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Nothing of these streams was deleted.';
    END IF;
    INSERT INTO {schema}.archived_streams (stream_id, before, archive, manifest, digest)
    SELECT wanted.stream_id, wanted.before, _archive, _manifest, wanted.digest
    FROM unnest(_stream_ids, _befores, _digests) AS wanted (stream_id, before, digest);
    PERFORM set_config(_setting, 'on', true);
    DELETE FROM {schema}.events AS event USING unnest(_stream_ids, _befores) AS wanted (stream_id, before)
    WHERE event.stream_id = wanted.stream_id AND event.version < wanted.before;
    GET DIAGNOSTICS _deleted = ROW_COUNT;
    PERFORM set_config(_setting, '', true);
    DELETE FROM {schema}.snapshots AS snapshot USING unnest(_stream_ids, _befores) AS wanted (stream_id, before)
    WHERE snapshot.aggregate_type = split_part(wanted.stream_id, '-', 1)
        AND snapshot.aggregate_id = substr(wanted.stream_id, strpos(wanted.stream_id, '-') + 1)
        AND snapshot.version < wanted.before;
    RETURN _deleted;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.archive_streams FROM PUBLIC;

COMMENT ON FUNCTION {schema}.archive_streams IS
    'Deletes the events of streams below a version, which must be that of a tombstone or a closing event, and records that. '
    '_digests are those of the events that were read back from the archive: if the rows have others, or a checkpoint or a parked '
    'event is in the way, nothing is deleted. Leaves out what it has done before, and returns the number of events deleted.';

CREATE UNLOGGED TABLE {schema}.restored_events (LIKE {schema}.events);

COMMENT ON TABLE {schema}.restored_events IS
    'Events that were read from an archive, within the transaction that restores them. Empty at all other times.';

CREATE FUNCTION {schema}.restore_streams(_manifest bytea, OUT streams bigint, OUT events bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _stream_ids text[];
    _befores bigint[];
    _digests bytea[];
    _reason text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('eventstore.archive', {event_positions}::regclass::oid::bigint));
    SELECT array_agg(archived.stream_id), array_agg(archived.before), array_agg(archived.digest), count(*)
    INTO _stream_ids, _befores, _digests, streams
    FROM {schema}.archived_streams AS archived
    WHERE archived.manifest = _manifest
        AND archived.stream_id IN (SELECT restored.stream_id FROM {schema}.restored_events AS restored);
    IF streams = 0 THEN
        events := 0;
        RETURN;
    END IF;
    SELECT format('stream %L has no event of version %s any more, before which its events belong', wanted.stream_id, before)
    INTO _reason
    FROM unnest(_stream_ids, _befores) AS wanted (stream_id, before)
    LEFT JOIN {schema}.events AS event ON event.stream_id = wanted.stream_id AND event.version = wanted.before
    WHERE event.version IS NULL LIMIT 1;
    IF _reason IS NOT NULL THEN
        RAISE '%', _reason USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Restore the archive that has it first.';
    END IF;
    INSERT INTO {schema}.events
        (version, position, timestamp, utc_offset, revision, closing, tombstone, event_id, stream_id, event_type, data, metadata)
    SELECT restored.version, position, timestamp, utc_offset, revision, closing, tombstone, event_id, restored.stream_id,
        event_type, data, metadata
    FROM {schema}.restored_events AS restored
    JOIN unnest(_stream_ids, _befores) AS wanted (stream_id, before)
        ON restored.stream_id = wanted.stream_id AND restored.version < wanted.before
    ORDER BY position;
    GET DIAGNOSTICS events = ROW_COUNT;
    SELECT format('the events of stream %L below version %s are not those that were archived', found.stream_id, found.before)
    INTO _reason
    FROM {schema}.archived_digests(_stream_ids, _befores, _digests) AS found
    WHERE found.digest IS DISTINCT FROM found.expected LIMIT 1;
    IF _reason IS NOT NULL THEN
        RAISE '%', _reason USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Nothing was restored.';
    END IF;
    DELETE FROM {schema}.archived_streams AS archived
    WHERE archived.manifest = _manifest AND archived.stream_id = ANY (_stream_ids);
    DELETE FROM {schema}.restored_events;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.restore_streams FROM PUBLIC;

COMMENT ON FUNCTION {schema}.restore_streams IS
    'Puts the events in restored_events back into the log, as far as they are recorded as moved into the archive with this '
    'manifest, and deletes the record. Refuses events that are not, to the byte, those that archive_streams has deleted.';
