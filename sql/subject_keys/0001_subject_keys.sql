-- The keys of subjects of personal data. They need neither the schema nor the database of the log: in one of their own, their
-- backups can be kept for a shorter time.

CREATE TABLE {schema}.subject_keys (
    subject text COLLATE "C" NOT NULL,
    wrapped bytea,
    wrapped_by text,
    created_at timestamp with time zone,
    forgotten_at timestamp with time zone,
    reason text,
    CONSTRAINT subject_keys_subject PRIMARY KEY (subject),
    CONSTRAINT subject_keys_destroyed CHECK ((wrapped IS NULL) = (forgotten_at IS NOT NULL) AND (wrapped IS NULL) = (wrapped_by IS NULL))
);

COMMENT ON TABLE {schema}.subject_keys IS
    'One key a subject. Of a subject that was forgotten only the row is left, so that it never gets another key.';
COMMENT ON COLUMN {schema}.subject_keys.subject IS 'The text of the subject: 1 to 200 bytes.';
COMMENT ON COLUMN {schema}.subject_keys.wrapped IS
    'The key, encrypted by a key-encryption key that is not in the database; NULL once the key is destroyed.';
COMMENT ON COLUMN {schema}.subject_keys.wrapped_by IS 'The name of that key-encryption key.';
COMMENT ON COLUMN {schema}.subject_keys.created_at IS 'When the key was made; NULL if the subject was forgotten before it had one.';
COMMENT ON COLUMN {schema}.subject_keys.forgotten_at IS 'When the key was destroyed.';
COMMENT ON COLUMN {schema}.subject_keys.reason IS 'Why, as whoever forgot the subject said.';
COMMENT ON CONSTRAINT subject_keys_subject ON {schema}.subject_keys IS 'Two processes that make a key at once end with one.';
COMMENT ON CONSTRAINT subject_keys_destroyed ON {schema}.subject_keys IS 'A key is there, or it is said when it was destroyed.';
