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
    def set_aside(*args: Any, **kwargs: Any) -> Any:
        native = modules.get(_NATIVE)  # reading needs no core: not loaded, it traces nothing
        if native is None:
            return function(*args, **kwargs)
        before = native.set_aside(True)
        try:
            return function(*args, **kwargs)
        finally:
            native.set_aside(before)

    return set_aside  # type: ignore[return-value]
