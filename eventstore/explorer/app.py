"""The explorer as a WSGI application: who may look, what every answer says to browsers, and what errors become."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias

from eventstore.aggregate import Aggregate
from eventstore.errors import AccessDenied, EventStoreError, InvalidArgument, StoreRefused, StoreUnavailable
from eventstore.health import check
from eventstore.postgres.stores import PostgresEventStore

if find_spec("flask") is None:
    raise ImportError("eventstore.explorer needs Flask: pip install 'pg-eventstore[explorer]'")

import flask
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response

from eventstore.explorer.lag import Lag
from eventstore.explorer.pages import Pages

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Allowed: TypeAlias = Callable[[Any], object]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
_LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class Explorer:
    """A WSGI application with pages to look through a store: events, streams, traces, subscriptions. Read-only.

    Without ``allowed`` it answers only browsers on the same machine, and refuses everybody else. Mount it behind your
    own sign-in with ``allowed``.

    Args:
        store: a store on PostgreSQL.
        allowed: called with the request of the framework that it is mounted in: Flask's under WSGI, Django's in
            ``django_view``. What it returns says whether the page is shown; what it raises is a refusal as well.
        reveal: called as ``allowed`` is, for a request that is allowed. If it returns something true, personal fields
            are shown as far as the store's ``subject_keys`` can open them. Without it nobody sees more than that they
            are sealed, and whose they are.
        aggregates: classes whose state the pages show at each version of a stream.

    Raises:
        InvalidArgument: an argument is invalid, or there is ``reveal``, and the store has no ``subject_keys``.
    """

    def __init__(
        self,
        store: PostgresEventStore,
        *,
        allowed: Allowed | None = None,
        reveal: Allowed | None = None,
        aggregates: Iterable[type[Aggregate[Any]]] = (),
    ) -> None:
        if not isinstance(store, PostgresEventStore):  # pyright: ignore[reportUnnecessaryIsInstance] untyped callers
            raise InvalidArgument(f"the explorer shows a PostgresEventStore, not a {type(store).__name__}")
        if allowed is not None and not callable(allowed):
            raise InvalidArgument("allowed must be a function that is given the request")
        if reveal is not None and not callable(reveal):
            raise InvalidArgument("reveal must be a function that is given the request")
        if reveal is not None and store.subject_keys is None:
            raise InvalidArgument("reveal needs the keys of subjects, and this store has none: give it subject_keys=")
        self._allowed, self._reveal = allowed, reveal
        self._store, self._lag = store, Lag()
        self._flask = flask.Flask("eventstore.explorer", static_url_path="/static")
        self._flask.url_map.merge_slashes = False  # A redirect would be an answer of another kind.
        self._flask.jinja_env.autoescape = True
        self._flask.jinja_env.trim_blocks = self._flask.jinja_env.lstrip_blocks = True
        self._flask.before_request(self._check)
        self._flask.after_request(_with_headers)
        self._flask.register_error_handler(Exception, _error_page)
        Pages(store, aggregates, self._lag, self._reveals).add_to(self._flask)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._flask.wsgi_app(environ, start_response)

    def django_view(self, request: Any, path: str = "") -> Any:
        """Answer a request of Django's: ``re_path(r"^events/(?P<path>.*)$", explorer.django_view)``.

        ``allowed`` gets Django's request.
        """
        from django.http import HttpResponse  # noqa: PLC0415 only who uses it has it

        prefix = request.path[: len(request.path) - len(path)]
        environ = {
            **request.META,
            "SCRIPT_NAME": prefix.rstrip("/").encode().decode("latin-1"),  # WSGI's way to pass bytes.
            "PATH_INFO": f"/{path}".encode().decode("latin-1"),
            "wsgi.input": None,
            "CONTENT_LENGTH": "0",
            "eventstore.request": request,
        }
        answer = Response.from_app(self, environ, buffered=True)
        return HttpResponse(answer.get_data(), status=answer.status_code, headers=dict(answer.headers))

    def sample(self) -> None:
        """Note how far each subscription is behind. The pages about subscriptions draw what was noted.

        They note it themselves each time that they are looked at. Call it every ten seconds or so, in a thread of
        yours, to see what happened before somebody looked. The newest 1,000 samples are kept in memory.
        """
        self._lag.note(check(self._store))

    def _check(self) -> None:
        request = flask.request
        if request.method not in {"GET", "HEAD"}:
            flask.abort(405)
        if self._allowed is None:
            if not _is_local(request.environ):
                flask.abort(403, "Without `allowed` the explorer answers only browsers on its own machine.")
            return
        if not _says_yes(self._allowed):
            flask.abort(403, "You may not look at these pages.")

    def _reveals(self) -> bool:
        if "reveals" not in flask.g:  # It is asked once for each request.
            flask.g.reveals = self._reveal is not None and _says_yes(self._reveal)
        return bool(flask.g.reveals)


def _says_yes(asked: Allowed) -> bool:
    try:
        return bool(asked(flask.request.environ.get("eventstore.request", flask.request)))
    except Exception:  # noqa: BLE001 whatever it is, nobody is let in by it
        return False


def _is_local(environ: Mapping[str, Any]) -> bool:
    """Whether a browser of this machine asks, under a name of this machine: other sites can't lead it here."""
    if any(name in environ for name in _FORWARDED):
        return False
    try:
        address = ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return address.is_loopback and _LOCAL_HOST.fullmatch(environ.get("HTTP_HOST", "")) is not None


def _with_headers(response: flask.Response) -> flask.Response:
    response.headers.update(HEADERS)
    if flask.request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _error_page(error: Exception) -> tuple[str, int]:
    status, text = 500, "Something went wrong."
    if isinstance(error, NotFound):
        status, text = 404, "There is nothing at this address."
    elif isinstance(error, HTTPException):
        status, text = error.code or 500, error.description or ""
    elif isinstance(error, InvalidArgument):
        status, text = 400, str(error)
    elif isinstance(error, (StoreUnavailable, AccessDenied, StoreRefused)):
        status, text = 503, str(error)
    elif isinstance(error, EventStoreError):
        status, text = 500, str(error)
    else:
        flask.current_app.logger.error("a page failed", exc_info=error)
    if flask.request.path.endswith("/live"):
        return f'<p class="problem">{flask.render_template_string("{{ text }}", text=text)}</p>', status
    return flask.render_template("error.html", status=status, text=text), status
