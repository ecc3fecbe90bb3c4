"""What our own questions allocate in a traced process is not the program's: it is left out of the recording.

In full mode it would be sampled, block by block, which makes a question of 50 ms one of ten seconds, and fills the recording with
its own reading. Costs nothing where the core is not loaded.
"""

from __future__ import annotations

from functools import wraps
from sys import modules

_NATIVE = f"{__package__}._native"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])


def aside(function: Function) -> Function:
    """Return *function* wrapped: what this thread allocates while it runs is not recorded; what it frees is."""

    @wraps(function)
    def put_aside(*args: Any, **kwargs: Any) -> Any:
        # Reading needs no core: not loaded, or just being loaded by another thread, it traces nothing.
        set_aside = getattr(modules.get(_NATIVE), "set_aside", None)
        if set_aside is None:
            return function(*args, **kwargs)
        before = set_aside(True)
        try:
            return function(*args, **kwargs)
        finally:
            set_aside(before)

    return put_aside  # type: ignore[return-value]
