from __future__ import annotations

from django.db import migrations, models

from eventstore.contrib.django.conf import db_table
from eventstore.contrib.django.files import SqlFile


class Migration(migrations.Migration):
    """sql/0006_subscriptions.sql."""

    dependencies = (("eventstore", "0005_snapshots"),)
    operations = (
        SqlFile("0006_subscriptions"),
        migrations.CreateModel(
            name="Subscription",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("partitions", models.IntegerField()),
                ("position", models.BigIntegerField()),
                ("highest", models.BigIntegerField("newest position")),
                ("seconds_behind", models.FloatField()),
                ("seconds_unseen", models.FloatField("seconds since it was seen at work", null=True)),
                ("failed", models.BooleanField("given up")),
                ("error", models.TextField(null=True)),
                ("error_position", models.BigIntegerField(null=True)),
                ("parked", models.BigIntegerField("parked events")),
                ("rebuilt_to", models.BigIntegerField(null=True)),
                ("seconds_unmoved", models.FloatField("seconds since it moved")),
                ("seconds_failing", models.FloatField(null=True)),
                ("at_work", models.BooleanField("at a batch")),
            ],
            options={"db_table": db_table("subscription_status"), "managed": False, "default_permissions": ("view",)},
        ),
        migrations.CreateModel(
            name="ParkedEvent",
            fields=[
                ("position", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                ("attempts", models.IntegerField()),
                ("error", models.TextField()),
                ("parked_at", models.DateTimeField()),
            ],
            options={"db_table": db_table("parked_events"), "managed": False, "default_permissions": ()},
        ),
    )
