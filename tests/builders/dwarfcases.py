"""All cases of debug information, by name."""

from __future__ import annotations

import entrycases  # noqa: F401 - each puts its own into the list
import filecases  # noqa: F401
import formcases  # noqa: F401
import linecases  # noqa: F401
import unitcases  # noqa: F401
from caselist import CASES

__all__ = ["CASES"]
