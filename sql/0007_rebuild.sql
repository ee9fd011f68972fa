-- Rebuilding a read model beside the one in use. Its tables are copied, without their rows, into a shadow schema. Handlers find
-- the copies first, through search_path. At the end the rows of the copies replace the old ones.

CREATE FUNCTION {schema}.shadow_of(_name text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _shadow uuid := (SELECT shadow FROM {schema}.subscriptions WHERE name = _name AND partition = -1);
BEGIN
    IF _shadow IS NULL THEN
        RAISE 'no rebuild of % is under way: it was abandoned, or the subscription was removed', _name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN 'eventstore_rebuild_' || {event_positions}::regclass::oid::text || '_' || replace(_shadow::text, '-', '');
END
$eventstore$;

COMMENT ON FUNCTION {schema}.shadow_of IS
    'The schema that holds the tables of this subscription''s rebuild. Its name is drawn at random, so that no other role can '
    'have created a schema of that name before.';

CREATE FUNCTION {schema}.abandon_rebuild(_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    IF EXISTS (SELECT FROM {schema}.subscriptions WHERE name = _name AND partition = -1) THEN
        EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', {schema}.shadow_of(_name));
    END IF;
    DELETE FROM {schema}.subscriptions WHERE name = _name AND partition = -1;
    DELETE FROM {schema}.parked_events WHERE name = _name AND rebuild;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.abandon_rebuild IS 'Drops the copies and the checkpoint of a rebuild, finished or not.';

CREATE FUNCTION {schema}.remove_subscription(_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    PERFORM {schema}.abandon_rebuild(_name);
    DELETE FROM {schema}.parked_events WHERE name = _name;
    DELETE FROM {schema}.subscriptions WHERE name = _name;
    RETURN FOUND;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.remove_subscription IS
    'Deletes the checkpoints of a subscription, its parked events, and what a rebuild has left. Returns whether it existed.';

CREATE FUNCTION {schema}.copy_table(_table regclass, _shadow text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _copy text;
    _original record;
BEGIN
    SELECT format('%I.%I', _shadow, relname) INTO _copy FROM pg_class WHERE oid = _table;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', _copy, _table);
    -- LIKE gives keys new names, but ON CONFLICT ON CONSTRAINT needs the original ones. Temporary names come in between,
    -- because two keys might have each other's names.
    FOR _original IN
        WITH keys AS (
            SELECT conrelid, conname, row_number() OVER (
                PARTITION BY conrelid, pg_get_constraintdef(oid) ORDER BY conname
            ) AS number, pg_get_constraintdef(oid) AS definition
            FROM pg_constraint WHERE conrelid IN (_table, _copy::regclass) AND contype IN ('p', 'u', 'x')
        )
        SELECT step, copy.conname AS made, original.conname AS wanted, format('rebuild_%s', row_number() OVER (
            PARTITION BY step ORDER BY original.conname
        )) AS between
        FROM keys AS original JOIN keys AS copy USING (definition, number), generate_series(1, 2) AS step
        WHERE original.conrelid = _table AND copy.conrelid = _copy::regclass
        ORDER BY step
    LOOP
        IF _original.step = 1 THEN
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', _copy, _original.made, _original.between);
        ELSE
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', _copy, _original.between, _original.wanted);
        END IF;
    END LOOP;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.copy_table IS
    'Creates an empty copy of a table in a shadow schema, with its columns, defaults, indexes, and constraints by their names. '
    'Foreign keys are not copied: those of the original are checked when it gets the rows.';

CREATE FUNCTION {schema}.begin_rebuild(_name text, _tables text[], _position bigint) RETURNS text[]
LANGUAGE plpgsql AS $eventstore$
DECLARE
    -- Where the caller's search_path finds them. The function called next does not rely on it.
    _found regclass[] := _tables::regclass[];
BEGIN
    RETURN {schema}.begin_rebuild_of(_name, _found, _position);
END
$eventstore$;

CREATE FUNCTION {schema}.begin_rebuild_of(_name text, _tables regclass[], _position bigint) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _names text[] := {schema}.names_of(_tables);
    _reason text;
    _table regclass;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('subscription ' || _name, {event_positions}::regclass::oid::bigint));
    -- Whoever archives events then sees this rebuild, or it sees what was archived.
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('eventstore.archive', {event_positions}::regclass::oid::bigint));
    IF EXISTS (
        SELECT FROM {schema}.subscriptions WHERE name = _name AND partition = -1 AND seen_at > now() - interval '15 seconds'
    ) THEN
        RETURN NULL;
    END IF;
    SELECT format('%s is not a table', oid::regclass) INTO _reason
    FROM pg_class WHERE oid = ANY (_tables::oid[]) AND relkind NOT IN ('r', 'p') LIMIT 1;
    IF _reason IS NULL THEN
        SELECT format('%s stands in tables twice', name) INTO _reason
        FROM unnest(_names) AS name GROUP BY name HAVING count(*) > 1 LIMIT 1;
    END IF;
    IF _reason IS NULL THEN
        SELECT format('%s belongs to the read model of %L as well', shared, name) INTO _reason
        FROM {schema}.subscriptions, unnest(tables) AS shared
        WHERE name <> _name AND shared = ANY (_names) ORDER BY name LIMIT 1;
    END IF;
    IF _reason IS NULL THEN
        SELECT format(
            'table %s refers to %s by the foreign key %I, and its rows would be lost or stop the swap: name it in tables too, '
            'or drop the foreign key', conrelid::regclass, confrelid::regclass, conname
        ) INTO _reason
        FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY (_tables::oid[]) AND conrelid <> ALL (_tables::oid[])
        ORDER BY conname LIMIT 1;
    END IF;
    IF _reason IS NOT NULL THEN
        RAISE '%', _reason USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM {schema}.abandon_rebuild(_name);
    INSERT INTO {schema}.subscriptions (name, partition, partitions, position, seen_at, tables, shadow)
    VALUES (_name, -1, 1, _position, now(), _names, gen_random_uuid());
    EXECUTE format('CREATE SCHEMA %I', {schema}.shadow_of(_name));
    FOREACH _table IN ARRAY _tables LOOP
        PERFORM {schema}.copy_table(_table, {schema}.shadow_of(_name));
    END LOOP;
    RETURN _names;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.begin_rebuild IS
    'Creates empty copies of the tables, with their defaults, constraints and indexes, and the checkpoint of the rebuild. '
    'Returns the full names of the tables, or NULL if another rebuild of this subscription is running. Raises 55000 for '
    'tables that could not be swapped at the end.';
COMMENT ON FUNCTION {schema}.begin_rebuild_of IS 'The part of begin_rebuild that knows which tables they are.';

CREATE FUNCTION {schema}.written_elsewhere(_name text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    RETURN ARRAY(
        SELECT format('%I.%I %s', schemaname, relname, n_tup_ins + n_tup_upd + n_tup_del)
        FROM pg_stat_xact_user_tables
        WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname <> {schema}.shadow_of(_name)
            AND NOT (
                relname IN ('subscriptions', 'parked_events')
                AND schemaname = (
                    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                    WHERE pg_class.oid = {event_positions}::regclass
                )
            )
        ORDER BY 1
    );
END
$eventstore$;

COMMENT ON FUNCTION {schema}.written_elsewhere IS
    'The tables outside of a rebuild''s copies that this session has written lately, each with the number of rows. The result '
    'does not change while a rebuild handles events, unless a handler writes to a table that `tables` does not name, or that '
    'the handler names with its schema.';

CREATE FUNCTION {schema}.emptied_by_rebuild(_name text, _tables text[]) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _emptied text[] := ARRAY[]::text[];
    _table regclass;
    _lost boolean;
BEGIN
    FOREACH _table IN ARRAY _tables::regclass[] LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM %s) AND NOT EXISTS (SELECT FROM %I.%I)', _table, {schema}.shadow_of(_name),
            (SELECT relname FROM pg_class WHERE oid = _table)
        ) INTO _lost;
        IF _lost THEN
            _emptied := _emptied || {schema}.names_of(ARRAY[_table]);
        END IF;
    END LOOP;
    RETURN _emptied;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.emptied_by_rebuild IS
    'The tables that have rows and would have none after the swap. A handler leaves them so if it only changes rows that '
    'something else has put there.';

CREATE FUNCTION {schema}.finish_rebuild(_name text, _tables text[], _position bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
DECLARE
    _table record;
    _deletes text := '';
    _inserts text := '';
    _column text;
BEGIN
    FOR _table IN
        SELECT number, pg_class.oid::regclass AS name, relname, (
            SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
            WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ) AS columns
        FROM unnest(_tables::regclass[]) WITH ORDINALITY AS each (oid, number) JOIN pg_class ON pg_class.oid = each.oid::oid
    LOOP
        -- Not TRUNCATE: readers with an older snapshot would find the table empty.
        _deletes := _deletes || format(', deleted_%s AS (DELETE FROM %s)', _table.number, _table.name);
        _inserts := _inserts || format(
            ', inserted_%s AS (INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %I.%I)', _table.number, _table.name,
            _table.columns, _table.columns, {schema}.shadow_of(_name), _table.relname);
    END LOOP;
    -- One statement for all tables, because foreign keys between them are checked, and cascade, at its end.
    EXECUTE 'WITH nothing AS (SELECT)' || _deletes || ' SELECT';
    EXECUTE 'WITH nothing AS (SELECT)' || _inserts || ' SELECT';
    FOR _table IN SELECT pg_class.oid::regclass AS name, pg_class.oid FROM pg_class WHERE pg_class.oid = ANY (_tables::regclass[]) LOOP
        FOR _column IN SELECT attname FROM pg_attribute WHERE attrelid = _table.oid AND attidentity <> '' LOOP
            EXECUTE format(
                'SELECT setval(pg_get_serial_sequence(%L, %L), greatest(max(%I), nextval(pg_get_serial_sequence(%L, %L)))) FROM %s',
                _table.name, _column, _column, _table.name, _column, _table.name);
        END LOOP;
    END LOOP;
    DELETE FROM {schema}.parked_events WHERE name = _name AND NOT rebuild AND dropped_at IS NULL AND position <= _position;
    UPDATE {schema}.parked_events SET rebuild = false WHERE name = _name AND rebuild;
    PERFORM {schema}.abandon_rebuild(_name);
    UPDATE {schema}.subscriptions
    SET position = _position, moved_at = now(), failed = false, error = NULL, error_position = NULL
    WHERE name = _name;
END
$eventstore$;

COMMENT ON FUNCTION {schema}.finish_rebuild IS
    'Replaces the rows of the tables by those of the copies, drops the copies, and moves the checkpoint. Call it with the rows '
    'of the subscription locked, in the transaction in which the copies have reached _position.';
