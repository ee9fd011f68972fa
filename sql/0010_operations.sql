-- What was moved into archives.

CREATE TABLE {schema}.archived_streams (
    stream_id text COLLATE "C" NOT NULL,
    before bigint NOT NULL,
    archive text NOT NULL,
    digest bytea NOT NULL,
    archived_at timestamp with time zone NOT NULL DEFAULT now(),
    archived_by text NOT NULL DEFAULT session_user,
    CONSTRAINT archived_streams_stream_before PRIMARY KEY (stream_id, before)
);

COMMENT ON TABLE {schema}.archived_streams IS
    'The streams whose older events were moved into an archive, and deleted here. A row for each time.';
COMMENT ON COLUMN {schema}.archived_streams.before IS
    'The version of the tombstone or closing event that is now the first of the stream. All below it are in the archive.';
COMMENT ON COLUMN {schema}.archived_streams.archive IS 'Where the archive was written: a directory or an address.';
COMMENT ON COLUMN {schema}.archived_streams.digest IS 'The SHA-256 of the archive''s manifest.';
COMMENT ON COLUMN {schema}.archived_streams.archived_by IS 'The login that did it.';
