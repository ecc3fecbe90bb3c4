"""What memleak.pth calls when Python starts with `MEMLEAK=1`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Start tracing, unless the preloaded core decides that, this is the command `memleak`, or rights were raised.

    What stops tracing is said in one line on standard error. Never raises.
    """
    if _is_our_command() or _is_core_here() or _has_raised_rights():
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


def _has_raised_rights() -> bool:
    """Tell whether this Python may do more than whoever executed it, who has made its environment.

    The loader ignores preloads then, and so does the core: it is the program that may call `memleak.start()`.
    """
    from . import linkmaps

    try:
        return bool(linkmaps.auxiliary_vector(os.getpid()).get(linkmaps.AT_SECURE, 0))
    except OSError:  # no /proc here
        return os.getuid() != os.geteuid() or os.getgid() != os.getegid()
