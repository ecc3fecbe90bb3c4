"""SQL over a snapshot: right answers, sqlite's words, and nothing but reading."""

import resource
import time

import pytest
from recordingwriter import RecordingWriter

from memleak import recording, sql
from memleak.errors import QueryError
from memleak.query import Snapshot
from memleak.rows import COLUMNS


@pytest.fixture(scope="module")
def snapshot():
    """Two stacks, of 3 and 1 live samples."""
    writer = RecordingWriter()
    app = writer.module("/opt/app", main=True)
    first, second = writer.row([(app, 0x10)]), writer.row([(app, 0x20)], domain=2)
    for _ in range(3):
        writer.live(first, size=100, weight=136)
    writer.live(second, size=1 << 62, weight=1)
    return Snapshot(recording.parse(writer.bytes()))


def test_oceanbases_query(snapshot):
    """The query of OceanBase's handbook works on either name of the table."""
    query = "SELECT * FROM {} WHERE mod_name = 'glibc_malloc' ORDER BY alloc_bytes DESC LIMIT 10"
    for table in ("malloc_sample_info", "__all_virtual_malloc_sample_info"):
        columns, rows = snapshot.sql(query.format(table))
        assert columns == tuple(COLUMNS)
        assert len(rows) == 1 and rows[0][columns.index("alloc_bytes")] == 300


def test_types_and_nulls(snapshot):
    """Numbers are numbers, a flag is 0 or 1, what has no value is NULL."""
    _, rows = snapshot.sql(
        "SELECT typeof(est_bytes), typeof(age_p50), exact, native_trace FROM malloc_sample_info WHERE samples = 3"
    )
    assert rows == [("integer", "real", 0, None)]


def test_parameters(snapshot):
    """Values are bound, by position or by name."""
    assert snapshot.sql("SELECT count(*) FROM malloc_sample_info WHERE alloc_count > ?", (2,)).rows == [(1,)]
    assert snapshot.sql("SELECT :x + 1", {"x": 4}).rows == [(5,)]
    with pytest.raises(QueryError, match="SQL: "):
        snapshot.sql("SELECT ?", ())


def test_numbers_above_63_bits_are_cut():
    """A hostile size does not break the table."""
    writer = RecordingWriter()
    writer.live(writer.row(()), size=2**64 - 1, weight=9)
    found = Snapshot(recording.parse(writer.bytes())).sql("SELECT est_bytes FROM malloc_sample_info")
    assert found.rows == [((1 << 63) - 1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM malloc_sample_info",
        "UPDATE malloc_sample_info SET samples = 1",
        "INSERT INTO malloc_sample_info DEFAULT VALUES",
        "DROP TABLE malloc_sample_info",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "ATTACH '/etc/passwd' AS x",
        "PRAGMA query_only = OFF",
        "PRAGMA database_list",
        "VACUUM INTO '/tmp/x'",
        "BEGIN",
        "SELECT load_extension('/x.so')",
        "SELECT zeroblob(1000000000)",
    ],
)
def test_only_reading(snapshot, statement):
    """Whatever writes, attaches, loads or configures is refused."""
    with pytest.raises(QueryError):
        snapshot.sql(statement)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM malloc_sample_info", "no such column: nope"),
        ("SELECT * FROM nope", "no such table: nope"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "statement is needed"),
        ("-- nothing", "no rows"),
        ("SELECT '\0'", "null"),
    ],
)
def test_bad_statements_come_back_in_sqlites_words(snapshot, statement, words):
    """The message says what sqlite says."""
    with pytest.raises(QueryError, match=words):
        snapshot.sql(statement)


def test_time_is_bounded(snapshot):
    """A query without end is given up."""
    began = time.monotonic()
    with pytest.raises(QueryError, match="given up after 0.2 s"):
        sql.run(
            snapshot,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
            timeout_s=0.2,
        )
    assert time.monotonic() - began < 5


def test_rows_are_bounded(snapshot):
    """An answer that is too long is given up."""
    with pytest.raises(QueryError, match="more than 100 rows"):
        sql.run(
            snapshot,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            rows_most=100,
        )


@pytest.mark.parametrize("columns", [1, 30])
def test_bytes_are_bounded(snapshot, columns):
    """So is one with few rows of long values: asked for 20 times what is allowed, with room for four times as much."""
    value = "printf('%.*c', 4000000, 'x')"
    rows = 20 * sql.ANSWER_BYTES_MOST // 4_000_000 // columns
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})"
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 4 * sql.ANSWER_BYTES_MOST, hard))
    try:
        with pytest.raises(QueryError, match="more than 256 MiB"):
            sql.run(snapshot, f"{numbers} SELECT {', '.join([value] * columns)} FROM n", timeout_s=60)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
