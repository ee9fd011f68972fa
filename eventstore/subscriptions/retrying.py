"""What becomes of an event that could not be handled: it is retried, waited for, parked, or ends the run. No I/O."""

from __future__ import annotations

from contextlib import suppress

from eventstore.codec.record import STREAM_ID
from eventstore.codec.showing import cleaned
from eventstore.core.checkpoints import REBUILD
from eventstore.core.logs import subscription_log as _log
from eventstore.core.operations import check_number
from eventstore.core.records import decode_events
from eventstore.core.requests import Operation, ReadLog, ask
from eventstore.core.subscription_requests import (
    Claim,
    DropParked,
    ListParked,
    NoteError,
    Park,
    SaveCheckpoint,
    TakeParked,
)
from eventstore.errors import (
    AppendOutcomeUnknown,
    InvalidOperation,
    StoreUnavailable,
    SubscriptionFailed,
)
from eventstore.subscriptions.handling import Batches, Handle, HandleBatch, HandlingFailed, InTransaction, Trouble
from eventstore.subscriptions.outages import (
    FIRST_DELAY,
    LAST_DELAY,
    Rest,
    error_text,
    lasts,
)
from eventstore.subscriptions.unknown import is_of_a_newer_release


class RetriedBatches(Batches):
    """Batches whose failures lead to something."""

    @property
    def parks(self) -> bool:
        """Whether an event that can't be handled is parked."""
        return self._settings.parks

    def retry(self, failure: HandlingFailed) -> Operation[None]:
        """Wait before an event is retried, or give up."""
        partition, position = failure.claimed.partition, failure.position
        trouble = self._troubles.get(partition)
        if trouble is None or trouble.position != position:
            trouble = self._troubles[partition] = Trouble(position)
        if not failure.alone:
            return  # What came before it is committed first.
        trouble.tries = tries = trouble.tries + 1
        parks = self._settings.parks and not lasts(failure.cause)
        text = error_text(failure.cause)
        if is_of_a_newer_release(failure.cause):
            yield from self._wait_for_a_deployment(failure, text, tries)
            return
        _log.warning(
            "subscription %s: attempt %d of %d at position %d failed: %s",
            cleaned(self.name),
            tries,
            self._settings.attempts,
            position,
            cleaned(text),
            exc_info=failure.cause,
            extra={
                "subscription": self.name,
                "position": position,
                "attempt": tries,
                "error_type": type(failure.cause).__name__,
            },
        )
        try:
            if tries >= self._settings.attempts:
                yield from self._give_up(failure, text, tries, parks=parks)
            else:
                yield from ask(NoteError(self.name, partition, position, text, failed=False))
        except (StoreUnavailable, AppendOutcomeUnknown):
            return  # It will come back to the same event.
        if tries >= self._settings.attempts:
            del self._troubles[partition]
        else:
            yield from ask(Rest(min(FIRST_DELAY * 2 ** (tries - 1), LAST_DELAY)))

    def _wait_for_a_deployment(self, failure: HandlingFailed, text: str, tries: int) -> Operation[None]:
        """Rest at an event that a newer release can read, and hold nothing, so that its workers can take over."""
        if tries == 1:
            _log.warning(
                "subscription %s waits at position %d: %s",
                cleaned(self.name),
                failure.position,
                cleaned(text),
                extra={"subscription": self.name, "position": failure.position},
            )
        with suppress(StoreUnavailable, AppendOutcomeUnknown):
            yield from ask(NoteError(self.name, failure.claimed.partition, failure.position, text, failed=False))
        yield from ask(Rest(min(FIRST_DELAY * 2 ** min(tries - 1, 10), LAST_DELAY)))

    def _give_up(self, failure: HandlingFailed, text: str, tries: int, *, parks: bool) -> Operation[None]:
        if (yield from ask(InTransaction(self._given_up(failure, text, tries, parks=parks)))) and not parks:
            raise SubscriptionFailed(self.name, failure.position, text) from failure.cause

    def _given_up(self, failure: HandlingFailed, text: str, tries: int, *, parks: bool) -> Operation[bool]:
        """In a transaction: park the event, or record that the subscription has failed."""
        partition = failure.claimed.partition
        claimed = yield from ask(Claim(self.name, failure.position, partition))
        if claimed != failure.claimed:
            return False  # Another worker has it, or has handled it.
        if parks:
            if self.archived is not None and not (
                yield from ask(ReadLog(failure.position - 1, failure.position, 1, None, None))
            ):
                where = "it is in an archive, and can only be parked once it is restored"
                raise SubscriptionFailed(self.name, failure.position, f"{text} ({where})") from failure.cause
            yield from ask(Park(self.name, failure.position, tries, text, rebuild=partition == REBUILD))
            yield from ask(SaveCheckpoint(self.name, partition, failure.position))
        else:
            yield from ask(NoteError(self.name, partition, failure.position, text, failed=True))
        return True

    def retry_parked(self, position: int) -> Operation[None]:
        """In a transaction: handle a parked event, which is parked no longer then."""
        check_number("position", position)
        if not (yield from ask(TakeParked(self.name, position))):
            raise _not_parked(self.name, position)
        records = yield from ask(ReadLog(position - 1, position, 1, None, None))
        if self._settings.parks_streams:
            for earlier in (yield from ask(ListParked(self.name))):
                if earlier.position < position and earlier.stream_id == records[0][STREAM_ID]:
                    raise InvalidOperation(
                        f"subscription {self.name!r} parks the events of a stream in their order: retry the event at "
                        f"position {earlier.position} first, or drop it"
                    )
        keys = yield from self._keys_of(records)
        event = decode_events(records, strict=self._strict, keys=keys)[0]
        yield from ask(HandleBatch([event]) if self._batched else Handle(event))


def drop_parked(name: str, position: int) -> Operation[None]:
    """Decide that a parked event is not to be handled."""
    check_number("position", position)
    if not (yield from ask(DropParked(name, position))):
        raise _not_parked(name, position)


def _not_parked(name: str, position: int) -> InvalidOperation:
    """The error for an event that is not parked, or no longer."""
    return InvalidOperation(
        f"subscription {name!r} has no event parked at position {position}, or somebody is just retrying it"
    )
