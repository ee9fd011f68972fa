from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0010_operations.sql."""

    dependencies = (("eventstore", "0009_subjects"),)
    operations = (SqlFile("0010_operations"),)
