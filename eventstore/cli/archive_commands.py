"""The arguments of the commands that move events into archives and back: ``archive``, ``restore``, ``truncate``."""

from __future__ import annotations

import argparse

from eventstore.cli import arguments
from eventstore.cli.actions import dsn
from eventstore.cli.operating import AddCommand

_PLACE = "an empty directory, or an address in object storage: s3://bucket/path"


def add_commands(add: AddCommand) -> None:
    """Add the commands."""

    def archive(args: argparse.Namespace) -> int:
        from eventstore.cli import archiving  # noqa: PLC0415 when it runs

        return archiving.archive(dsn(args), args.schema, args.category, args.retired_for, args.to)

    def restore(args: argparse.Namespace) -> int:
        from eventstore.cli import restoring  # noqa: PLC0415 when it runs

        return restoring.restore(dsn(args), args.schema, args.archive, args.stream)

    def truncate(args: argparse.Namespace) -> int:
        from eventstore.cli import archiving  # noqa: PLC0415 when it runs

        return archiving.truncate(dsn(args), args.schema, args.stream, args.before, args.archived)

    _add_archive(add("archive", "move the events of retired streams into an archive", archive))
    _add_restore(add("restore", "put the events of an archive back", restore))
    _add_truncate(add("truncate", "move the events of a stream before its closing event into an archive", truncate))


def _add_archive(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Move the events of retired streams into an archive, but for their tombstones: write them, read them back, and "
        "delete those that the store still has to the byte. Refused while a checkpoint is below one of the events. "
        "Whatever ends it, run it again with the same arguments."
    )
    command.add_argument("--category", required=True, metavar="C", help="only streams of this category")
    command.add_argument(
        "--retired-for",
        required=True,
        type=arguments.age,
        metavar="AGE",
        help="only streams that were retired so long ago: 90d, 12h",
    )
    command.add_argument("--to", required=True, metavar="PLACE", help=_PLACE)


def _add_restore(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Put the events of an archive back into the store that they were archived from, with the same ids, versions "
        "and positions: all of them or none. The archive stays as it is."
    )
    command.add_argument("archive", metavar="PLACE", help="where the archive is")
    command.add_argument("--stream", metavar="STREAM", help="only this stream")


def _add_truncate(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Move the events of a stream below a version into an archive, as `eventstore archive` does. That version must "
        "be a closing event, at which loads begin. Versions stay as they are."
    )
    command.add_argument("stream", metavar="STREAM", help="the stream's id, such as Account-7")
    command.add_argument(
        "--before", required=True, type=arguments.positive, metavar="N", help="the version of a closing event"
    )
    command.add_argument("--archived", required=True, metavar="PLACE", help=_PLACE)
