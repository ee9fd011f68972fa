from __future__ import annotations

from django.db import models


class PlacedOrder(models.Model):
    """The keys that clients have sent: an order is placed once, however often it is asked for."""

    key = models.CharField(max_length=100, primary_key=True)
    order_id = models.UUIDField()

    def __str__(self) -> str:
        return self.key


class OrderLine(models.Model):
    """The read model: a row for each order, written by the projection in subscriptions.py."""

    order_id = models.UUIDField(primary_key=True)
    items = models.IntegerField()
    status = models.CharField(max_length=20)

    def __str__(self) -> str:
        return f"order {self.order_id}"
