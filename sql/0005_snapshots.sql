-- Snapshots: a shorter way to an aggregate's state, never the only one. Any row may be deleted at any time.

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
COMMENT ON COLUMN {schema}.snapshots.version IS 'The stream''s version that the state stands at.';
COMMENT ON COLUMN {schema}.snapshots.class_schema IS
    'Fingerprint of the class''s fields: releases that differ in them have snapshots of their own.';
COMMENT ON COLUMN {schema}.snapshots.event_id IS
    'The id of the event at that version. Where the stream holds another one there, the snapshot is void.';
COMMENT ON COLUMN {schema}.snapshots.state IS 'A msgpack map. docs/format.md says what each byte is.';
COMMENT ON COLUMN {schema}.snapshots.checksum IS 'BLAKE2b of all of the above: a damaged snapshot is void. Without a key: a forged one is not.';
