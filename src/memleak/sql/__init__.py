"""Answer SQL over a snapshot: `malloc_sample_info` and its frames in an in-memory sqlite3 database."""

from .engine import ANSWER_BYTES_MOST, Result, connect, run
from .tables import FRAMES, TABLE, VIEW

__all__ = ["ANSWER_BYTES_MOST", "FRAMES", "TABLE", "VIEW", "Result", "connect", "run"]
