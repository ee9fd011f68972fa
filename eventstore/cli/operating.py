"""The arguments of the commands that operate a store for years: ``verify``, ``export``, ``import --exact``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from eventstore.cli import arguments
from eventstore.cli.actions import dsn

RunCommand: TypeAlias = Callable[[argparse.Namespace], int]
AddCommand: TypeAlias = Callable[[str, str, RunCommand], argparse.ArgumentParser]
"""Adds a command for a store, by its name, a line about it and the function that runs it."""


def add_commands(add: AddCommand) -> None:
    """Add the commands."""

    def verify(args: argparse.Namespace) -> int:
        from eventstore.cli import verifying  # noqa: PLC0415 when it runs

        options = verifying.Options(
            stream_id=args.stream,
            since_position=args.since_position,
            repositories=args.replay,
            rate=args.rate,
            prefix=args.prefix,
            as_json=args.json,
        )
        return verifying.verify(dsn(args), args.schema, options)

    def export(args: argparse.Namespace) -> int:
        from eventstore.cli import exporting  # noqa: PLC0415 when it runs

        filters = exporting.Filters(
            category=args.category,
            stream_id=args.stream,
            event_type=args.type,
            since=args.since,
            until=args.until,
            since_position=args.since_position,
            to_position=args.to_position,
        )
        return exporting.export(dsn(args), args.schema, args.file, filters, args.anonymize)

    _add_export(add("export", "write events into a file, with everything that is stored of them", export))
    _add_verify(add("verify", "check that a store is whole", verify))


def _add_export(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Write events into a file, a line of JSON for each, with everything that is stored of them. The file is "
        "compressed if its name ends with .gz or .zst. `eventstore import --exact` puts it into a store. An export "
        "that was interrupted is continued when you run it again."
    )
    command.add_argument("file", type=Path, metavar="FILE", help="such as events.jsonl.gz; must not exist")
    command.add_argument("--category", metavar="C", help="only streams of this category")
    command.add_argument("--stream", metavar="STREAM", help="only this stream")
    command.add_argument("--type", metavar="TYPE", help="only events of this type")
    for name, what in (("since", "that happened then or later"), ("until", "that happened before")):
        command.add_argument(
            f"--{name}", type=arguments.moment, metavar="TIME", help=f"only events {what}: 2024-01-31T12:00:00+01:00"
        )
    command.add_argument("--since-position", type=arguments.count, default=0, metavar="N", help="only events above N")
    command.add_argument("--to-position", type=arguments.count, metavar="N", help="only events up to N, included")
    command.add_argument(
        "--anonymize", metavar="MODULE:NAME", help="a function that is given each event and returns the one to write"
    )


def add_exact_import(command: argparse.ArgumentParser) -> None:
    """The arguments of ``import --exact``."""
    command.description = (
        "Put a file of `eventstore export` into a store as it was, with ids, versions and times. Positions keep their "
        "order, and in an empty store their numbers. You can interrupt it and run it again."
    )
    command.add_argument("file", type=Path, metavar="FILE", help="what `eventstore export` has written")
    command.add_argument("--exact", action="store_true", required=True, help=argparse.SUPPRESS)


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Check that a store is whole: versions without a gap, positions in order, event ids once, payloads that can be "
        "decoded, snapshots, checkpoints, parked events, and the schema as the migrations made it. Prints a line for "
        "each finding, and exits with 1 if there is one. It changes nothing, and also runs on a standby."
    )
    command.add_argument("--stream", metavar="STREAM", help="only this stream")
    command.add_argument(
        "--since-position",
        type=arguments.count,
        default=0,
        metavar="N",
        help="only events above N (default: %(default)s)",
    )
    command.add_argument(
        "--replay",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="compare the snapshots of this Repository with a replay; you can give it several times",
    )
    command.add_argument("--rate", type=arguments.positive, metavar="N", help="at most N events a second")
    command.add_argument(
        "--prefix", metavar="TEXT", help="the beginning of the roles' names (default: the schema's name)"
    )
    command.add_argument("--json", action="store_true", help="JSON lines, the last one with the counts")
