"""Our reader of debug information and symbol tables: C, in an object of its own that neither hooks nor samples."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def reader() -> tuple[Any, Any]:
    """Return its `ffi` and `lib`, see native/symbolize/mlsym.h.

    Raises:
        ImportError: the package was not built for this Python.
    """
    module: Any = import_module("._dwarf", __package__)
    return module.ffi, module.lib
