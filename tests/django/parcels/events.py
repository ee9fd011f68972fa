from __future__ import annotations

from eventstore import Aggregate, Event, InvalidOperation, handles


class ParcelPosted(Event):
    destination: str


class ParcelDelivered(Event):
    signature: str


class Parcel(Aggregate["Parcel"]):
    destination: str = ""
    signature: str | None = None

    def post(self, destination: str) -> None:
        self._record(ParcelPosted(destination=destination))

    def deliver(self, signature: str) -> None:
        if self.signature is not None:
            raise InvalidOperation("delivered already")
        self._record(ParcelDelivered(signature=signature))

    @handles(ParcelPosted)
    def _posted(self, event: ParcelPosted) -> None:
        self.destination = event.destination

    @handles(ParcelDelivered)
    def _delivered(self, event: ParcelDelivered) -> None:
        self.signature = event.signature
