"""One command for the stores of several schemas: ``eventstore migrate --schema 'tenant_*'``."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase

import psycopg

from eventstore.cli.telling import complain
from eventstore.codec.showing import cleaned
from eventstore.errors import EventStoreError, InvalidArgument
from eventstore.postgres.failures import translated
from eventstore.postgres.migrations import connected
from eventstore.postgres.statements import check_schema

_ABLE = ("migrate", "status", "verify")
_SCHEMAS = """
    SELECT nspname FROM pg_catalog.pg_namespace JOIN pg_catalog.pg_class ON relnamespace = pg_namespace.oid
    WHERE relname = 'migrations' ORDER BY nspname
    """


def run_for_each(args: argparse.Namespace, dsn: str) -> int:
    """Run a command for each schema that the pattern fits, and return the highest exit code. None stops the others."""
    if args.command not in _ABLE:
        raise InvalidArgument(f"`eventstore {args.command}` is for one schema, not for {args.schema!r}")
    pattern = check_schema(args.schema)
    with connected(dsn) as connection:
        try:
            rows = connection.execute(_SCHEMAS.encode()).fetchall()
        except psycopg.Error as error:
            raise translated(error, broken=connection.broken, schema=pattern) from error
    schemas = [str(name) for (name,) in rows if fnmatchcase(name, pattern)]
    if not schemas:
        raise InvalidArgument(f"there is no store in a schema like {pattern!r}")
    codes: list[int] = []
    for schema in schemas:
        if not getattr(args, "json", False):
            print(cleaned(f"== {schema}"), flush=True)
        args.schema = schema
        try:
            codes.append(args.run(args))
        except EventStoreError as error:
            complain(f"schema {schema!r}: {error}")
            codes.append(1)
    failed = sum(code != 0 for code in codes)
    if failed:
        complain(f"{failed} of {len(schemas)} schemas: see above")
    return max(codes)
