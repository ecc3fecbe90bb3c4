"""SQL over a snapshot: right answers, sqlite's words, and nothing but reading."""

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import time

import pytest
from recordingwriter import RecordingWriter

from memleak import recording, sql
from memleak.errors import QueryError
from memleak.query import Snapshot
from memleak.rows import COLUMNS
from memleak.symbolize.frames import Frame


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
        assert columns == (*COLUMNS, "stack_id")
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
        ("-- nothing", "incomplete input"),
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
    value = "replace(hex(replace(printf('%.*c', 1000, 'x'), 'x', printf('%1000s', 'x'))), '8', '08')"
    rows = 20 * sql.ANSWER_BYTES_MOST // 2_000_000 // columns
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


@pytest.mark.parametrize(
    "expression",
    [
        "printf('%.2000000000c', 'x')",
        "format('%*d', 2000000000, 1)",
        "instr({a}, substr({a}, 1, 1000000) || 'b')",
        "replace({a}, substr({a}, 1, 1000000) || 'b', 'c')",
        "trim({a}, substr(replace({a}, 'a', 'b'), 1, 1000000) || 'a')",
        "'a' LIKE substr({a}, 1, 40000)",
        "replace({a}, 'a', {a})",
    ],
)
def test_one_call_of_a_function_is_bounded(snapshot, expression):
    """Time is looked at between calls: instr of two long texts took 80 s of CPU, printf with a wide place 7 s."""
    text = "replace(replace(printf('%1000s', ' '), ' ', printf('%1000s', ' ')), ' ', 'a')"
    began = time.process_time()
    with contextlib.suppress(QueryError):
        sql.run(snapshot, f"SELECT length({expression.format(a=text)})", timeout_s=5)
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    "call",
    [
        "printf('%d of %5.1f%%, %-6s| %06d %+d %x', 7, 12.345, 'ab', -42, 3, 255)", "printf('%,d %lld %lu', 1234567, 5, 6)",
        "printf('%s %s', NULL, 1.5)", "format('%Q %q %w', 'it''s', 'it''s', 'a\"b')", "printf('%d %f', 'x', '2.5y')",
        "printf('%c%.3c|%.2s', 'xyz', 'ab', 'hello')", "printf('%*d|%-*d|', 5, 1, 4, 2)", "printf(NULL)", "printf('%e %g', 1234.5, 0.00001)",
        "instr('hello', 'l')", "instr('hello', '')", "instr(NULL, 'a')", "instr(x'0102', x'02')", "instr(12345, 34)",
        "replace('aXbX', 'X', '--')", "replace('a', '', 'b')", "replace(121, 1, 3)", "replace('a', NULL, 'b')",
        "trim('  a ')", "ltrim('xxaxx', 'x')", "rtrim('xyaxy', 'yx')", "trim('a', '')", "trim(NULL)",
    ],
)  # fmt: skip
def test_functions_in_place_of_sqlites_return_what_those_do(snapshot, call):
    """They differ in what is too long only."""
    own = sqlite3.connect(":memory:").execute(f"SELECT {call}").fetchall()
    assert sql.run(snapshot, f"SELECT {call}").rows == own


# Of one command: what this process's children took is the most of all of them, and a child begins with its parent's peak.
PEAK_OF = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def test_the_command_bounds_what_sqlite_takes(tmp_path):
    """A join of ten thousand million rows to sort ends for want of memory, and no temporary file takes its place."""
    path = tmp_path / "two.mlrec"
    writer = RecordingWriter()
    for number in range(60):
        writer.live(writer.row([(writer.module(f"/opt/{number}.so"), 0x10)]), size=1)
    path.write_bytes(writer.bytes())
    tables = ", ".join(f"stacks s{number}" for number in range(6))
    query = f"SELECT s0.stack_id, s1.back_trace FROM {tables} ORDER BY s2.stack_id * s3.stack_id % 1009"
    command = [sys.executable, "-m", "memleak", "sql", path, query, "--no-symbols"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF, *command], capture_output=True, text=True,
        env={**os.environ, "SQLITE_TMPDIR": str(tmp_path / "nowhere")},
    )  # fmt: skip
    assert done.returncode == 1
    assert "not enough memory" in done.stderr or "given up after" in done.stderr
    assert int(done.stdout) < 1_000_000, "KiB"


def workers(number=3):
    """Return a snapshot of processes with the same two stacks, whose modules have different numbers."""
    recordings = []
    for pid in range(1, number + 1):
        writer = RecordingWriter(pid=pid, recording_id=pid, heartbeat_cs=6000)
        others = [writer.module(f"/usr/lib/other{i}.so", build_id=bytes([90 + i]) * 20) for i in range(pid)]
        app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
        lib = writer.module("/usr/lib/libx.so", build_id=b"\x02" * 20)
        thread = writer.thread(100 + pid, b"worker", samples=5)
        first = writer.row([(lib, 0x20), (app, 0x10)], bytes=5000 * pid, samples=4, peak=900)
        second = writer.row([(others[0], 0x30)], domain=6)
        for _ in range(pid):
            writer.live(first, size=100, weight=136, thread=thread)
        writer.live(second, size=70_000, weight=1)
        recordings.append(recording.parse(writer.bytes()))
    return Snapshot(recordings)


class Namer:
    """Names a place after its address."""

    def frames(self, path, build_id, vaddr, exact):
        return [Frame(f"f{vaddr:x}{'!' if exact else ''}", "a.c", 7, False, path, vaddr)]


