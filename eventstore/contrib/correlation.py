"""What a web request says about its origin, as a ``correlation_id``."""

from __future__ import annotations

import re

from eventstore.event import new_event_id

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context: version, trace id, parent id, flags; later versions may add more."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
"""Clients may send anything: it is stored with each event, so it is short, and plain."""


def correlation_id(traceparent: str | None, request_id: str | None) -> str:
    """The trace id of a ``traceparent``, else the ``X-Request-ID``, else a new id. Malformed headers don't count."""
    trace = _TRACEPARENT.fullmatch(traceparent or "")
    if trace is not None and not trace[0].startswith("ff") and (trace[0][:2] != "00" or trace[2] is None):
        return trace[1]
    if _REQUEST_ID.fullmatch(request_id or ""):
        return request_id or ""
    return str(new_event_id())
