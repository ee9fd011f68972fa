from __future__ import annotations

from django.db import migrations

from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0000_migrations.sql."""

    initial = True
    dependencies = ()
    operations = (SqlFile("0000_migrations"),)