def test_a_stack_of_three_processes_is_one_when_grouped():
    """Each process has its own row; `back_trace` and `stack_id` bring them together."""
    snapshot = workers()
    query = "SELECT svr_port, alloc_bytes FROM malloc_sample_info WHERE mod_name = 'glibc_malloc' ORDER BY 1"
    assert snapshot.sql(query).rows == [(1, 100), (2, 200), (3, 300)]
    for key in ("stack_id", "back_trace"):
        query = f"SELECT {key}, count(*), sum(alloc_bytes) FROM malloc_sample_info GROUP BY {key} ORDER BY 3 DESC"
        assert [row[1:] for row in snapshot.sql(query).rows] == [(3, 210_000), (3, 600)]
    assert snapshot.sql("SELECT count(*) FROM stacks").rows == [(2,)]


def test_every_column_is_that_of_the_rows():
    """What is computed when asked for is what `rows()` says, whether alone, in a condition or joined."""
    snapshot = workers(1)
    query = f"SELECT {', '.join(COLUMNS)} FROM malloc_sample_info"
    expected = [row.values() for row in snapshot.rows()]
    assert snapshot.sql(query).rows == expected
    columns = ", ".join(f"s.{name}" for name in COLUMNS)
    joined = f"SELECT {columns} FROM malloc_sample_info s JOIN stacks USING (stack_id) ORDER BY s.est_bytes DESC"
    assert snapshot.sql(joined).rows == expected
    for name in COLUMNS:
        assert snapshot.sql(f"SELECT {name} FROM malloc_sample_info").rows == [
            (row[list(COLUMNS).index(name)],) for row in expected
        ]


def test_other_tables():
    """Each has what the recordings say, told apart by server and port, joined by the stack."""
    snapshot = workers()
    assert snapshot.sql("SELECT svr_port, tid, name, total_samples, alloc_bytes FROM threads ORDER BY 1").rows == [
        (1, 101, "worker", 5, 100), (2, 102, "worker", 5, 200), (3, 103, "worker", 5, 300),
    ]  # fmt: skip
    assert snapshot.sql("SELECT count(*), count(DISTINCT build_id) FROM modules WHERE is_main").rows == [(3, 1)]
    query = "SELECT requested, effective, default_value, least, greatest FROM parameters WHERE alias = ?"
    assert snapshot.sql(query, ["_max_malloc_sample_interval"]).rows == [(256, 256, 256, 1, 10000)] * 3
    query = "SELECT position, module, build_id, vaddr FROM frames JOIN stacks USING (stack_id)"
    query += " WHERE depth = 2 ORDER BY 1"
    assert snapshot.sql(query).rows == [(0, "/usr/lib/libx.so", "02" * 20, 0x20), (1, "/opt/app", "01" * 20, 0x10)]
    query = (
        "SELECT s.alloc_bytes, h.est_bytes FROM malloc_sample_info s"
        " JOIN history h USING (svr_ip, svr_port, stack_id, mod_name) WHERE mod_name = 'glibc_malloc' ORDER BY 1"
    )
    assert snapshot.sql(query).rows == [(100, 5000), (200, 10000), (300, 15000)]
    for name in sql.TABLES:
        assert snapshot.sql(f"SELECT * FROM {name}").columns == tuple(sql.TABLES[name].columns)


def test_functions():
    """Names by build and address, and bytes in words; NULL for what is not known."""
    snapshot = workers(1).with_symbolizer(Namer())
    build = "01" * 20
    assert snapshot.sql(f"SELECT symbol('{build}', 16), addr2line('{build}', 16)").rows == [("f10", "f10 at a.c:7")]
    assert snapshot.sql("SELECT symbol('ff', 16), symbol(NULL, 'x'), addr2line(1, -1)").rows == [(None,) * 3]
    assert snapshot.sql("SELECT human(1536), human(2), human('x')").rows == [("1.5 KiB", "2 B", None)]
    assert workers(1).sql(f"SELECT symbol('{build}', 16)").rows == [(None,)]
    query = "SELECT symbol(build_id, vaddr) FROM frames JOIN stacks USING (stack_id) WHERE depth = 2 ORDER BY position"
    assert snapshot.sql(query).rows == [("f20",), ("f10",)]


def test_names_are_looked_up_for_what_is_shown():
    """Ordering and limiting do not ask for the names of every stack."""
    asked = []

    class Counting(Namer):
        def frames(self, *place):
            asked.append(place)
            return super().frames(*place)

    writer = RecordingWriter(live_capacity=2048, index_capacity=2048)
    app = writer.module("/opt/app", main=True)
    for number in range(500):
        writer.live(writer.row([(app, 0x10 + number)]), size=1000 - number)
    snapshot = Snapshot(recording.parse(writer.bytes()), symbolizer=Counting())
    assert len(snapshot.sql("SELECT * FROM malloc_sample_info ORDER BY alloc_bytes DESC LIMIT 10").rows) == 10
    assert len(asked) < 50
    snapshot.sql("SELECT mod_name, sum(est_bytes) FROM malloc_sample_info GROUP BY 1")
    assert len(asked) < 50


def test_what_computes_columns_cannot_be_called(snapshot):
    """It is for the view alone."""
    with pytest.raises(QueryError, match="only SELECT is allowed"):
        snapshot.sql("SELECT _compute(1, 2)")
