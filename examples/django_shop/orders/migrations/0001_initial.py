from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="OrderLine",
            fields=[
                ("order_id", models.UUIDField(primary_key=True, serialize=False)),
                ("items", models.IntegerField()),
                ("status", models.CharField(max_length=20)),
            ],
        ),
        migrations.CreateModel(
            name="PlacedOrder",
            fields=[
                ("key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("order_id", models.UUIDField()),
            ],
        ),
    )
