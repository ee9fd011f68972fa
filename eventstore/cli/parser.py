"""Which commands there are, and the arguments of each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from eventstore import __version__
from eventstore.cli import actions, archive_commands, arguments, operating, subject_commands, watching_options
from eventstore.codec.showing import cleaned
from eventstore.postgres.dsn import without_passwords

DATABASE_COMMANDS = frozenset(
    {
        "archive",
        "drop",
        "export",
        "find",
        "import",
        "mark",
        "migrate",
        "parked",
        "promote",
        "read",
        "remove",
        "restore",
        "roles",
        "status",
        "streams",
        "tail",
        "trace",
        "truncate",
        "ui",
        "verify",
    }
)
"""Those with ``--dsn`` and ``--schema``."""


class _Parser(argparse.ArgumentParser):
    """One whose errors repeat no password, wherever on the line a DSN was put."""

    def error(self, message: str) -> NoReturn:
        super().error(cleaned(without_passwords(message)))


def parser_for(*, exact: bool) -> _Parser:
    """The parser of all commands. ``exact``: ``import`` has the arguments that it has with ``--exact``."""
    parser = _Parser(
        prog="eventstore",
        description="Event sourcing on PostgreSQL. New here? `eventstore demo` shows it, on a server of its own.",
    )
    parser.add_argument("--version", action="version", version=f"eventstore {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    server = _Parser(add_help=False)
    server.add_argument(
        "--dsn",
        help="the database, as postgresql://user@host/name (default: the environment's EVENTSTORE_DSN). Other users of "
        "this machine can see it: put a password into EVENTSTORE_DSN or a file (~/.pgpass, PGPASSFILE) instead",
    )
    database = _Parser(add_help=False, parents=[server])
    database.add_argument(
        "--schema",
        default="eventstore",
        help="the schema of the store (default: %(default)s); migrate, status and verify also take several: 'tenant_*'",
    )

    demo = _command(commands, "demo", "see an event store at work, with figures measured here", actions.demo)
    _add_demo(demo)
    development = _command(commands, "server", "run a PostgreSQL for development, until Ctrl-C", actions.server)
    development.add_argument(
        "directory", type=Path, metavar="DIRECTORY", help="where its data is kept; created if missing"
    )
    migrate = _command(commands, "migrate", "create the schema, or bring it up to date", actions.migrate, database)
    migrate.add_argument("--dry-run", action="store_true", help="only print the SQL that would be run")
    migrate.add_argument(
        "--without-triggers", action="store_true", help="leave out the append-only guard, for engines without triggers"
    )
    migrate.add_argument(
        "--partitions",
        type=arguments.positive,
        metavar="N",
        help="divide the events of a new store into so many tables, by stream (default: one table)",
    )
    drop = _command(commands, "drop", "drop the schema of a store with all its events", actions.drop, server)
    drop.description = (
        "Drop the schema of a store, such as that of a tenant, with all its events and everything else in it, for "
        "ever. You have to name the schema, and to type its name again."
    )
    drop.add_argument("--schema", required=True, help="the schema of the store")
    drop.add_argument("--yes", action="store_true", help="don't ask for the name again")
    roles = _command(
        commands, "roles", "print the roles of a store with the GRANTs that each needs", actions.roles, database
    )
    roles.description = (
        "Print the SQL that creates the roles of a store (owner, writer, reader, follower, operator) and grants each "
        "what it needs and no more. The owner gets the schema and everything in it."
    )
    roles.add_argument("--apply", action="store_true", help="run the SQL on the database instead")
    roles.add_argument(
        "--prefix", metavar="TEXT", help="the beginning of the roles' names (default: the schema's name)"
    )
    promote = _command(
        commands, "promote", "let a logical replica take over: set the sequence of positions", actions.promote, database
    )
    promote.description = (
        "Show how the sequence of positions would be set for a logical replica of a store that is to take over, as "
        "logical replication copies events without it. End the replication first."
    )
    promote.add_argument("--apply", action="store_true", help="set it")
    _add_read(_command(commands, "read", "print the events of one stream", actions.read, database))
    _add_streams(
        _command(commands, "streams", "list the streams, in the order of their ids", actions.streams, database)
    )
    watching_options.add_ui(
        _command(commands, "ui", "look through the store in a browser, until Ctrl-C", actions.ui, database)
    )
    watching_options.add_tail(
        _command(commands, "tail", "print the newest events, and those that come", actions.tail, database)
    )
    watching_options.add_find(
        _command(
            commands, "find", "print the events with certain values in their metadata or data", actions.find, database
        )
    )
    watching_options.add_trace(
        _command(commands, "trace", "print what caused what, as a tree", actions.trace, database)
    )
    imported = _command(
        commands, "import", "append the rows of a CSV or JSON Lines file as events", actions.import_rows, database
    )
    (operating.add_exact_import if exact else _add_import)(imported)

    def add(name: str, what: str, run: operating.RunCommand) -> argparse.ArgumentParser:
        return _command(commands, name, what, run, database)

    operating.add_commands(add)
    archive_commands.add_commands(add)
    _add_events(commands, database)
    _add_following(commands, database)
    subject_commands.add(commands, database)
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    what: str,
    run: object,
    *parents: _Parser,
) -> _Parser:
    command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", parents=parents)
    command.set_defaults(run=run)
    return command


def _add_demo(command: argparse.ArgumentParser) -> None:
    place = command.add_mutually_exclusive_group()
    place.add_argument(
        "--dsn", help="a database to use, in a schema that is created for the demo and dropped at its end"
    )
    place.add_argument("--directory", type=Path, metavar="DIR", help="keep the server's data here, for another time")
    command.add_argument(
        "--events",
        type=arguments.positive,
        default=10_000,
        metavar="N",
        help="how many events the threads append (default: %(default)s)",
    )


def _add_read(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print the events of one stream, one on each line: version, timestamp, type, data. With --json, print one JSON "
        "object on each line, with everything and nothing lost: what JSON lacks is an object with one key that says "
        'what it is, such as {"$uuid": "..."}. The documentation\'s page on the format describes it.'
    )
    command.add_argument("stream", metavar="STREAM", help="the stream's id, such as Order-1a2b")
    command.add_argument(
        "--from-version",
        type=arguments.count,
        default=0,
        metavar="N",
        help="only versions above N (default: %(default)s)",
    )
    command.add_argument("--to-version", type=arguments.count, metavar="N", help="only versions up to N, included")
    command.add_argument("--backwards", action="store_true", help="the newest first")
    command.add_argument("--limit", type=arguments.count, metavar="N", help="at most N events")
    command.add_argument("--json", action="store_true", help="JSON lines, with ids, positions and metadata")


def _add_streams(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List streams in the order of their ids, one on each line: the version, which is the number of its events, the "
        "time of the last event, and the id. To continue a list, give its last id as --after."
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--prefix", default="", metavar="TEXT", help="only streams whose ids begin with this text")
    which.add_argument("--category", metavar="C", help="only streams of this category")
    command.add_argument("--after", default="", metavar="STREAM", help="only streams after this one")
    command.add_argument("--limit", type=arguments.count, metavar="N", help="at most N streams")
    command.add_argument("--json", action="store_true", help="JSON lines")


def _add_import(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Append each row of a file as one event, in the file's order. You may interrupt it and run it again "
        "at any time: it adds what is missing, and nothing twice. The other columns become the event's data."
    )
    command.add_argument(
        "file", type=arguments.importable, metavar="FILE", help="a .csv with a header, or a .jsonl, in UTF-8"
    )
    command.add_argument("--category", required=True, metavar="C", help="streams are called C-{value of --stream}")
    command.add_argument("--stream", required=True, metavar="COL", help="the column that names the stream")
    command.add_argument("--type", required=True, metavar="COL", help="the column with the event's type")
    command.add_argument(
        "--timestamp", required=True, metavar="COL", help="the column with the time, in ISO 8601; its offset is kept"
    )
    command.add_argument(
        "--delimiter",
        type=arguments.delimiter,
        metavar="CHAR",
        help="the separator of the fields of a .csv: one character, or the word tab (default: a comma)",
    )
    command.add_argument(
        "--tz",
        type=arguments.zone,
        metavar="ZONE",
        help="the zone of times without an offset, such as Europe/Amsterdam or UTC; when its clocks are set back, "
        "an hour that occurs twice is taken as the first",
    )
    command.add_argument(
        "--no-prepare",
        action="store_true",
        help="use no prepared statements, for a PgBouncer before 1.21 in transaction mode",
    )
    command.add_argument(
        "--exact",
        action="store_true",
        help="import a file of `eventstore export` instead, as it was; the other options are not for that",
    )


def _add_events(commands: argparse._SubParsersAction[_Parser], database: _Parser) -> None:
    events = commands.add_parser(
        "events",
        help="check that what is stored can be read",
        description=(
            "Check that stored events can be read by the program as it is: against a lock file, and against the store."
        ),
    )
    subcommands = events.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    program = _Parser(add_help=False)
    program.add_argument(
        "--file", type=Path, default=Path("events.lock"), metavar="FILE", help="(default: %(default)s)"
    )
    lock = _command(
        subcommands,
        "lock",
        "write down what events are stored as, in a file for version control",
        actions.lock,
        program,
    )
    lock.add_argument("--force", action="store_true", help="even if stored events would not survive what has changed")
    check = _command(subcommands, "check", "compare the program with that file: for CI", actions.check, program)
    verify = _command(
        subcommands, "verify", "read everything that is stored, before a deploy", actions.verify, database
    )
    verify.add_argument("--allow-unknown", action="store_true", help="types without a class are no failure")
    verify.add_argument(
        "--from-position",
        type=arguments.count,
        default=0,
        metavar="N",
        help="only events above N (default: %(default)s)",
    )
    verify.add_argument("--json", action="store_true", help="one JSON object")
    for action in (lock, check, verify):
        optional = action is not verify
        action.add_argument(
            "modules",
            nargs="*" if optional else "+",
            metavar="MODULE",
            help="a module that defines events, such as shop.events" + (" (default: those of the file)" * optional),
        )


def _add_following(commands: argparse._SubParsersAction[_Parser], database: _Parser) -> None:
    status = _command(commands, "status", "print how far behind each subscription is", actions.status, database)
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON lines; the last one says if all is well")
    form.add_argument("--prometheus", action="store_true", help="metrics in the text format of Prometheus")
    status.add_argument("--fail", action="store_true", help="exit with 1 unless all is well, and say what is not")
    status.add_argument(
        "--max-lag", type=arguments.count, metavar="N", help="how many positions behind is well (default: any number)"
    )
    status.add_argument(
        "--max-seconds",
        type=arguments.seconds,
        default=60.0,
        metavar="S",
        help="how old the oldest event may be that is not handled (default: %(default)g)",
    )
    parked = _command(commands, "parked", "print the events that a subscription has parked", actions.parked, database)
    parked.add_argument("name", metavar="NAME", help="the subscription")
    parked.add_argument(
        "--drop", type=arguments.count, metavar="POSITION", help="delete the event at this position instead"
    )
    parked.add_argument("--json", action="store_true", help="JSON lines")
    remove = _command(
        commands, "remove", "remove a subscription with its checkpoint and its parked events", actions.remove, database
    )
    remove.add_argument("name", metavar="NAME", help="the subscription")
    remove.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    mark = _command(
        commands,
        "mark",
        "keep marking how far standbys may read the log, until Ctrl-C or SIGTERM",
        actions.mark,
        database,
    )
    mark.add_argument(
        "--every",
        type=arguments.seconds,
        default=0.05,
        metavar="SECONDS",
        help="between two marks, which is how far standbys lag at most, beside replication (default: %(default)s)",
    )
    run = _command(commands, "run", "run subscriptions, until Ctrl-C or SIGTERM", actions.run_workers)
    run.description = (
        "Run subscriptions, until Ctrl-C or SIGTERM. MODULE is imported from the installed packages, or else from the "
        "working directory, so whoever can write there decides what is run."
    )
    run.add_argument(
        "workers", nargs="+", metavar="MODULE:NAME", help="a Subscription or Projection, such as shop:mails"
    )
    rebuild = _command(
        commands, "rebuild", "rebuild a projection's read model while the old one stays in use", actions.rebuild
    )
    rebuild.add_argument("projection", metavar="MODULE:NAME", help="a Projection that names its tables")
    rebuild.add_argument(
        "--from-position",
        type=arguments.count,
        default=0,
        metavar="N",
        help="only events above N (default: %(default)s)",
    )
    archives = rebuild.add_mutually_exclusive_group()
    archives.add_argument(
        "--archive",
        action="append",
        default=[],
        metavar="PLACE",
        help="an archive with events that it needs; you can give it several times",
    )
    archives.add_argument("--without-archives", action="store_true", help="leave out events that are in archives")
    retry = _command(commands, "retry", "handle a subscription's parked events again", actions.retry)
    retry.add_argument("worker", metavar="MODULE:NAME", help="the Subscription or Projection")
    retry.add_argument(
        "positions", nargs="*", type=arguments.count, metavar="POSITION", help="only these (default: all)"
    )
