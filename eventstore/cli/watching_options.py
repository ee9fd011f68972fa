"""The arguments of ``eventstore tail``, ``find`` and ``trace``."""

from __future__ import annotations

import argparse

from eventstore.cli import arguments


def add_tail(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print the newest events of all streams in the order of their positions, one on each line: position, time, "
        "stream and version, type, data. With --json, print one JSON object on each line, with everything and nothing "
        "lost: the documentation's page on the format describes it."
    )
    command.add_argument(
        "--follow", "-f", action="store_true", help="print events as they come, until Ctrl-C or SIGTERM"
    )
    _add_which(command, "at most N events, the newest (default: 20, unless it is said where to begin)")


def add_find(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print the events that have all of these values, in the order of their positions. It reads the log, from where "
        "--since or --from-position say, and otherwise the last 1,000,000 positions. The columns are those of `tail`."
    )
    for name in ("metadata", "data"):
        command.add_argument(
            f"--{name}",
            type=arguments.setting,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"only events whose {name} have this value; a.b=c looks into maps; may be repeated",
        )
    _add_which(command, "at most N events")


def add_trace(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print the events that belong together with one event, or that have a correlation id, each below its cause: "
        "time, type, stream and version, id. The event itself is marked with *."
    )
    command.add_argument("id", metavar="ID", help="the id of an event, or a correlation id")
    command.add_argument("--json", action="store_true", help="JSON lines")


def _add_which(command: argparse.ArgumentParser, limit: str) -> None:
    command.add_argument("--category", action="append", metavar="C", help="only streams of this category; repeatable")
    command.add_argument("--type", action="append", metavar="T", help="only events of this type; repeatable")
    command.add_argument(
        "--since",
        type=arguments.moment,
        metavar="WHEN",
        help="only events from this time on: 30s, 10m, 2h, 3d or 1w ago, or a time in ISO 8601. The place in the log "
        "is found by halving, which supposes that times rise with positions",
    )
    command.add_argument("--from-position", type=arguments.count, metavar="N", help="only events above N")
    command.add_argument("--limit", type=arguments.count, metavar="N", help=limit)
    command.add_argument("--json", action="store_true", help="JSON lines")


def add_ui(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Serve pages to look through the store (events, streams, traces, subscriptions) to browsers on this machine, "
        "and open one. Nothing can be changed there. MODULE is imported from the installed packages, or else from the "
        "working directory, so whoever can write there decides what is run."
    )
    command.add_argument(
        "--app",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="a Repository or an Aggregate, such as shop:orders, whose state is shown at each version; repeatable",
    )
    command.add_argument("--port", type=arguments.count, default=0, metavar="N", help="the port (default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="don't open a browser")
