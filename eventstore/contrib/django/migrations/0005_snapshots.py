from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0005_snapshots.sql."""

    dependencies = (("eventstore", "0004_append_only"),)
    operations = (SqlFile("0005_snapshots"),)
