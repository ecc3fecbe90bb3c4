"""The first process of a container: lay out its files, become its user, execute its program.

`container.py` starts it under unshare(1). Its argument is a JSON object: `shared_memory` (the directory of a tmpfs, to
be /dev/shm), `binds` (a directory outside -> the one it becomes), `writable` (directories that become a tmpfs),
`reachable` (directories that the user must get to), `uid`, `environment`, `command`. Everything else is read-only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
import sys
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, flags: int, kind: str = "none", data: str = "") -> None:
    """Call mount(2)."""
    words = [word.encode() for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source}: {os.strerror(number)}", target)


def make_reachable(directories: list[str]) -> None:
    """Let every user get to *directories*: what lies on the way and is closed to others becomes empty but for them."""
    closed: dict[str, list[str]] = {}
    for directory in directories:
        for parent in [str(parent) for parent in reversed(Path(directory).parents)]:
            if not os.stat(parent).st_mode & stat.S_IXOTH:
                closed.setdefault(parent, []).append(directory)
                break
    for parent, wanted in closed.items():
        descriptors = {directory: os.open(directory, os.O_PATH | os.O_DIRECTORY) for directory in wanted}
        mount("tmpfs", parent, 0, "tmpfs", "size=64k,mode=755")
        for directory in sorted(wanted):
            os.makedirs(directory, exist_ok=True)
            mount(f"/proc/self/fd/{descriptors[directory]}", directory, MS_BIND)


def mount_points() -> list[str]:
    """Return where something is mounted."""
    with open("/proc/self/mountinfo", "rb") as lines:
        return [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines]


def main() -> None:
    """Become the program."""
    wanted = json.loads(sys.argv[1])
    mount(wanted["shared_memory"], "/dev/shm", MS_BIND)
    for source, target in wanted["binds"].items():
        mount(source, target, MS_BIND)
    for target in wanted["writable"]:
        mount("tmpfs", target, 0, "tmpfs", "size=4m,mode=1777")
    make_reachable(wanted["reachable"])
    for target in dict.fromkeys(mount_points()):
        if target in ("/dev/shm", "/proc", *wanted["writable"]):
            continue
        try:
            mount("none", target, MS_REMOUNT | MS_BIND | MS_RDONLY)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):  # beneath another mount
                raise
    program = shutil.which(wanted["command"][0], path=wanted["environment"]["PATH"])
    if program is None:
        sys.exit(f"{wanted['command'][0]}: not found")
    os.chdir("/")
    os.setgroups([])
    os.setgid(wanted["uid"])
    os.setuid(wanted["uid"])
    os.execve(program, wanted["command"], wanted["environment"])


if __name__ == "__main__":
    main()
