"""Rows that a database client buffers: `execute` is the line that is named, and the bytes are the process's own.

The story: a table is copied row by row, the process grows by the whole table, and Python's own tools see nothing,
because the client library fetched every row during `execute`. See docs/explanation/python.md.

A buffer's bytes are compared with the growth of the same program run untraced, since the tracer's own tables lie in the
process's memory too. 10 % have room for what is bought beside the bytes asked for: malloc's header and rounding (16 of
some 450 bytes a row in SQLite's sorter, nothing to speak of for libmariadb's large blocks), pymalloc's size classes and
pool headers (4 % of these rows), and pages that were there before.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mariadbserver
import pytest
from mariadbserver import TEXT_BYTES

import compatenv
import memleak

PROGRAMS = Path(__file__).resolve().parent / "database"
ROWS = 100_000
PART = 0.1  # of the growth: the greatest difference
NONE = 0.02  # of what a buffer would hold: less than this is none of it
DEADLINE_S = 60
MOST = 1000  # rows that are looked at; thousands more of a few blocks each stand for the interpreter's start

# Per door, the variables that switch the tracer on; the programs know nothing of it.
DOORS = {"preload": {"MEMLEAK": "1", "MEMLEAK_FOLLOW": "1"}, "import": {"MEMLEAK": "1"}}
every_door = pytest.mark.parametrize("door", list(DOORS))

# What a program is started with, and what `memleak set` is told before it asks for rows. With the default 4 MiB between
# byte samples, a few hundred large blocks of 48 MB in all are known to 30 %; with short gaps, 10 % are more than five
# standard errors of what is measured here, if no budget widens them (rows made in 20 ms: 1 % becomes 8.5 %).
MODES: dict[str, tuple[dict[str, str], list[str]]] = {
    "full": ({"MEMLEAK_MODE": "full"}, []),
    "default": ({}, []),
    "short gaps": ({}, ["budget=0", "sample_bytes=16384", "python_min=2", "python_max=16"]),
}


class Seen(NamedTuple):
    """What a program that waits in the middle held."""

    gained: int  # by itself
    rows: list  # by est_bytes unless asked for otherwise, the greatest first


Observe = Callable[..., Seen]


@pytest.fixture
def observe(core_path: str, runtime_directory: Path) -> Observe:
    """Return what the tracer says of a program that waits: ``observe(DOOR, MODE, PYTHON, PROGRAM, *WORDS)``."""

    def run(door: str, mode: str, python: str, program: str, *words: object, by: str = "est_bytes") -> Seen:
        variables, knobs = MODES[mode]
        variables = {**DOORS[door], **variables, "MEMLEAK_SEED": "1", "MEMLEAK_ROOM": "128M"}
        if door == "preload":
            variables["LD_PRELOAD"] = core_path

        def prepare(pid: int) -> None:
            if knobs:
                command = [sys.executable, "-m", "memleak", "set", str(pid), *knobs]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)

        return stopped(python, program, words, variables, prepare, lambda pid: memleak.open(pid).top(MOST, by=by))

    return run


@cache
def growth(python: str, program: str, *words: object) -> int:
    """Return the bytes that a program gains, untraced."""
    return stopped(python, program, words, {}, lambda pid: None, lambda pid: []).gained


def stopped(
    python: str,
    program: str,
    words: tuple[object, ...],
    variables: dict[str, str],
    prepare: Callable[[int], None],
    look: Callable[[int], list],
) -> Seen:
    """Run a program, look at it where it stops in the middle, and let it end."""
    fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [python, str(PROGRAMS / program), *map(str, words)]
    with subprocess.Popen(command, env={**os.environ, **fixed, **variables}, **pipes) as started:
        assert started.stdout.readline() == "ready\n"
        prepare(started.pid)
        started.stdin.write("\n")
        started.stdin.flush()
        gained = int(started.stdout.readline())
        rows = look(started.pid)
        started.communicate("\n")
    assert started.returncode == 0
    return Seen(gained, rows)


def line_of(program: str, text: str, function: str) -> str:
    """Return the Python frame on the one line of a program with *text*."""
    source = PROGRAMS / program
    (number,) = [number for number, line in enumerate(source.read_text().splitlines(), 1) if text in line]
    return f"{function} at {source}:{number}"


def frames(row) -> list[str]:
    """Return the Python frames of a row, innermost first."""
    return (row.python_trace or "").split(" < ")


def of_program(row, program: str) -> str | None:
    """Return the innermost frame of a row that lies in the program itself."""
    return next((frame for frame in frames(row) if f" at {PROGRAMS / program}:" in frame), None)


def live(rows: list, frame: str) -> float:
    """Add up the live bytes of rows that go through a Python frame."""
    return sum(row.est_bytes for row in rows if frame in frames(row))


# ---- mysqlclient --------------------------------------------------------------------------------------------------

EXECUTE = line_of("copy_table.py", "cursor.execute(", "copy_table")
COPIED = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a MariaDB server that only this module reaches, with a table of ROWS; return its socket."""
    missing = mariadbserver.missing()
    if missing is not None:
        pytest.skip(missing)
    with mariadbserver.serving(ROWS) as socket:
        yield socket


