from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse

from eventstore import AggregateNotFound, ConcurrencyError, InvalidOperation

STATUSES = {AggregateNotFound: 404, ConcurrencyError: 409, InvalidOperation: 422}


class ErrorsAsAnswers:
    """The library's errors as statuses of HTTP."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        for kind, status in STATUSES.items():
            if isinstance(error, kind):
                return JsonResponse({"error": str(error)}, status=status)
        return None
