from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0004_append_only.sql."""

    dependencies = (("eventstore", "0003_read"),)
    operations = (SqlFile("0004_append_only"),)
