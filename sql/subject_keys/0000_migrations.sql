-- What was applied to this schema, so that a second run applies only what is missing.
CREATE TABLE IF NOT EXISTS {schema}.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now()
);

COMMENT ON TABLE {schema}.migrations IS
    'The files of sql/ that were applied here, each with the SHA-256 of its text. Written by `eventstore migrate` only.';
