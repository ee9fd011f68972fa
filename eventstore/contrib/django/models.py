"""The store's tables as Django sees them: to look at, in the admin and in queries. What is written goes through stores.

They are in the schema that EVENTSTORE_SCHEMA names when the project starts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models

from eventstore import codec
from eventstore.codec.showing import cleaned
from eventstore.contrib.django.conf import db_table
from eventstore.core.checkpoints import SubscriptionRow, SubscriptionStatus
from eventstore.core.records import decoded_data


class Event(models.Model):
    """A stored event. ``data`` and ``metadata`` are bytes of the codec."""

    position: models.BigIntegerField[int, int] = models.BigIntegerField(primary_key=True)
    stream_id: models.CharField[str, str] = models.CharField("stream", max_length=255)
    version: models.BigIntegerField[int, int] = models.BigIntegerField()
    event_type: models.CharField[str, str] = models.CharField("type", max_length=255)
    timestamp: models.DateTimeField[datetime, datetime] = models.DateTimeField("time")
    event_id: models.UUIDField[UUID, UUID] = models.UUIDField()
    revision: models.SmallIntegerField[int, int] = models.SmallIntegerField(default=1)
    data: models.BinaryField[bytes, bytes] = models.BinaryField()
    metadata: models.BinaryField[bytes, bytes] = models.BinaryField()

    class Meta:
        managed = False
        db_table = db_table("events")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return cleaned(f"{self.stream_id} {self.version}: {self.event_type}")

    @property
    def contents(self) -> dict[str, Any]:
        """What the event says, as its class has it now, if it has one. Raises DeserializationError, RevisionError."""
        return decoded_data(self.event_type, self.revision, bytes(self.data))

    @property
    def circumstances(self) -> dict[str, Any]:
        """What is known about the event, such as who caused it. Raises DeserializationError."""
        return codec.decode(bytes(self.metadata), lenient=True, sealed=True)


class Stream(Event):
    """A stream, as its first event."""

    class Meta:  # pyright: ignore[reportIncompatibleVariableOverride] Django's way
        proxy = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return cleaned(self.stream_id)


class Subscription(models.Model):
    """How far a subscription has come, all its partitions together."""

    name: models.CharField[str, str] = models.CharField(max_length=255, primary_key=True)
    partitions: models.IntegerField[int, int] = models.IntegerField()
    position: models.BigIntegerField[int, int] = models.BigIntegerField()
    highest: models.BigIntegerField[int, int] = models.BigIntegerField("newest position")
    seconds_behind: models.FloatField[float, float] = models.FloatField()
    seconds_unseen: models.FloatField[float | None, float | None] = models.FloatField(
        "seconds since it was seen at work", null=True
    )
    failed: models.BooleanField[bool, bool] = models.BooleanField("given up")
    error: models.TextField[str | None, str | None] = models.TextField(null=True)  # noqa: DJ001 it is so in the view
    error_position: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    parked: models.BigIntegerField[int, int] = models.BigIntegerField("parked events")
    rebuilt_to: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    seconds_unmoved: models.FloatField[float, float] = models.FloatField("seconds since it moved")
    seconds_failing: models.FloatField[float | None, float | None] = models.FloatField(null=True)
    at_work: models.BooleanField[bool, bool] = models.BooleanField("at a batch")

    class Meta:
        managed = False
        db_table = db_table("subscription_status")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name

    @property
    def status(self) -> SubscriptionStatus:
        """Where it stands, as `eventstore status` says."""
        return SubscriptionRow(**{name: getattr(self, name) for name in SubscriptionRow._fields}).status()


class ParkedEvent(models.Model):
    """An event that a subscription has parked. Its key is ``name`` and ``position`` together."""

    position: models.BigIntegerField[int, int] = models.BigIntegerField(primary_key=True)
    name: models.CharField[str, str] = models.CharField(max_length=255)
    attempts: models.IntegerField[int, int] = models.IntegerField()
    error: models.TextField[str, str] = models.TextField()
    parked_at: models.DateTimeField[datetime, datetime] = models.DateTimeField()

    class Meta:
        managed = False
        db_table = db_table("parked_events")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} {self.position}"
