"""Answer SQL over a snapshot: `malloc_sample_info` and its frames in an in-memory sqlite3 database."""

from .engine import Result, connect, run
from .tables import FRAMES, TABLE, VIEW

__all__ = ["FRAMES", "TABLE", "VIEW", "Result", "connect", "run"]
