"""The environment that brings the core into a program."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Mapping

from .. import _native, config, locate
from ..errors import CoreError

LEAST_LIMIT = 64 << 20  # RLIMIT_AS and RLIMIT_DATA of a program that is preloaded


def loadable_core() -> tuple[str | None, str | None]:
    """Return the core's path as LD_PRELOAD can carry it, or None and the reason.

    The loader splits LD_PRELOAD at blanks and colons and expands ``$``; a path with one of these is
    reached through a symbolic link, which stays: programs still running may yet execute others.
    """
    try:
        path = _native.library_path()
    except CoreError as error:
        return None, str(error)
    if not set(path) & set(" :$\t\n;"):
        return path, None
    name = f"core-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.so"
    for directory in locate.directories():
        link = os.path.join(directory, name)
        if set(link) & set(" :$\t\n;"):
            continue
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if os.stat(directory, follow_symlinks=False).st_uid != os.getuid():
                continue
            if not (os.path.islink(link) and os.readlink(link) == path):
                temporary = f"{link}.{os.getpid()}"
                os.symlink(path, temporary)
                os.replace(temporary, link)
            return link, None
        except OSError:
            continue
    return None, f"{path}: LD_PRELOAD cannot carry this path, and no runtime directory can hold a link to it"


def limit_obstacle() -> str | None:
    """Return why a program with the resource limits of this process must do without the core, None if it need not.

    The core takes 16 MiB of address space when it is loaded and as much as `MEMLEAK_ROOM` says for its recording. With less
    left the loader cannot bring in the program's own libraries, or the program runs into its limit earlier than without us.
    """
    for limit, name, option in ((resource.RLIMIT_AS, "address space", "-v"), (resource.RLIMIT_DATA, "data segment", "-d")):
        size, _ = resource.getrlimit(limit)
        if size != resource.RLIM_INFINITY and size < LEAST_LIMIT:
            return (
                f"the {name} is limited to {size >> 20} MiB (ulimit {option}), and the core needs a limit of"
                f" {LEAST_LIMIT >> 20} MiB or more"
            )
    return None


def environment(
    base: Mapping[bytes, bytes], core: str, run_id: str, knobs: Mapping[str, str], *, follow: bool
) -> dict[bytes, bytes]:
    """Return *base* with the core preloaded and switched on."""
    changed = dict(base)
    if b"LC_CTYPE" in changed and not _in_original_environment(b"LC_CTYPE"):
        del changed[b"LC_CTYPE"]  # Python sets it in the C locale; the program must not see that
    earlier = changed.get(b"LD_PRELOAD", b"")
    changed[b"LD_PRELOAD"] = os.fsencode(core) + (b":" + earlier if earlier else b"")
    changed[b"MEMLEAK"] = b"1"
    changed[b"MEMLEAK_RUN_ID"] = run_id.encode()
    changed.pop(b"MEMLEAK_FOLLOW", None)
    if follow:
        changed[b"MEMLEAK_FOLLOW"] = b"1"
    if "MEMLEAK_MODE" in knobs:
        # A mode given here must not be overruled by intervals that the environment brings along.
        for name in config.INTERVAL_VARIABLES:
            changed.pop(name.encode(), None)
    changed.update({name.encode(): value.encode() for name, value in knobs.items()})
    return changed


def _in_original_environment(name: bytes) -> bool:
    try:
        with open("/proc/self/environ", "rb") as stream:
            return any(entry.startswith(name + b"=") for entry in stream.read().split(b"\0"))
    except OSError:
        return True
