from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0002_append.sql."""

    dependencies = (("eventstore", "0001_events"),)
    operations = (SqlFile("0002_append"),)
