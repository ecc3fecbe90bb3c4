"""What memleak.pth calls when Python starts with `MEMLEAK=1`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Start tracing, unless the preloaded core decides that, or this is the command `memleak`.

    What stops tracing is said in one line on standard error. Never raises.
    """
    if _is_our_command() or _is_core_here():
        return
    from . import session

    try:
        session.start()
    except Exception as error:  # whatever it is, the program must start
        session.tell(f"not tracing: {type(error).__name__}: {error}")


def _is_our_command() -> bool:
    """Tell whether this is `memleak top` or the like: its recording would push out one that is wanted."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":
        words = getattr(sys, "orig_argv", [])  # Python 3.10; before, the module's name is not known here
        return "-m" in words and words[words.index("-m") + 1 :][:1] == ["memleak"]
    return name == "memleak"


def _is_core_here() -> bool:
    """Tell whether the core is in this process before any import: it was preloaded, and has started or said why not.

    To ask it would load what reaches it into a program that may never use it.
    """
    try:
        with open("/proc/self/maps", "rb") as file:
            return b"/libmemleak.so" in file.read()
    except OSError:
        return False
