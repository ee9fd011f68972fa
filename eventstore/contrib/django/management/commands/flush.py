"""``manage.py flush``: Django's, and what becomes of the events then."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import flush

from eventstore.contrib.django import conf, emptying


class Command(flush.Command):
    """Django's command. It empties the event store of a test database; any other one only with --events."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--events",
            action="store_true",
            help="Also remove all events, snapshots and checkpoints of the event store. They can't be brought back.",
        )

    def handle(self, **options: Any) -> None:
        using = options["database"]
        is_the_stores = using == conf.setting("DATABASE")
        with_events = is_the_stores and (options.get("events") or conf.is_test_database(using))
        if options["interactive"]:
            events = "all events included" if with_events else "except the events of the event store"
            answer = input(
                f"This will IRREVERSIBLY DESTROY all data in the database {conf.database_name(using)!r}, {events}.\n"
                "Are you sure you want to do this?\n\n    Type 'yes' to continue, or 'no' to cancel: "
            )
            if answer != "yes":
                self.stdout.write("Flush cancelled.")
                return
        super().handle(**{**options, "interactive": False})
        if with_events:
            emptying.remove_everything(using)
        elif is_the_stores and emptying.holds_anything(using):
            self.stderr.write(
                "The events were kept. `manage.py eventstore rebuild NAME` fills a projection's tables again; "
                "`manage.py flush --events` removes the events as well."
            )
