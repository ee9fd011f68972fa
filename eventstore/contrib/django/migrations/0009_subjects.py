from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0009_subjects.sql."""

    dependencies = (("eventstore", "0008_sessions"),)
    operations = (SqlFile("0009_subjects"),)
