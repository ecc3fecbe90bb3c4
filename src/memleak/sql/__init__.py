"""Answer SQL over a snapshot: `malloc_sample_info` and other tables in an in-memory sqlite3 database."""

from .engine import ANSWER_BYTES_MOST, QueryTimeout, Result, limit_heap, run
from .schema import ALIAS, SAMPLES, TABLES

__all__ = ["ALIAS", "ANSWER_BYTES_MOST", "SAMPLES", "TABLES", "QueryTimeout", "Result", "limit_heap", "run"]
