-- The roles of a store, and what each may do. Not a migration: `eventstore roles` prints it, and `eventstore roles --apply`
-- runs it. Run it again after each migration. The roles can't log in: make a login a member with GRANT role TO login.
SET search_path = pg_catalog, pg_temp;

DO $eventstore$
DECLARE
    _role text;
    _command text;
BEGIN
    FOREACH _role IN ARRAY {names}::text[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = _role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', _role);
        END IF;
    END LOOP;
    -- The owner gets what belongs to the role that migrated: functions that run with their owner's rights need no more.
    FOR _command IN
        WITH migrated AS (
            SELECT relnamespace AS home, relowner AS before FROM pg_class WHERE oid = {events}::regclass
        )
        SELECT format('ALTER %s %s OWNER TO %I', kind, name, {owner_name}::text) FROM (
            SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS name, oid AS home, nspowner AS owner FROM pg_namespace
            UNION ALL
            SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass::text, relnamespace, relowner
            FROM pg_class WHERE relkind IN ('r', 'p', 'v')
            UNION ALL
            SELECT 'FUNCTION', oid::regprocedure::text, pronamespace, proowner FROM pg_proc WHERE prokind = 'f'
            UNION ALL
            SELECT 'TYPE', pg_type.oid::regtype::text, typnamespace, typowner
            FROM pg_type JOIN pg_class ON pg_class.oid = typrelid WHERE relkind = 'c'
        ) AS objects, migrated
        WHERE objects.home = migrated.home AND owner = before AND before <> (SELECT oid FROM pg_roles WHERE rolname = {owner_name})
    LOOP
        EXECUTE _command;
    END LOOP;
END
$eventstore$;

GRANT USAGE ON SCHEMA {schema} TO {reader}, {writer}, {follower}, {operator};
GRANT SELECT ON {schema}.events, {schema}.archived_streams, {schema}.log_mark, {schema}.snapshots,
    {schema}.subscription_status, {schema}.subject_streams
    TO {reader}, {writer}, {follower}, {operator};
GRANT EXECUTE ON FUNCTION {schema}.append, {schema}.append_in_transaction, {schema}.append_many, {schema}.append_personal,
    {schema}.append_personal_in_transaction TO {writer};
GRANT EXECUTE ON FUNCTION {schema}.mark_log TO {follower};
GRANT INSERT, UPDATE, DELETE ON {schema}.snapshots TO {writer};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.subscriptions, {schema}.parked_events TO {follower}, {operator};
GRANT DELETE ON {schema}.snapshots TO {operator};
GRANT SELECT ON {schema}.migrations TO {operator};
GRANT EXECUTE ON FUNCTION {schema}.archive_streams, {schema}.restore_streams TO {operator};
GRANT SELECT, INSERT, DELETE ON {schema}.restored_events TO {operator};
