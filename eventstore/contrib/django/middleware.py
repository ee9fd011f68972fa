"""For MIDDLEWARE: ``"eventstore.contrib.django.middleware.CausingMiddleware"``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from eventstore.context import causing
from eventstore.contrib.correlation import correlation_id


class CausingMiddleware:
    """Give the events of one request a ``correlation_id``, as ``eventstore.context.causing`` does.

    It is the trace id of the header ``traceparent``, else ``X-Request-ID``, else a new id. It works in both kinds of
    views, without a switch of threads. What a ``StreamingHttpResponse`` records while it is sent is outside of it.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        # Python below 3.12 can't mark a function, and asgiref can.
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]
        if self._is_async:
            markcoroutinefunction(cast("Callable[..., Any]", self))

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._respond(request)
        with _causing(request):
            return self._get_response(request)

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        with _causing(request):
            return await cast("Awaitable[HttpResponseBase]", self._get_response(request))


def _causing(request: HttpRequest) -> AbstractContextManager[None]:
    headers = request.headers
    return causing(correlation_id=correlation_id(headers.get("traceparent"), headers.get("x-request-id")))
