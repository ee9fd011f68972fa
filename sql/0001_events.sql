-- The log: one table, one sequence. Everything lives in this schema; nothing relies on search_path.

CREATE SEQUENCE {schema}.event_positions AS bigint CACHE 1;

-- Fixed-width columns first: no padding between them. No CHECK: the server reads each again from its text for each append,
-- and the library checks names before it sends them.
CREATE TABLE {schema}.events (
    version bigint NOT NULL,
    position bigint NOT NULL DEFAULT nextval({event_positions}::regclass),
    timestamp timestamp with time zone NOT NULL,
    utc_offset integer NOT NULL,
    revision smallint NOT NULL DEFAULT 1,
    event_id uuid NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    metadata bytea NOT NULL,
    CONSTRAINT events_stream_version PRIMARY KEY (stream_id, version)
);

ALTER SEQUENCE {schema}.event_positions OWNED BY {schema}.events.position;

CREATE INDEX events_position ON {schema}.events (position);
CREATE INDEX events_event_id ON {schema}.events (event_id);

COMMENT ON SEQUENCE {schema}.event_positions IS
    'Draws positions. CACHE 1 is part of the protocol: whoever registered with last_value n draws only numbers above n. '
    'Its oid tells this store''s advisory locks from those of others in the same database.';
COMMENT ON TABLE {schema}.events IS
    'Every event, for ever. Append with the functions append and append_in_transaction only: they take the locks that '
    'readers rely on.';
COMMENT ON COLUMN {schema}.events.version IS 'Place in its stream: 1, 2, 3 ... without a gap.';
COMMENT ON COLUMN {schema}.events.position IS
    'Place in the whole log. Rises; numbers of transactions that were rolled back are missing, and stay so.';
COMMENT ON COLUMN {schema}.events.timestamp IS 'When it happened, as the application said. Orders nothing.';
COMMENT ON COLUMN {schema}.events.utc_offset IS
    'Seconds east of UTC of the clock that said so: timestamp AT TIME ZONE make_interval(secs => utc_offset).';
COMMENT ON COLUMN {schema}.events.revision IS
    'The revision of the class of event that wrote data: 1 unless the class said more. Readers upcast from it.';
COMMENT ON COLUMN {schema}.events.event_id IS
    'Given by the writer. The same ids at the same place again are the same append, not a second one.';
COMMENT ON COLUMN {schema}.events.stream_id IS
    'What the event belongs to: 1 to 255 bytes. What stands before its first "-" is the category.';
COMMENT ON COLUMN {schema}.events.event_type IS 'The stored name of the class of event: 1 to 255 bytes.';
COMMENT ON COLUMN {schema}.events.data IS 'A msgpack map: the event''s own fields. docs/format.md says what each byte is.';
COMMENT ON COLUMN {schema}.events.metadata IS 'A msgpack map: what is known about the event, such as who caused it.';
COMMENT ON CONSTRAINT events_stream_version ON {schema}.events IS
    'What optimistic concurrency rests on. The advisory lock only makes losers lose without an aborted transaction.';
COMMENT ON INDEX {schema}.events_position IS 'Readers of the whole log.';
COMMENT ON INDEX {schema}.events_event_id IS
    'Finds an append again that named no version. Event ids rise with time, so that new ones meet in the same pages.';
