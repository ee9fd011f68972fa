"""The app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.db.models.signals import pre_migrate
from django.utils.module_loading import autodiscover_modules


class EventStoreConfig(AppConfig):
    """Imports the ``events`` and ``subscriptions`` modules of all apps, so that what they define is known."""

    name = "eventstore.contrib.django"
    label = "eventstore"
    verbose_name = "Event store"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from eventstore.contrib.django import checks, files  # noqa: PLC0415 Django's settings are there by now

        register(checks.check_settings)
        pre_migrate.connect(files.make_schema_without_migrations, sender=self)
        autodiscover_modules("events", "subscriptions")
