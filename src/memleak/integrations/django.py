"""Label what a Django project allocates: by route, with a middleware, and by statement.

`MIDDLEWARE = ["memleak.integrations.django.LabelMiddleware", …]`, first, so that it covers the others; and
`memleak.integrations.django.label_statements()` in an `AppConfig.ready()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..labels import label
from .fingerprint import label_of
from .routes import NO_ROUTE

_MARK = "_memleak_labels"


class LabelMiddleware:
    """Views, and what renders and answers after them, run under the labels `route` and `method`."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        """Wrap the rest of the chain, which may be asynchronous."""
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction  # type: ignore[import-not-found,unused-ignore]

        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer a request."""
        if self._is_async:
            return self._answer(request)
        with label(method=request.method):  # the route is not known yet
            try:
                return self._get_response(request)
            finally:
                _leave(request)

    async def _answer(self, request: Any) -> Any:
        with label(method=request.method):
            try:
                return await self._get_response(request)
            finally:
                _leave(request)

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        """Note the route, which Django has found by now."""
        match = getattr(request, "resolver_match", None)
        under = label(route=f"/{match.route}" if match is not None else NO_ROUTE)
        setattr(request, _MARK, under)
        under.__enter__()


def _leave(request: Any) -> None:
    under = getattr(request, _MARK, None)
    if under is not None:
        delattr(request, _MARK)
        under.__exit__()


def label_statements(*, raw: bool = False) -> None:
    """Run the statements of every connection, those that are open and those to come, under the label `sql`."""
    from django.db import connections  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from django.db.backends.signals import connection_created  # type: ignore[import-not-found,import-untyped,unused-ignore]

    def execute(run: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        vendor = context["connection"].vendor
        with label_of(sql, "text" if vendor == "mysql" else "name", raw):
            return run(sql, params, many, context)

    def add(connection: Any, **_: Any) -> None:
        if not any(getattr(wrapper, "_memleak", False) for wrapper in connection.execute_wrappers):
            connection.execute_wrappers.append(execute)

    execute._memleak = True  # type: ignore[attr-defined]
    connection_created.connect(add, weak=False, dispatch_uid="memleak.labels")
    for connection in connections.all(initialized_only=True) if hasattr(connections, "all") else ():
        add(connection)
