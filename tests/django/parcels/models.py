from __future__ import annotations

from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.text


class Arrival(models.Model):
    """A read model."""

    stream_id = models.CharField(max_length=255)
    signature = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.stream_id
