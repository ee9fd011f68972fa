from __future__ import annotations

from eventstore import Event
from eventstore.contrib.django import DjangoTransaction, projection, subscription
from parcels.events import ParcelDelivered
from parcels.models import Arrival, Note


@projection("arrivals", event_types=["ParcelDelivered"], tables=["parcels_arrival"])
def arrivals(event: Event, _: DjangoTransaction) -> None:
    assert isinstance(event, ParcelDelivered)
    Arrival.objects.create(stream_id=event.stream_id, signature=event.signature)


@subscription("notes", event_types=["ParcelPosted"], attempts=1, on_failure="park")
def notes(event: Event) -> None:
    Note.objects.create(text=event.data["destination"])
