"""Label what a WSGI application allocates by the route it answers: `app = LabelRequests(app)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional

from ..labels import label
from . import routes


class LabelRequests:
    """A WSGI application that runs another one under the labels `route` and `method`, its response's parts as well.

    Args:
        app: the application.
        route: takes the environ, returns the route; by default the path, see `routes.of_path`.
        outcome: note how each request ends, as ``label(outcome=True)`` does; an answer of 500 and above, which is what
            a framework makes of an exception, is `HTTP 500`. What the parts of a response allocate later is under what
            the call ended with.
        labels: further labels of every request.
    """

    def __init__(
        self, app: Any, *, route: Optional[Callable[[Any], object]] = None, outcome: bool = False, **labels: object
    ) -> None:
        """Wrap *app*."""
        self._outcome = outcome
        self._app = app
        self._route = route or _path
        self._labels = labels

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        method = _method(environ.get("REQUEST_METHOD"))
        given = {"route": routes.asked(self._route, environ), "method": method, **self._labels}
        if self._outcome:
            parts, under = self._judged(given, environ, start_response)
        else:
            under = label(**given)
            with under:
                parts = self._app(environ, start_response)
        # A server that looks for more than an iterable (a length, a file of its own kind) finds it.
        return parts if isinstance(parts, (list, tuple)) or _is_file(environ, parts) else _Parts(parts, under)

    def _judged(self, given: dict[str, object], environ: Any, start_response: Any) -> tuple[Any, label]:
        failed: Optional[type] = None

        def start(status: str, *more: Any, **words: Any) -> Any:
            nonlocal failed
            failed = routes.failure(status)
            return start_response(status, *more, **words)

        under = label(**given, outcome=True)
        under.__enter__()
        try:
            parts = self._app(environ, start)
        except BaseException as error:
            failed = type(error)
            raise
        finally:
            under.__exit__(failed)
        return parts, label(**given, outcome=failed.__name__ if failed else "ok")


class _Parts:
    """The parts of a response, each made under the request's labels."""

    def __init__(self, parts: Any, under: label) -> None:
        self._parts, self._under = parts, under
        self._rows: Optional[Iterator[bytes]] = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._under:
            if self._rows is None:
                self._rows = iter(self._parts)
            return next(self._rows)

    def close(self) -> None:
        """End the response."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            with self._under:
                close()


def werkzeug_route(url_map: Any) -> Callable[[Any], object]:
    """Return the *route* of an application whose rules are in a werkzeug `Map`: `werkzeug_route(flask_app.url_map)`."""

    def route(environ: Any) -> object:
        rule, _ = url_map.bind_to_environ(environ).match(return_rule=True)
        return rule.rule

    return route


def _path(environ: Any) -> str:
    return routes.of_path(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))


def _method(method: object) -> str:
    return str(method) if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS") else "(other)"


def _is_file(environ: Any, parts: Any) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(parts, wrapper)
