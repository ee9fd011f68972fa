"""Views, to be put into your URLs: ``path("health/", eventstore.contrib.django.views.health)``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from eventstore.contrib.django.stores import event_store
from eventstore.health import HEADERS, answer, check


def health(
    request: HttpRequest,
    *,
    using: str | None = None,
    max_lag: int | None = None,
    max_seconds: float | None = 60.0,
) -> HttpResponse:
    """Answer with the health of the project's store as JSON: 200 if it is well, else 503.

    Pass limits, which are those of ``eventstore.health.check``, as the third argument of ``path``. The report has the
    errors of handlers, so don't show it to everybody.
    """
    method = request.method or "GET"
    status, text = answer(method, lambda: check(event_store(using), max_lag=max_lag, max_seconds=max_seconds))
    return HttpResponse(text, status=status, headers=dict(HEADERS))
