"""What a follower does not know: types of events without a class here, and revisions of a newer release."""

from __future__ import annotations

from eventstore.codec.showing import cleaned
from eventstore.core.logs import subscription_log as _log
from eventstore.errors import NewerRevision, UnknownEventType
from eventstore.event import Event
from eventstore.event_types import event_class, is_ignored


def is_of_a_newer_release(error: Exception) -> bool:
    """Whether a deployment is what an event waits for, and not a fix by somebody.

    That is a newer revision, and a type without a class where classes were asked for: an error of reading, which has
    the event's version, and not one of an aggregate without a handler.
    """
    return isinstance(error, NewerRevision) or (isinstance(error, UnknownEventType) and error.version > 0)


class UnknownTypes:
    """The types that one follower was handed plain events of, for want of a class."""

    def __init__(self, subscription: str) -> None:
        self._subscription = subscription
        self._met: set[str] = set()

    def warn_of(self, event: Event) -> None:
        """Warn once for each type: a handler that looks at classes would pass over its events without a word."""
        event_type = event.event_type
        if type(event) is not Event or event_type in self._met or event_class(event_type) or is_ignored(event_type):
            return
        self._met.add(event_type)
        _log.warning(
            "subscription %s: no class is defined for the event type %s, so its events are handled as plain events: "
            "import the module that defines it, or give event_types classes, and the subscription waits at them",
            cleaned(self._subscription),
            cleaned(event_type),
            extra={"subscription": self._subscription, "event_type": event_type, "position": event.position},
        )
