"""For ASGI applications such as FastAPI's: ``app.add_middleware(CausingMiddleware)``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from eventstore.context import causing
from eventstore.contrib.correlation import correlation_id

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


class CausingMiddleware:
    """Give the events of one request, or one WebSocket, a ``correlation_id``, as ``eventstore.context.causing`` does.

    It is the trace id of the header ``traceparent``, else ``X-Request-ID``, else a new id.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        with causing(correlation_id=correlation_id(headers.get(b"traceparent"), headers.get(b"x-request-id"))):
            await self._app(scope, receive, send)
