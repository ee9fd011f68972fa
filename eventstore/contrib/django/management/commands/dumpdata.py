"""``manage.py dumpdata``: Django's, without the tables of the event store."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import dumpdata

_APP = "eventstore"
_ADVICE = "back up the events with pg_dump, which keeps their bytes and positions"


class Command(dumpdata.Command):
    """Django's command. A fixture can't hold events: loading one would write around the store."""

    def handle(self, *app_labels: str, **options: Any) -> None:
        if any(label.partition(".")[0] == _APP for label in app_labels):
            raise CommandError(f"The app '{_APP}' can't be dumped: {_ADVICE}.")
        excluded = options["exclude"]
        if not app_labels and _APP not in excluded:
            options["exclude"] = [*excluded, _APP]
            if options["verbosity"]:
                self.stderr.write(f"dumpdata: the events are not in this dump: {_ADVICE}.")
        super().handle(*app_labels, **options)
