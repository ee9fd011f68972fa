"""The arguments of the commands that operate a store for years: ``verify``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from eventstore.cli import arguments

AddCommand: TypeAlias = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]
"""Adds a command for a store, by its name, a line about it and the function that runs it."""


def add_commands(add: AddCommand, dsn: Callable[[argparse.Namespace], str]) -> None:
    """Add the commands. ``dsn`` is the database that arguments name."""

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

    _add_verify(add("verify", "check that a store is whole", verify))


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
