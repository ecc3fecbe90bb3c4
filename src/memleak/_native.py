"""The core library, and the only module that uses cffi.

Nothing here is loaded until it is asked for: reading a recording needs no core. Only bytes, text
and numbers come out, never cffi's objects.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Any

from .errors import CoreError

LIBRARY = "libmemleak.so"

_loaded: Any = None


def library_path() -> str:
    """Return the path of libmemleak.so, which stands beside the cffi module; load nothing.

    Raises:
        CoreError: this installation has none.
    """
    spec = find_spec("memleak._memleak_ffi")
    if spec is None or spec.origin is None:
        where = os.path.dirname(os.path.abspath(__file__))
        raise CoreError(
            f"{where}: no _memleak_ffi{EXTENSION_SUFFIXES[0]} and so no {LIBRARY};"
            " this copy only reads recordings: install the memleak package"
        )
    path = os.path.join(os.path.dirname(os.path.abspath(spec.origin)), LIBRARY)
    if not os.path.exists(path):
        raise CoreError(f"{path}: no such file; reinstall the memleak package")
    return path


def build_id() -> str:
    """Return the build id of the core in this process, in hexadecimal."""
    return _text(_core().memleak_build_id())


def is_recording() -> bool:
    """Tell whether the core in this process is recording."""
    return bool(_core().memleak_is_recording())


def recording_path() -> str | None:
    """Return the path of this process's recording, None while there is none."""
    path = _core().memleak_recording_path()
    return _text(path) or None


def poll() -> None:
    """Let the core do its cold chores now: notice objects, back pages, name threads."""
    _core().memleak_poll()


def _core() -> Any:
    """Return the core's functions after checking that it is the one we were built with."""
    global _loaded
    if _loaded is None:
        try:
            module = import_module("memleak._memleak_ffi")
        except ImportError as error:
            raise CoreError(f"loading {LIBRARY}: {error}; reinstall the memleak package") from error
        lib, text = module.lib, module.ffi.string
        found, expected = text(lib.memleak_build_id()).decode(), text(lib.memleak_expected_build_id()).decode()
        if lib.memleak_abi_version() != lib.MEMLEAK_ABI_VERSION or found != expected:
            # Typical: LD_PRELOAD names the core of another installation, and the loader keeps one.
            raise CoreError(
                f"{LIBRARY} in this process has ABI {lib.memleak_abi_version()}, build {found}, this package needs ABI"
                f" {lib.MEMLEAK_ABI_VERSION}, build {expected}; preload {LIBRARY} of this installation, or none"
            )
        _loaded = lib
    return _loaded


def _text(pointer: Any) -> str:
    return os.fsdecode(import_module("memleak._memleak_ffi").ffi.string(pointer)) if pointer else ""
