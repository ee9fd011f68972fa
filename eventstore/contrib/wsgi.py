"""For WSGI applications such as Flask's: ``app.wsgi_app = CausingMiddleware(app.wsgi_app)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from eventstore.context import begin
from eventstore.contrib.correlation import correlation_id

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class CausingMiddleware:
    """Give the events of one request a ``correlation_id``, as ``eventstore.context.causing`` does.

    It is the trace id of the header ``traceparent``, else ``X-Request-ID``, else a new id. What a streamed response
    records while it is sent belongs to the request as well.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        context = copy_context()  # It lasts as long as the response, and the server's thread may serve others then.
        header = environ.get
        context.run(begin, correlation_id(header("HTTP_TRACEPARENT"), header("HTTP_X_REQUEST_ID")))
        return _Response(context, context.run(self._app, environ, start_response))


class _Response:
    """An application's response, every part of which is made in the context of its request."""

    def __init__(self, context: Context, response: Iterable[bytes]) -> None:
        self._context, self._response = context, response
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = self._context.run(iter, self._response)
        return self._context.run(next, self._parts)

    def close(self) -> None:
        close: Any = getattr(self._response, "close", None)
        if close is not None:
            self._context.run(close)
