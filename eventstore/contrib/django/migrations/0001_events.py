from __future__ import annotations

from django.db import migrations, models

from eventstore.contrib.django.conf import db_table
from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0001_events.sql."""

    dependencies = (("eventstore", "0000_migrations"),)
    operations = (
        SqlFile("0001_events"),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("position", models.BigIntegerField(primary_key=True, serialize=False)),
                ("stream_id", models.CharField("stream", max_length=255)),
                ("version", models.BigIntegerField()),
                ("event_type", models.CharField("type", max_length=255)),
                ("timestamp", models.DateTimeField("time")),
                ("event_id", models.UUIDField()),
                ("revision", models.SmallIntegerField(default=1)),
                ("data", models.BinaryField()),
                ("metadata", models.BinaryField()),
            ],
            options={"db_table": db_table("events"), "managed": False, "default_permissions": ("view",)},
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[],
            options={"proxy": True, "default_permissions": ("view",), "indexes": [], "constraints": []},
            bases=("eventstore.event",),
        ),
    )
