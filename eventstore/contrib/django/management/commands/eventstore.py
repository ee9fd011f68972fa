"""``manage.py eventstore ...``: what the command line does, on the project's database."""

from __future__ import annotations

import sys
from argparse import REMAINDER
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandParser

from eventstore.contrib import commands
from eventstore.contrib.django import conf
from eventstore.contrib.django.workers import targets


class Command(BaseCommand):
    """Hands everything on to the command line."""

    help = (
        "What `eventstore` does, on this project's database: run [NAME ...] (subscriptions, until SIGTERM), status, "
        "rebuild NAME, parked NAME, retry NAME, read STREAM, import FILE. `manage.py eventstore COMMAND -h` says more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs=REMAINDER, metavar="COMMAND ...")

    def handle(self, *_: Any, arguments: list[str], **__: Any) -> None:
        out, err = cast("TextIO", self.stdout._out), cast("TextIO", self.stderr._out)
        with redirect_stdout(out), redirect_stderr(err):
            code = commands.run(
                arguments, lambda: conf.conninfo(conf.setting("DATABASE")), conf.setting("SCHEMA"), targets
            )
        if code:
            sys.exit(code)
