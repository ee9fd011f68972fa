"""``manage.py eventstore ...``: what the command line does, on the project's database."""

from __future__ import annotations

import sys
from argparse import REMAINDER
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from eventstore.contrib import commands
from eventstore.contrib.django import conf
from eventstore.contrib.django.workers import targets

_WITH_VALUE = {"-v", "--verbosity", "--settings", "--pythonpath", "--database"}
_FLAGS = {"--traceback", "--no-color", "--force-color", "--skip-checks"}


class Command(BaseCommand):
    """Hands everything on to the command line."""

    help = (
        "What `eventstore` does, on this project's database: run [NAME ...] (subscriptions, until SIGTERM), status, "
        "rebuild NAME, parked NAME, retry NAME, remove NAME, streams, read STREAM, import FILE, roles, "
        "export FILE, archive, restore, truncate STREAM, events lock|check|verify, subjects show|forget|rotate|list. "
        "`manage.py eventstore COMMAND -h` says more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database", help="The alias of the database that the events are in (default: EVENTSTORE_DATABASE)."
        )
        parser.add_argument("arguments", nargs=REMAINDER, metavar="COMMAND ...")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it with Django's options anywhere, as every command of Django's has them."""
        own, rest = _sorted_out(argv[2:])
        super().run_from_argv([*argv[:2], *own, *rest])

    def handle(self, *_: Any, arguments: list[str], database: str | None = None, **__: Any) -> None:
        using = database or conf.setting("DATABASE")
        if using not in connections:
            raise CommandError(f"{using!r} is not an alias in DATABASES. There are: {', '.join(connections)}.")
        out, err = cast("TextIO", self.stdout._out), cast("TextIO", self.stderr._out)
        with redirect_stdout(out), redirect_stderr(err):
            code = commands.run(
                arguments, lambda: conf.conninfo(using), conf.setting("SCHEMA"), targets, conf.subject_keys
            )
        if code:
            sys.exit(code)


def _sorted_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Django's own options, and what the command line gets. Nothing after ``--`` is Django's."""
    own: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        name, is_assigned, _ = argument.partition("=")
        if argument == "--":
            rest += [argument, *remaining]
            break
        if argument in _FLAGS or (is_assigned and name in _WITH_VALUE):
            own.append(argument)
        elif argument in _WITH_VALUE and remaining:
            own += [argument, remaining.pop(0)]
        elif argument[:2] == "-v" and argument[2:].isdigit():
            own.append(argument)
        else:
            rest.append(argument)
    return own, rest
