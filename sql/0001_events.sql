-- The log: one table, one sequence. Everything lives in this schema; nothing relies on search_path.

CREATE SEQUENCE {schema}.event_positions AS bigint CACHE 1;

-- Fixed-width columns come first, so that there is no padding between them. There is no CHECK, because the server parses each
-- one from its text for each append; the library checks names before it sends them.
CREATE TABLE {schema}.events (
    version bigint NOT NULL,
    position bigint NOT NULL DEFAULT nextval({event_positions}::regclass),
    timestamp timestamp with time zone NOT NULL,
    utc_offset integer NOT NULL,
    revision smallint NOT NULL DEFAULT 1,
    closing boolean NOT NULL DEFAULT false,
    tombstone boolean NOT NULL DEFAULT false,
    event_id uuid NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    metadata bytea NOT NULL,
    CONSTRAINT events_stream_version PRIMARY KEY (stream_id, version)
) {partition_by};

DO $eventstore$
DECLARE
    _events regclass := {events};
    _home regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = _events);
    _table text;
BEGIN
    -- With `eventstore migrate --partitions`. A stream is in one of them, so that the primary key holds for the whole log.
    FOR _number IN 0 .. {partitions} - 1 LOOP
        _table := format('%s.events_%s', _home, to_char(_number, 'FM00'));
        EXECUTE format(
            'CREATE TABLE %s PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
            _table, _events, {partitions}, _number);
        EXECUTE format(
            'COMMENT ON TABLE %s IS %L', _table,
            'The events of the streams that have this remainder. Use the table events, which has all.');
    END LOOP;
    -- Rows never change. So each vacuum has to look at new pages only, and freezes what it finds, which nobody has to do later.
    -- By default one would come after a fifth of the table is new, and leave rows to be frozen all at once years later.
    -- docs/postgresql.md has the figures.
    FOR _table IN
        SELECT oid::regclass FROM pg_class
        WHERE relkind = 'r' AND oid IN (SELECT _events UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = _events)
    LOOP
        EXECUTE format(
            'ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = %s, '
            'autovacuum_freeze_min_age = 0)', _table, 1000000 / greatest({partitions}, 1));
    END LOOP;
END
$eventstore$;

ALTER SEQUENCE {schema}.event_positions OWNED BY {schema}.events.position;

CREATE INDEX events_position ON {schema}.events (position);
CREATE INDEX events_event_id ON {schema}.events (event_id);
CREATE INDEX events_closing ON {schema}.events ((stream_id || ''), version) WHERE closing;

-- What follows the key in the msgpack map: an id begins with its length, so that whoever looks for its bytes finds no other's.
CREATE INDEX events_correlation_id ON {schema}.events
    (substring(metadata FROM position(E'\\xae636f7272656c6174696f6e5f6964'::bytea IN metadata) + 15 FOR 40))
    WHERE position(E'\\xae636f7272656c6174696f6e5f6964'::bytea IN metadata) > 0;
CREATE INDEX events_causation_id ON {schema}.events
    (substring(metadata FROM position(E'\\xac636175736174696f6e5f6964'::bytea IN metadata) + 13 FOR 40))
    WHERE position(E'\\xac636175736174696f6e5f6964'::bytea IN metadata) > 0;

COMMENT ON SEQUENCE {schema}.event_positions IS
    'Draws positions. CACHE 1 is part of the protocol: a transaction that registered with last_value n draws only numbers above '
    'n. Its oid distinguishes this store''s advisory locks from those of other stores in the same database.';
COMMENT ON TABLE {schema}.events IS
    'All events. Append only with the functions append and append_in_transaction, which take the locks on which readers rely.';
COMMENT ON COLUMN {schema}.events.version IS 'The place in the stream: 1, 2, 3 ... without gaps.';
COMMENT ON COLUMN {schema}.events.position IS
    'The place in the whole log. Positions rise. Those of transactions that rolled back are missing for ever.';
COMMENT ON COLUMN {schema}.events.timestamp IS 'When it happened, according to the application. The order of events does not depend on it.';
COMMENT ON COLUMN {schema}.events.utc_offset IS
    'The offset of the writer''s clock, in seconds east of UTC: timestamp AT TIME ZONE make_interval(secs => utc_offset).';
COMMENT ON COLUMN {schema}.events.revision IS
    'The revision of the class that wrote data; 1 unless the class said otherwise. Readers upcast from it.';
COMMENT ON COLUMN {schema}.events.closing IS
    'Whether loads of the stream begin here: the event carries all that went before it. Followers still read what is below.';
COMMENT ON COLUMN {schema}.events.tombstone IS
    'Whether the stream is retired: this is its last event for ever, and the row never leaves the table.';
COMMENT ON COLUMN {schema}.events.event_id IS
    'The id, which the writer gives. Appending the same ids at the same place again stores nothing.';
COMMENT ON COLUMN {schema}.events.stream_id IS
    'The stream that the event belongs to: 1 to 255 bytes. The part before the first "-" is the category.';
COMMENT ON COLUMN {schema}.events.event_type IS 'The stored name of the event''s class: 1 to 255 bytes.';
COMMENT ON COLUMN {schema}.events.data IS 'A msgpack map of the event''s fields. docs/format.md says what each byte is.';
COMMENT ON COLUMN {schema}.events.metadata IS 'A msgpack map: what is known about the event, such as who caused it.';
COMMENT ON CONSTRAINT events_stream_version ON {schema}.events IS
    'Optimistic concurrency rests on this. The advisory lock only spares the loser of a race an aborted transaction.';
COMMENT ON INDEX {schema}.events_position IS 'For readers of the whole log.';
COMMENT ON INDEX {schema}.events_correlation_id IS
    'For traces: the first 40 bytes after the key correlation_id in the metadata. Events without that key are not in it.';
COMMENT ON INDEX {schema}.events_causation_id IS
    'For traces: the first 40 bytes after the key causation_id in the metadata. Events without that key are not in it.';
COMMENT ON INDEX {schema}.events_event_id IS
    'Finds repeated appends that expected no version. Event ids rise with time, so new ones share the same pages.';
COMMENT ON INDEX {schema}.events_closing IS 'Where loads of a stream begin: at its newest closing event. Has few entries. The concatenation keeps the planner from taking '
    'the primary key instead, and walking through the whole stream.';
