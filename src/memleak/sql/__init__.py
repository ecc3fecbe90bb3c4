"""Answer SQL over a snapshot: the table `malloc_sample_info` in an in-memory sqlite3 database."""

from .engine import Result, connect, run
from .tables import TABLE, VIEW

__all__ = ["TABLE", "VIEW", "Result", "connect", "run"]
