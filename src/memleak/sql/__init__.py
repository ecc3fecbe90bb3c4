"""Answer SQL over a snapshot: `malloc_sample_info` and other tables in an in-memory sqlite3 database."""

from .content import Content
from .engine import ANSWER_BYTES_MOST, TIMEOUT_S, QueryTimeout, Result, answer, limit_heap, run
from .schema import ALIAS, SAMPLES, TABLES

__all__ = [
    "ALIAS",
    "ANSWER_BYTES_MOST",
    "SAMPLES",
    "TABLES",
    "TIMEOUT_S",
    "Content",
    "QueryTimeout",
    "Result",
    "answer",
    "limit_heap",
    "run",
]
