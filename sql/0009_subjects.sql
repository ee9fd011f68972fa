-- Subjects of personal data: in which streams they occur, so that one can be forgotten without reading the log. Their keys
-- are elsewhere, in a schema or a database of their own: subject_keys/.

CREATE TABLE {schema}.subject_streams (
    subject text COLLATE "C" NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    CONSTRAINT subject_streams_subject PRIMARY KEY (subject, stream_id)
);

COMMENT ON TABLE {schema}.subject_streams IS
    'Which streams hold personal data of which subjects, sealed under their keys. Written by append_personal.';
COMMENT ON COLUMN {schema}.subject_streams.subject IS 'The text of the subject, as the event has it: 1 to 200 bytes.';
COMMENT ON COLUMN {schema}.subject_streams.stream_id IS 'A stream with at least one event that holds personal data of it.';

CREATE FUNCTION {schema}.forgotten_among(_subjects text[]) RETURNS bigint
LANGUAGE plpgsql AS $eventstore$
DECLARE
    -- How many subjects this transaction has locked: each takes a slot of the server's lock table.
    _setting text := 'eventstore.subjects_' || {event_positions}::regclass::oid::text;
    _locked integer := coalesce(nullif(current_setting(_setting, true), ''), '0')::integer + cardinality(_subjects);
    _noted text := set_config(_setting, _locked::text, true);
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE 'personal data can be appended in READ COMMITTED transactions only'
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'A transaction with an older snapshot does not see that a subject was forgotten meanwhile.';
    END IF;
    IF _locked <= 256 THEN
        -- A subject is forgotten by an append to the stream that is named after it, which takes this lock for itself.
        PERFORM pg_advisory_xact_lock_shared(
            hashtextextended('eventstore.subjects-' || subject, {event_positions}::regclass::oid::bigint))
        FROM unnest(_subjects) AS subject;
    END IF;
    RETURN (
        SELECT min(number) FROM unnest(_subjects) WITH ORDINALITY AS given (subject, number)
        WHERE EXISTS (SELECT FROM {schema}.events WHERE stream_id = 'eventstore.subjects-' || subject)
    );
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.forgotten_among FROM PUBLIC;

COMMENT ON FUNCTION {schema}.forgotten_among IS
    'The place, from 1, of the first of some subjects that was forgotten; NULL if none was. None of them can be forgotten until '
    'the transaction ends, unless it has more than 256. Call append_personal instead, whose search_path it relies on.';

CREATE FUNCTION {schema}.append_personal(
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
    _subjects text[],
    _closing boolean DEFAULT false,
    _tombstone boolean DEFAULT false
) RETURNS {schema}.append_reply
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _forgotten bigint := {schema}.forgotten_among(_subjects);
    _reply {schema}.append_reply;
BEGIN
    IF _forgotten IS NOT NULL THEN
        RETURN (_forgotten, NULL::bigint, 'forgotten'::text);
    END IF;
    _reply := {schema}.append(
        _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets, _revisions,
        _given_ids, _closing, _tombstone);
    IF _reply.outcome = 'stored' THEN
        INSERT INTO {schema}.subject_streams (subject, stream_id) SELECT unnest(_subjects), _stream_id
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN _reply;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.append_personal FROM PUBLIC;

COMMENT ON FUNCTION {schema}.append_personal IS
    'append, for events that hold personal data of subjects. If one of these was forgotten, nothing is stored, and the outcome is '
    '"forgotten", with the place of the first of them as the version.';

CREATE FUNCTION {schema}.append_personal_in_transaction(
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
    _subjects text[],
    _closing boolean DEFAULT false,
    _tombstone boolean DEFAULT false
) RETURNS {schema}.append_reply
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _forgotten bigint := {schema}.forgotten_among(_subjects);
    _reply {schema}.append_reply;
BEGIN
    IF _forgotten IS NOT NULL THEN
        RETURN (_forgotten, NULL::bigint, 'forgotten'::text);
    END IF;
    _reply := {schema}.append_in_transaction(
        _stream_id, _expected_version, _event_ids, _event_types, _data, _metadata, _timestamps, _utc_offsets, _revisions,
        _given_ids, _closing, _tombstone);
    IF _reply.outcome = 'stored' THEN
        INSERT INTO {schema}.subject_streams (subject, stream_id) SELECT unnest(_subjects), _stream_id
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN _reply;
END
$eventstore$;

REVOKE ALL ON FUNCTION {schema}.append_personal_in_transaction FROM PUBLIC;

COMMENT ON FUNCTION {schema}.append_personal_in_transaction IS
    'append_in_transaction, for events that hold personal data. Subjects and outcomes as of append_personal.';
