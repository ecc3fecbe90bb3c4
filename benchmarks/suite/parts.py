"""What is measured beside the matrix of candidates and workloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PARTS: dict[str, Callable[..., dict[str, Any]]] = {}
