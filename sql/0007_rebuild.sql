-- Rebuilding a read model beside the one that is in use. The tables that it is made of are copied, empty, into a shadow
-- schema; handlers find those first, through search_path; in the end their rows take the place of the old ones.

CREATE FUNCTION {schema}.shadow_of(_name text) RETURNS text
LANGUAGE sql STABLE
RETURN 'eventstore_rebuild_' || (SELECT tableoid FROM {schema}.event_positions) || '_' || to_hex(hashtextextended(_name, 0));

COMMENT ON FUNCTION {schema}.shadow_of IS 'The schema in which a rebuild of this subscription has its tables.';

CREATE FUNCTION {schema}.abandon_rebuild(_name text) RETURNS void
LANGUAGE plpgsql AS $eventstore$
BEGIN
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', {schema}.shadow_of(_name));
    DELETE FROM {schema}.subscriptions WHERE name = _name AND partition = -1;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.abandon_rebuild IS 'Drops the copies and the checkpoint of a rebuild, finished or not.';

CREATE FUNCTION {schema}.begin_rebuild(_name text, _tables text[], _position bigint) RETURNS text[]
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _shadow text := {schema}.shadow_of(_name);
    _found text[] := ARRAY[]::text[];
    _table regclass;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('subscription ' || _name, tableoid::bigint)) FROM {schema}.event_positions;
    IF EXISTS (
        SELECT FROM {schema}.subscriptions WHERE name = _name AND partition = -1 AND seen_at > now() - interval '15 seconds'
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM {schema}.abandon_rebuild(_name);
    EXECUTE format('CREATE SCHEMA %I', _shadow);
    FOREACH _table IN ARRAY _tables::regclass[] LOOP
        EXECUTE (
            SELECT format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL)', _shadow, relname, _table)
            FROM pg_class WHERE oid = _table
        );
        _found := _found || (
            SELECT format('%I.%I', nspname, relname)
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = _table
        );
    END LOOP;
    INSERT INTO {schema}.subscriptions (name, partition, partitions, position, seen_at)
    VALUES (_name, -1, 1, _position, clock_timestamp());
    RETURN _found;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.begin_rebuild IS
    'Makes empty copies of the tables, with their defaults, constraints and indexes, and the checkpoint of the rebuild. Returns '
    'their full names; NULL where another rebuild of this subscription is going on.';

CREATE FUNCTION {schema}.written_rows(_tables text[]) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN (
    SELECT coalesce(sum(
        pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid)
    ), 0) FROM unnest(_tables::regclass[]) AS oid
);

COMMENT ON FUNCTION {schema}.written_rows IS
    'How many rows of these tables this session has written lately; does not change while a rebuild handles events, unless a '
    'handler names a table with its schema.';

CREATE FUNCTION {schema}.finish_rebuild(_name text, _tables text[], _position bigint) RETURNS void
LANGUAGE plpgsql AS $eventstore$
DECLARE
    _shadow text := {schema}.shadow_of(_name);
    _table regclass;
    _relname text;
    _columns text;
    _column text;
BEGIN
    FOREACH _table IN ARRAY _tables::regclass[] LOOP
        SELECT relname INTO _relname FROM pg_class WHERE oid = _table;
        SELECT string_agg(quote_ident(attname), ', ') INTO _columns FROM pg_attribute
        WHERE attrelid = _table AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        -- Not TRUNCATE: readers with an older snapshot would find the table empty.
        EXECUTE format('DELETE FROM %s', _table);
        EXECUTE format(
            'INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %I.%I', _table, _columns, _columns, _shadow, _relname);
        FOR _column IN SELECT attname FROM pg_attribute WHERE attrelid = _table AND attidentity <> '' LOOP
            EXECUTE format(
                'SELECT setval(pg_get_serial_sequence(%L, %L), greatest(max(%I), nextval(pg_get_serial_sequence(%L, %L)))) FROM %s',
                _table, _column, _column, _table, _column, _table);
        END LOOP;
    END LOOP;
    PERFORM {schema}.abandon_rebuild(_name);
    DELETE FROM {schema}.parked_events WHERE name = _name AND position <= _position;
    UPDATE {schema}.subscriptions
    SET position = _position, moved_at = clock_timestamp(), failed = false, error = NULL, error_position = NULL
    WHERE name = _name;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.finish_rebuild IS
    'Puts the rows of the copies in place of those of the tables, drops the copies, and moves the checkpoint there. To be '
    'called with the rows of the subscription locked, in the transaction in which the copies have come to _position.';
