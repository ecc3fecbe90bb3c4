"""Label what a Django project allocates: by route, with a middleware, and by statement.

`MIDDLEWARE = ["memleak.integrations.django.LabelMiddleware", …]`, first, so that it covers the others; and
`memleak.integrations.django.label_statements()` in an `AppConfig.ready()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from ..labels import label
from .fingerprint import label_of
from .routes import NO_ROUTE, failure

_MARK, _FAILED = "_memleak_labels", "_memleak_failed"


class LabelMiddleware:
    """Views, and what renders and answers after them, run under the labels `route` and `method`."""

    outcome = False
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
                response = self._get_response(request)
            except BaseException as error:
                _leave(request, type(error))
                raise
            _leave(request, failure(response.status_code))
            return response

    async def _answer(self, request: Any) -> Any:
        with label(method=request.method):
            try:
                response = await self._get_response(request)
            except BaseException as error:
                _leave(request, type(error))
                raise
            _leave(request, failure(response.status_code))
            return response

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        """Note the route, which Django has found by now."""
        match = getattr(request, "resolver_match", None)
        under = label(route=f"/{match.route}" if match is not None else NO_ROUTE, outcome=self.outcome)
        setattr(request, _MARK, under)
        under.__enter__()

    def process_exception(self, request: Any, exception: BaseException) -> None:
        """Note what a view has raised: all that comes back of it is an answer."""
        setattr(request, _FAILED, type(exception))


class OutcomeMiddleware(LabelMiddleware):
    """The same, and how each view ends is noted, as ``label(outcome=True)`` does.

    That is what it raises, or `HTTP 500` and above where it answers with that.
    """

    outcome = True


def _leave(request: Any, kind: Optional[type]) -> None:
    under = getattr(request, _MARK, None)
    if under is not None:
        delattr(request, _MARK)
        under.__exit__(getattr(request, _FAILED, kind) if kind else None)


def label_statements(*, raw: bool = False, outcome: bool = False) -> None:
    """Run the statements of every connection, those that are open and those to come, under the label `sql`.

    Args:
        raw: label with the statements as they are, not with their shapes; parameters are never in there.
        outcome: note how each statement ends, as ``label(outcome=True)`` does.
    """
    from django.db import connections  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from django.db.backends.signals import connection_created  # type: ignore[import-not-found,import-untyped,unused-ignore]

    def execute(run: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        vendor = context["connection"].vendor
        with label_of(sql, "text" if vendor == "mysql" else "name", raw, outcome):
            return run(sql, params, many, context)

    def add(connection: Any, **_: Any) -> None:
        if not any(getattr(wrapper, "_memleak", False) for wrapper in connection.execute_wrappers):
            connection.execute_wrappers.append(execute)

    execute._memleak = True  # type: ignore[attr-defined]
    connection_created.connect(add, weak=False, dispatch_uid="memleak.labels")
    for connection in connections.all(initialized_only=True) if hasattr(connections, "all") else ():
        add(connection)
