-- Snapshots: a shortcut to an aggregate's state. You can delete any row at any time.

CREATE TABLE {schema}.snapshots (
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    class_schema text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    event_id uuid NOT NULL,
    state bytea NOT NULL,
    checksum bytea NOT NULL,
    taken_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT snapshots_aggregate PRIMARY KEY (aggregate_type, aggregate_id, class_schema)
);

COMMENT ON TABLE {schema}.snapshots IS 'The newest snapshots of each aggregate, one for each of the two class schemas saved last. Safe to delete: the events are '
    'replayed.';
COMMENT ON COLUMN {schema}.snapshots.version IS 'The version of the stream at which the state was taken.';
COMMENT ON COLUMN {schema}.snapshots.class_schema IS
    'A fingerprint of the class''s fields. Releases that differ in them have separate snapshots.';
COMMENT ON COLUMN {schema}.snapshots.event_id IS
    'The id of the event at that version. If the stream has another event there, the snapshot is not used.';
COMMENT ON COLUMN {schema}.snapshots.state IS 'A msgpack map. docs/format.md says what each byte is.';
COMMENT ON COLUMN {schema}.snapshots.checksum IS 'BLAKE2b of all of the above, so a damaged snapshot is not used. It has no key, so a forged snapshot is used.';
