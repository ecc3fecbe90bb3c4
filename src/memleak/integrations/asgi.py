"""Label what an ASGI application allocates by the route it answers: `app = LabelRequests(app)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from ..labels import label
from . import routes


class LabelRequests:
    """An ASGI application that runs another one under the labels `route` and `method`.

    Tasks that it starts for a request are under them, too, for as long as they run.

    Args:
        app: the application.
        route: takes the scope, returns the route; by default the path, see `routes.of_path`.
        outcome: note how each request ends, as ``label(outcome=True)`` does; an answer of 500 and above, which is what
            a framework makes of an exception, is `HTTP 500`.
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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request or a connection; what else comes (lifespan) is passed on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WEBSOCKET")
        under = label(
            route=routes.asked(self._route, scope), method=str(method)[:16], outcome=self._outcome, **self._labels
        )
        if self._outcome:
            await self._judged(under, scope, receive, send)
            return
        with under:
            await self._app(scope, receive, send)

    async def _judged(self, under: label, scope: Any, receive: Any, send: Any) -> None:
        failed: Optional[type] = None

        async def sends(message: Any) -> None:
            nonlocal failed
            if message["type"] == "http.response.start":
                failed = routes.failure(message["status"])
            await send(message)

        under.__enter__()
        try:
            await self._app(scope, receive, sends)
        except BaseException as error:
            failed = type(error)
            raise
        finally:
            under.__exit__(failed)


def starlette_route(app: Any) -> Callable[[Any], object]:
    """Return the *route* of a Starlette or FastAPI application, by its table of routes."""

    def route(scope: Any) -> object:
        for found in app.routes:
            match, _ = found.matches(scope)
            if match.value == 2:  # in full
                return found.path
        return None

    return route


def _path(scope: Any) -> str:
    return routes.of_path(scope.get("path", ""))
