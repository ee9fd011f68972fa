"""What each command calls with its arguments. A module is imported when its command runs.

The demo's classes of events, for one, claim common names.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from eventstore.cli.telling import complain
from eventstore.errors import EventStoreError

USAGE = 2
"""The exit code for an invalid command."""


class NoDatabase(EventStoreError):
    """No database was named."""


def migrate(args: argparse.Namespace) -> int:
    from eventstore.cli import migrating  # noqa: PLC0415

    return migrating.run(
        dsn(args),
        args.schema,
        dry_run=args.dry_run,
        triggers=not args.without_triggers,
        partitions=args.partitions,
    )


def drop(args: argparse.Namespace) -> int:
    from eventstore.cli import migrating  # noqa: PLC0415

    return migrating.drop(dsn(args), args.schema, is_sure=args.yes)


def roles(args: argparse.Namespace) -> int:
    from eventstore.cli import migrating  # noqa: PLC0415

    return migrating.roles(dsn(args) if args.apply else None, args.schema, args.prefix)


def promote(args: argparse.Namespace) -> int:
    from eventstore.cli import migrating  # noqa: PLC0415

    return migrating.promotion(dsn(args), args.schema, apply=args.apply)


def read(args: argparse.Namespace) -> int:
    from eventstore.cli import reading  # noqa: PLC0415

    return reading.run(
        dsn(args),
        args.schema,
        args.stream,
        from_version=args.from_version,
        to_version=args.to_version,
        backwards=args.backwards,
        limit=args.limit,
        as_json=args.json,
    )


def import_rows(args: argparse.Namespace) -> int:
    if args.exact:
        from eventstore.cli import exact  # noqa: PLC0415

        return exact.import_exactly(dsn(args), args.schema, args.file)
    from eventstore.cli import importing, rows  # noqa: PLC0415

    columns = rows.Columns(args.stream, args.type, args.timestamp)
    if args.delimiter is not None and args.file.suffix.lower() != ".csv":
        complain(f"--delimiter is for .csv files, not for {args.file.name!r}")
        return USAGE
    source = rows.Source(args.file, args.category, columns, args.tz, args.delimiter or ",")
    return importing.run(dsn(args), args.schema, source, prepare=not args.no_prepare)


def status(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.status(
        dsn(args),
        args.schema,
        max_lag=args.max_lag,
        max_seconds=args.max_seconds,
        as_json=args.json,
        as_prometheus=args.prometheus,
        fail=args.fail,
    )


def parked(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.parked(dsn(args), args.schema, args.name, args.drop, as_json=args.json)


def remove(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.remove(dsn(args), args.schema, args.name, is_sure=args.yes)


def mark(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.mark(dsn(args), args.schema, args.every)


def streams(args: argparse.Namespace) -> int:
    from eventstore.cli import streams  # noqa: PLC0415

    prefix = f"{args.category}-" if args.category else args.prefix
    return streams.run(dsn(args), args.schema, prefix, after=args.after, limit=args.limit, as_json=args.json)


def which(args: argparse.Namespace) -> Any:
    from eventstore.cli import watching  # noqa: PLC0415

    return watching.Which(args.category, args.type, args.since, args.from_position)


def tail(args: argparse.Namespace) -> int:
    from eventstore.cli import watching  # noqa: PLC0415

    return watching.tail(dsn(args), args.schema, which(args), args.limit, follow=args.follow, as_json=args.json)


def find(args: argparse.Namespace) -> int:
    from eventstore.cli import watching  # noqa: PLC0415

    return watching.find(
        dsn(args),
        args.schema,
        which(args),
        args.limit,
        metadata=args.metadata,
        data=args.data,
        as_json=args.json,
    )


def trace(args: argparse.Namespace) -> int:
    from eventstore.cli import watching  # noqa: PLC0415

    return watching.trace(dsn(args), args.schema, args.id, as_json=args.json)


def ui(args: argparse.Namespace) -> int:
    from eventstore.cli import exploring  # noqa: PLC0415

    return exploring.run(dsn(args), args.schema, args.port, args.app, opens_browser=not args.no_browser)


def run_workers(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.run(args.workers)


def rebuild(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    archives = None if args.without_archives else args.archive
    return following.rebuild(args.projection, args.from_position, archives)


def retry(args: argparse.Namespace) -> int:
    from eventstore.cli import following  # noqa: PLC0415

    return following.retry(args.worker, args.positions)


def lock(args: argparse.Namespace) -> int:
    from eventstore.cli import events  # noqa: PLC0415

    return events.lock(args.file, args.modules, force=args.force)


def check(args: argparse.Namespace) -> int:
    from eventstore.cli import events  # noqa: PLC0415

    return events.check(args.file, args.modules)


def verify(args: argparse.Namespace) -> int:
    from eventstore.cli import events  # noqa: PLC0415

    return events.verify(
        dsn(args),
        args.schema,
        args.modules,
        args.from_position,
        allow_unknown=args.allow_unknown,
        as_json=args.json,
    )


def demo(args: argparse.Namespace) -> int:
    from eventstore.cli import demo  # noqa: PLC0415

    return demo.run(args.dsn, args.directory, args.events)


def server(args: argparse.Namespace) -> int:
    from eventstore.cli import serving  # noqa: PLC0415

    return serving.run(args.directory)


def dsn(args: argparse.Namespace) -> str:
    dsn: str | None = args.dsn or os.environ.get("EVENTSTORE_DSN")
    if not dsn:
        raise NoDatabase(
            "which database? Give --dsn postgresql://user@host/name, or set EVENTSTORE_DSN to that; "
            "`eventstore demo` and `eventstore server DIRECTORY` start their own"
        )
    return dsn
