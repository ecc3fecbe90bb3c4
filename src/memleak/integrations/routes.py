"""The route of a request: what is the same for many requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Optional

NO_ROUTE = "(no route)"
_SEGMENTS_MOST = 8
_SEGMENT_CHARACTERS = 32
_PLAIN = re.compile(r"[A-Za-z_.~-]+\Z|v\d{1,2}\Z")


def of_path(path: str) -> str:
    """Return a path with `*` for each part that is not plain letters: /users/42/posts becomes /users/*/posts.

    What a client makes up in letters is still as many routes as it likes: give the middleware your application's own
    where it takes paths of all kinds.
    """
    parts = path.split("/")
    shown = [
        part if not part or (len(part) <= _SEGMENT_CHARACTERS and _PLAIN.match(part)) else "*"
        for part in parts[: _SEGMENTS_MOST + 1]
    ]
    return "/".join(shown + ["…"] * (len(parts) > len(shown)))


def asked(route: Callable[[Any], object], request: Any) -> str:
    """Return what *route* says of a request; `(no route)` when it says nothing, or fails."""
    try:
        return str(route(request) or NO_ROUTE)
    except Exception:  # the application is to answer this request, not we
        return NO_ROUTE


def failure(status: object) -> Optional[type]:
    """Return what a request that was answered with *status* has failed with, `HTTP 500` and above; None: it has not.

    Frameworks answer with that when code of theirs has raised: who called them gets no exception.
    """
    code = status[:3] if isinstance(status, str) else str(status)
    return _failure(code) if len(code) == 3 and code.isdigit() and code[0] == "5" else None


@lru_cache(100)
def _failure(code: str) -> type:
    return type(f"HTTP {code}", (Exception,), {})
