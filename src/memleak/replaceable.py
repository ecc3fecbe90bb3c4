"""What a copy of a recording may take the place of. Whoever only asks need not load what reads recordings."""

from __future__ import annotations

import os
import stat


def is_replaceable(path: str | os.PathLike[str]) -> bool:
    """Tell whether a copy may take the name *path*: nothing has it, or a regular file.

    A device, a pipe or a link is no earlier copy: root would replace /dev/null, or what /dev/stdout is called.
    """
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True
