"""Whether the objects of a schema, and the grants of its roles, are as this release would make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

from psycopg import Connection, Cursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier, Literal

from eventstore.core.checking import Finding
from eventstore.postgres.migrations import carried_out, migrate, missing_steps, partitions_of, statements_in
from eventstore.postgres.roles import roles_of, roles_sql


class _Described(NamedTuple):
    objects: dict[str, str]
    grants: set[tuple[str, str, str]]
    """Object, role, privilege."""


_OBJECTS = """
    WITH home AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
    SELECT 'column ' || relname || '.' || attname, concat_ws(
            ' ', format_type(atttypid, atttypmod), nullif(attcollation, 0)::regcollation::text,
            CASE WHEN attnotnull THEN 'NOT NULL' END, pg_get_expr(adbin, adrelid), nullif(attidentity, ''))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = (SELECT oid FROM home) AND relkind IN ('r', 'p', 'c') AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'constraint ' || conname || ' of ' || relname, pg_get_constraintdef(pg_constraint.oid, true)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE connamespace = (SELECT oid FROM home) AND contype <> 'n'
    UNION ALL
    SELECT 'index ' || relname, pg_get_indexdef(indexrelid, 0, true)
        || CASE WHEN indisvalid THEN '' ELSE ', which is invalid' END
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = (SELECT oid FROM home)
    UNION ALL
    SELECT 'trigger ' || tgname || ' of ' || relname, concat_ws(' ', tgenabled, tgtype, tgfoid::regproc)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = (SELECT oid FROM home) AND NOT tgisinternal
    UNION ALL
    SELECT 'function ' || proname || '(' || pg_get_function_arguments(pg_proc.oid) || ')', concat_ws(
            ' ', pg_get_function_result(pg_proc.oid), lanname, prosecdef, provolatile, proparallel, proconfig,
            coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc))
    FROM pg_proc JOIN pg_language ON pg_language.oid = prolang WHERE pronamespace = (SELECT oid FROM home)
    UNION ALL
    SELECT 'view ' || relname, pg_get_viewdef(oid, true)
    FROM pg_class WHERE relnamespace = (SELECT oid FROM home) AND relkind = 'v'
    UNION ALL
    SELECT 'sequence ' || relname, concat_ws(' ', seqtypid::regtype, seqincrement, seqmax, seqcache, seqcycle)
    FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid WHERE relnamespace = (SELECT oid FROM home)
    """
_GRANTS = """
    WITH home AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)
    SELECT name, coalesce(rolname, 'PUBLIC'), privilege_type
    FROM (
        SELECT 'schema' AS name, coalesce(nspacl, acldefault('n', nspowner)) AS acl, nspowner AS owner
        FROM pg_namespace WHERE oid = (SELECT oid FROM home)
        UNION ALL
        SELECT relname::text, coalesce(relacl, acldefault('r', relowner)), relowner
        FROM pg_class WHERE relnamespace = (SELECT oid FROM home) AND relkind IN ('r', 'p', 'v', 'S')
        UNION ALL
        SELECT proname::text, coalesce(proacl, acldefault('f', proowner)), proowner
        FROM pg_proc WHERE pronamespace = (SELECT oid FROM home)
    ) AS objects, aclexplode(acl) LEFT JOIN pg_roles ON pg_roles.oid = grantee
    WHERE grantee <> owner
    """
"""Those of the owner are left out. By default only functions and types have others, to PUBLIC."""


def compare_objects(connection: Connection[Any], schema: str, prefix: str) -> Iterator[Finding]:
    """Compare the schema with one that is made for that, in a transaction that is rolled back.

    Raises psycopg.Error, and what ``migrate`` raises.
    """
    with Cursor(connection, row_factory=tuple_row) as cursor, connection.transaction(force_rollback=True):
        cursor.execute("SET LOCAL client_min_messages = error")
        cursor.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        cursor.execute(SQL("SELECT name FROM {}.migrations").format(Identifier(schema)))
        triggers = ("append_only",) in cursor.fetchall()
        for name, _ in carried_out(cursor, missing_steps(schema, triggers=triggers)):
            if name:
                yield Finding("schema", repr(schema), f"migration {name} was not applied: run `eventstore migrate`")
        partitions = carried_out(cursor, partitions_of(schema)) or None
        roles = roles_of(prefix)
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (roles.owner,))
        has_roles = cursor.fetchone() is not None
        found = _described(cursor, schema, prefix)
        model = f"eventstore_verify_{uuid4().hex[:12]}"
        migrate(connection, model, triggers=triggers, partitions=partitions)
        if has_roles:
            for statement in statements_in(roles_sql(model)):
                cursor.execute(statement.encode())
        expected = _described(cursor, model, model)
    yield from _differences(found, expected, prefix)


def _described(cursor: Cursor[Any], schema: str, prefix: str) -> _Described:
    quoted = Identifier(schema).as_string(None)
    in_a_text = Literal(quoted).as_string(None).strip(" E'")  # As in the name of the sequence.
    path = SQL("SET LOCAL search_path = pg_catalog, {}, pg_temp").format(Identifier(schema))
    cursor.execute(path)  # What is in the schema is then described without its name; functions have it in their texts.
    cursor.execute(_OBJECTS.encode(), {"schema": schema})
    objects = {name: text.replace(in_a_text, "schema").replace(quoted, "schema") for name, text in cursor.fetchall()}
    cursor.execute(_GRANTS.encode(), {"schema": schema})
    grants: set[tuple[str, str, str]] = set()
    known = {name: role for role, name in roles_of(prefix)._asdict().items()} | {"PUBLIC": "PUBLIC"}
    for name, role, privilege in cursor.fetchall():
        if role in known:
            grants.add((name, known[role], privilege))
    cursor.execute("SET LOCAL search_path = pg_catalog, pg_temp")
    return _Described(objects, grants)


def _differences(found: _Described, expected: _Described, prefix: str) -> Iterator[Finding]:
    for name in sorted(found.objects.keys() | expected.objects.keys()):
        there, model = found.objects.get(name), expected.objects.get(name)
        if there is None:
            yield Finding("schema", name, "it is missing: it was dropped or renamed after the migrations")
        elif model is None:
            if name.startswith(("constraint ", "trigger ")):  # Others do not change what the store does.
                yield Finding("schema", name, "no migration has made it")
        elif there != model:
            differs = "it was changed after the migrations"
            yield Finding("schema", name, differs if "\n" in model else f"{differs}, to {there!r} from {model!r}")
    for missing in sorted(expected.grants - found.grants):
        yield Finding("grants", _named(missing, prefix), "it is missing: run `eventstore roles --apply`")
    for extra in sorted(found.grants - expected.grants):
        yield Finding("grants", _named(extra, prefix), "it is more than the role needs: revoke it")


def _named(grant: tuple[str, str, str], prefix: str) -> str:
    name, role, privilege = grant
    return f"{privilege} on {name} to {role if role == 'PUBLIC' else f'{prefix}_{role}'}"
