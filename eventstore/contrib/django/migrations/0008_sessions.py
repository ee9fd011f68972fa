from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0008_sessions.sql."""

    dependencies = (("eventstore", "0007_rebuild"),)
    operations = (SqlFile("0008_sessions"),)
