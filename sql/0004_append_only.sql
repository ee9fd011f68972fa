-- Protects the log even from its owner. migrate(..., triggers=False) leaves this out, for engines without triggers.

CREATE FUNCTION {schema}.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $eventstore$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('eventstore.archiving_' || {event_positions}::regclass::oid::text, true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE 'events are append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Append an event that corrects the earlier one.';
END
$eventstore$;

COMMENT ON FUNCTION {schema}.refuse_change IS
    'Refuses every UPDATE, DELETE and TRUNCATE of events, except for what archive_streams deletes after it is in an archive.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.events
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();

COMMENT ON TRIGGER append_only ON {schema}.events IS
    'Disable it only by hand, and only for a reason such as a law: ALTER TABLE ... DISABLE TRIGGER append_only.';

DO $eventstore$
DECLARE
    _partition regclass;
BEGIN
    -- A statement that names a partition does not fire the trigger of the whole table.
    FOR _partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = {events}::regclass ORDER BY inhrelid LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT '
            'EXECUTE FUNCTION %s.refuse_change()',
            _partition, (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = _partition));
        EXECUTE format('COMMENT ON TRIGGER append_only ON %s IS %L', _partition, 'As that of the table events.');
    END LOOP;
END
$eventstore$;
