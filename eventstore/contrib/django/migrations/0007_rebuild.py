from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0007_rebuild.sql."""

    dependencies = (("eventstore", "0006_subscriptions"),)
    operations = (SqlFile("0007_rebuild"),)
