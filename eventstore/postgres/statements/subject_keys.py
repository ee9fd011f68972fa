"""The keys of subjects: sql/subject_keys."""

from __future__ import annotations

from eventstore.core.key_requests import (
    AddKey,
    DestroyKey,
    FindKeyRecord,
    FindKeys,
    KeysToRewrap,
    ListKeys,
    RewrapKey,
    WhereKeysAre,
    WrappedKey,
)
from eventstore.core.subject_keys import KeyRecord
from eventstore.postgres.statements.statement import each, found, names, nothing, optional, statement

_KEYS = "SELECT subject, wrapped, wrapped_by FROM {schema}.subject_keys"

STATEMENTS = (
    statement(
        FindKeys,
        f"{_KEYS} WHERE subject = ANY (%b::text[])",
        parameters=lambda request: [names(request.subjects)],
        reply=each(WrappedKey),
    ),
    statement(
        AddKey,
        """
        INSERT INTO {schema}.subject_keys (subject, wrapped, wrapped_by, created_at)
        VALUES (%(subject)b, %(wrapped)b, %(wrapped_by)b, pg_catalog.now()) ON CONFLICT (subject) DO NOTHING
        """,
        reply=nothing,
    ),
    statement(
        DestroyKey,
        """
        INSERT INTO {schema}.subject_keys AS there (subject, forgotten_at, reason)
        VALUES (%(subject)b, pg_catalog.now(), %(reason)b)
        ON CONFLICT (subject) DO UPDATE SET wrapped = NULL, wrapped_by = NULL, forgotten_at = excluded.forgotten_at,
            reason = excluded.reason
        WHERE there.forgotten_at IS NULL
        """,
        reply=nothing,
    ),
    statement(
        KeysToRewrap,
        f"{_KEYS} WHERE wrapped_by <> %(wrapped_by)b AND subject > %(after)b ORDER BY subject LIMIT %(limit)b",
        reply=each(WrappedKey),
    ),
    statement(
        RewrapKey,
        """
        UPDATE {schema}.subject_keys SET wrapped = %(wrapped)b, wrapped_by = %(wrapped_by)b
        WHERE subject = %(subject)b AND wrapped = %(before)b
        RETURNING subject
        """,
        reply=found,
    ),
    statement(
        ListKeys,
        """
        SELECT subject, created_at, wrapped_by, forgotten_at, reason FROM {schema}.subject_keys
        WHERE subject > %(after)b ORDER BY subject LIMIT %(limit)b
        """,
        reply=each(KeyRecord),
    ),
    statement(
        FindKeyRecord,
        """
        SELECT subject, created_at, wrapped_by, forgotten_at, reason FROM {schema}.subject_keys
        WHERE subject = %(subject)b
        """,
        reply=optional(KeyRecord),
    ),
    # The moment of the server's start tells servers apart, whatever names and addresses lead to them.
    statement(
        WhereKeysAre,
        """
        SELECT pg_catalog.concat(
            pg_catalog.current_database()::text, ' '::text, pg_catalog.pg_postmaster_start_time()::text
        )
        FROM pg_catalog.pg_class
        JOIN pg_catalog.pg_namespace ON relnamespace OPERATOR(pg_catalog.=) pg_namespace.oid
        WHERE nspname::text OPERATOR(pg_catalog.=) %(schema)b
            AND relname::text OPERATOR(pg_catalog.=) 'subject_keys'::text
            AND pg_catalog.has_schema_privilege(pg_namespace.oid, 'USAGE'::text)
            AND pg_catalog.has_table_privilege(pg_class.oid, 'INSERT'::text)
            AND pg_catalog.has_table_privilege(pg_class.oid, 'UPDATE'::text)
            AND pg_catalog.has_table_privilege(pg_class.oid, 'SELECT'::text)
        """,
        reply=lambda rows: rows[0][0] if rows else None,
    ),
)