@every_door
@pytest.mark.parametrize("mode", ["full", "short gaps"])
@pytest.mark.parametrize(
    ("cursor", "rows", "innermost"),
    [("StoredCursor", ROWS, "StoredCursor._get_result at "), ("Cursor", ROWS * 2 // 5, "BaseCursor._fetch_row at ")],
)
def test_rows_of_mysqlclient_are_found_at_execute(server, observe, door, mode, cursor, rows, innermost):
    """Whether the client library keeps them or MySQLdb has made them Python's: at the program's line, all of them."""
    words = ("copy_table.py", server, cursor, rows, COPIED)
    gained = growth(sys.executable, *words)
    assert gained > rows * (TEXT_BYTES - 10)
    seen = observe(door, mode, sys.executable, *words)
    top, found = seen.rows[0], live(seen.rows, EXECUTE)
    print(f"{cursor}, {door}, {mode}: {found:,.0f} of {gained:,} bytes, {found / gained - 1:+.1%}; exact: {top.exact}")
    assert of_program(top, "copy_table.py") == EXECUTE, top.python_trace
    assert top.python_trace.startswith(innermost) or sys.version_info < (3, 11)
    assert top.mod_name == ("glibc_malloc" if cursor == "StoredCursor" else "pymalloc_obj")
    assert abs(found - gained) <= PART * gained
    assert top.exact == (mode == "full")


@every_door
def test_rows_of_mysqlclient_are_found_with_default_gaps(server, observe, door):
    """48 MB in some 200 blocks make about 13 samples. One seed in 400,000 would take none; this one is fixed."""
    top = observe(door, "default", sys.executable, "copy_table.py", server, "StoredCursor", ROWS, COPIED).rows[0]
    assert of_program(top, "copy_table.py") == EXECUTE, top.python_trace
    assert top.mod_name == "glibc_malloc"


def test_peaks_have_what_mysqlclient_held_for_a_moment(server, observe):
    """Its usual cursor makes tuples of all rows while the client library has them too: they are bought twice."""
    rows = ROWS * 2 // 5
    buffered = growth(sys.executable, "copy_table.py", server, "StoredCursor", rows, COPIED)
    words = ("copy_table.py", server, "Cursor", rows, COPIED)
    seen = observe("preload", "full", sys.executable, *words, by="peak_bytes")
    there = [row for row in seen.rows if EXECUTE in frames(row) and "_get_result at " in frames(row)[0]]
    assert abs(sum(row.peak_bytes for row in there) - buffered) <= PART * buffered
    assert sum(row.est_bytes for row in there) <= NONE * buffered


@every_door
@pytest.mark.parametrize("mode", ["full", "default"])
def test_streaming_cursor_of_mysqlclient_holds_none(server, observe, door, mode):
    """Neither where it executes nor where it fetches, nor does the process grow."""
    words = ("copy_table.py", server, "SSCursor", ROWS, COPIED)
    most = NONE * ROWS * TEXT_BYTES
    assert growth(sys.executable, *words) <= most
    rows = observe(door, mode, sys.executable, *words).rows
    assert live(rows, EXECUTE) <= most
    if mode == "full":
        assert live(rows, line_of("copy_table.py", "cursor.fetchmany(", "copy_table")) <= most
        assert of_program(rows[0], "copy_table.py") != EXECUTE


# ---- a result that is there twice ---------------------------------------------------------------------------------

TWICE_ROWS = 40_000
EXECUTE_LIBRARY = "libmariadb.so"


class Twice(NamedTuple):
    """What is found in a program that fetches, and what it gained: by running the statement, and by its rows."""

    found: list
    executed: int
    fetched: int


def twice(door: str, mode: str, core: str, *words: object) -> Twice:
    """Run a program that labels its statements, traced, and untraced for the truth."""
    variables, knobs = MODES[mode]
    variables = {**DOORS[door], **variables, "MEMLEAK_SEED": "1", "MEMLEAK_ROOM": "128M"}
    if door == "preload":
        variables["LD_PRELOAD"] = core
    command = [sys.executable, str(PROGRAMS / "fetch_all.py"), *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    told = []
    for more in ({}, variables):
        with subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": "0", **more}, **pipes) as started:
            assert started.stdout.readline() == "ready\n"
            if more and knobs:
                setting = [sys.executable, "-m", "memleak", "set", str(started.pid), *knobs]
                subprocess.run(setting, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)
            started.stdin.write("\n")
            started.stdin.flush()
            told.append([int(number) for number in started.stdout.readline().split()])
            found = memleak.open(started.pid).materialised() if more else []
            started.communicate("\n")
        assert started.returncode == 0
    (gained, executed), _ = told
    return Twice(found, executed, gained - executed)


@every_door
@pytest.mark.parametrize("mode", ["full", "short gaps"])
def test_a_result_of_mysqlclient_that_is_there_twice_is_found(server, core_path, runtime_directory, door, mode):
    """The library keeps the rows, and all of them have been made Python's: both figures, and what to do."""
    seen = twice(door, mode, core_path, "mysql", server, "Stored", TWICE_ROWS, "all")
    (one,) = seen.found
    for found, truth in ((one.driver_bytes, seen.executed), (one.python_bytes, seen.fetched)):
        print(f"{door}, {mode}: {found.value:,.0f} of {truth:,} bytes, {found.value / truth - 1:+.1%}")
        assert abs(found.value - truth) <= PART * truth
    assert dict(one.labels) == {"sql": "SELECT id, text FROM source LIMIT ?"}
    assert (one.when, one.client) == ("now", "mysqlclient") and "SSCursor" in one.advice
    assert EXECUTE_LIBRARY in one.driver.row.back_trace and "_fetch_row at " in one.python.row.python_trace


@pytest.mark.parametrize("mode", ["full", "short gaps"])
def test_a_usual_cursor_has_had_it_twice(server, core_path, runtime_directory, mode):
    """It frees the library's rows when it has made its own: the peaks tell, to the figures of the one that does not."""
    truth = twice("preload", mode, core_path, "mysql", server, "Stored", TWICE_ROWS, "all")
    (one,) = twice("preload", mode, core_path, "mysql", server, "Cursor", TWICE_ROWS, "all").found
    assert one.when == "peak" and 0 <= one.apart_s < 10 and "SSCursor" in one.advice
    for found, held in ((one.driver_bytes, truth.executed), (one.python_bytes, truth.fetched)):
        print(f"{mode}: {found.value:,.0f} of {held:,} bytes, {found.value / held - 1:+.1%}")
        assert abs(found.value - held) <= PART * held
    assert one.driver.now.value <= NONE * truth.executed


@pytest.mark.parametrize("mode", ["full", "short gaps"])
@pytest.mark.parametrize(
    ("cursor", "way"), [("SSCursor", "iterate"), ("SSCursor", "all"), ("Stored", "iterate"), ("Cursor", "iterate")]
)
def test_a_result_that_is_there_once_is_not_found(server, core_path, runtime_directory, mode, cursor, way):
    """Streamed, with the rows kept or not; or buffered and then read one by one. Cursor makes all rows anyway."""
    seen = twice("preload", mode, core_path, "mysql", server, cursor, TWICE_ROWS, way)
    assert [one.when for one in seen.found] == (["peak"] if cursor == "Cursor" else [])


@pytest.mark.parametrize("column", ["id", "name"])
def test_sqlite_has_no_result_twice(database, core_path, runtime_directory, column):
    """Not when all rows are fetched; of rows that it has sorted it gives up those that become Python's."""
    seen = twice("preload", "full", core_path, "sqlite", database, column, TWICE_ROWS, "all")
    assert seen.found == []
    text = TWICE_ROWS * TEXT_BYTES
    assert seen.executed + seen.fetched < 2 * text
    if column == "name":
        assert seen.executed > text and seen.fetched < 0.5 * text


# ---- sqlite3 ------------------------------------------------------------------------------------------------------

SORTED_ROWS = 100_000
SORTED = line_of("read_sqlite.py", "cursor.execute(", "read")
FETCHED = line_of("read_sqlite.py", "cursor.fetchone(", "read")
# Through the import door an interpreter needs the package.
INTERPRETERS = [
    *(pytest.param("preload", version) for version in compatenv.VERSIONS),
    pytest.param("import", "own"),
    *(pytest.param("import", version, marks=pytest.mark.compat) for version in compatenv.VERSIONS),
]
every_interpreter = pytest.mark.parametrize(("door", "version"), INTERPRETERS)


def interpreter(door: str, version: str) -> str:
    """Return a CPython of this version, for the import door one with the package."""
    if version == "own":
        return sys.executable
    python = compatenv.interpreter(version) if door == "preload" else compatenv.python_with_package(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    return python


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a database with a table of SORTED_ROWS that has an index by id and none by name."""
    path = tmp_path_factory.mktemp("database") / "source.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT, text TEXT)")
    rows = ((n, f"name {n % 977} {n}", chr(97 + n % 26) * (TEXT_BYTES - n % 10)) for n in range(1, SORTED_ROWS + 1))
    connection.executemany("INSERT INTO source VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return str(path)


@every_interpreter
@pytest.mark.parametrize("mode", ["full", "default"])
def test_rows_sorted_by_sqlite_are_found_at_execute(database, observe, door, version, mode):
    """The first step sorts them all in memory: one block a row, one stack.

    Default gaps leave a standard error of 2 %, malloc's overhead a difference of 3 %.
    """
    python = interpreter(door, version)
    words = ("read_sqlite.py", database, "name", 100)  # SQLite gives up each row that it has returned
    gained = growth(python, *words)
    assert gained > SORTED_ROWS * (TEXT_BYTES - 10)
    top = observe(door, mode, python, *words).rows[0]
    print(f"{version}, {door}, {mode}: {top.est_bytes:,.0f} of {gained:,} bytes, {top.est_bytes / gained - 1:+.1%}")
    assert frames(top)[0] == SORTED, top.python_trace
    assert top.mod_name == "glibc_malloc"
    assert abs(top.est_bytes - gained) <= PART * gained
    assert top.exact == (mode == "full")


@every_interpreter
def test_rows_streamed_by_sqlite_are_not_held(database, observe, door, version):
    """In the order that the table has, a row is read when it is asked for."""
    python = interpreter(door, version)
    words = ("read_sqlite.py", database, "id", SORTED_ROWS // 2)
    most = NONE * SORTED_ROWS * TEXT_BYTES
    assert growth(python, *words) <= most
    rows = observe(door, "full", python, *words).rows
    assert live(rows, SORTED) + live(rows, FETCHED) <= most
    assert frames(rows[0])[0] not in (SORTED, FETCHED)
