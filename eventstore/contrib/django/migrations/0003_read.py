from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0003_read.sql."""

    dependencies = (("eventstore", "0002_append"),)
    operations = (SqlFile("0003_read"),)
