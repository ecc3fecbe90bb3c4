"""Line tables: each CPython's own library read as that CPython reads it, and nothing hostile does harm."""

import json
import subprocess
import sys
import time
from pathlib import Path

import columnmodels
import compatenv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak import _columns, layout
from memleak.pylines import LineTable, line_of

DUMP = Path(__file__).resolve().parent.parent / "builders" / "dumplines.py"
LNOTAB, LINES, LOCATIONS = layout.LINE_TABLE_LNOTAB, layout.LINE_TABLE_LINES, layout.LINE_TABLE_LOCATIONS


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_lines_are_what_the_interpreter_says(version):
    """Every instruction of the standard library's modules, and of some odd code, has the interpreter's line."""
    python = compatenv.interpreter(version)
    if python is None and version == "{}.{}".format(*sys.version_info):
        python = sys.executable
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    dump = subprocess.run([python, str(DUMP)], check=True, capture_output=True, text=True).stdout.splitlines()
    instructions = 0
    for one in dump:
        form, table, first_line, size, ranges = json.loads(one)
        lines = LineTable(form, bytes.fromhex(table), first_line)
        ends = [start for start, _ in ranges[1:]] + [size]
        for (start, line), end in zip(ranges, ends):
            for offset in range(start, end, 2):
                assert lines.line(offset) == line, (version, one, offset)
            instructions += (end - start) // 2
    assert len(dump) > 5000 and instructions > 300_000


@pytest.mark.parametrize(
    ("form", "table", "expected"),
    [
        # From 10: 4 bytes, then line 11, 6 bytes, then 5 lines back.
        (LNOTAB, bytes([4, 1, 6, 251]), {0: 10, 3: 10, 4: 11, 9: 11, 10: 6, 5000: 6}),
        # More than 255 bytes and 127 lines take several pairs.
        (LNOTAB, bytes([255, 0, 45, 127, 0, 73]), {299: 10, 300: 210}),
        (LINES, bytes([4, 1, 2, 128, 6, 2]), {0: 11, 4: None, 6: 13, 11: 13, 12: None}),
        (LINES, bytes([0, 100, 2, 100]), {0: 210, 2: None}),
        # Short form, one-line form with 2 lines on, no line, no columns with 3 lines back, the long form.
        (
            LOCATIONS,
            bytes([0x80, 5, 0xE1, 0, 0, 0xF8, 0xE8, 7, 0xF0, 0x42, 1, 0, 1, 1]),
            {0: 10, 1: 10, 2: 12, 5: 12, 6: None, 8: 9, 10: 42, 11: 42, 12: None},
        ),
    ],
)
def test_forms(form, table, expected):
    """Each form, byte by byte."""
    for offset, line in expected.items():
        assert line_of(form, table, 10, offset) == line, offset


def test_no_table():
    """Unknown forms have no lines; an empty table has those its form gives it."""
    assert line_of(layout.LINE_TABLE_NONE, b"\x04\x01", 10, 0) is None
    assert line_of(99, b"\x04\x01", 10, 0) is None
    assert line_of(LNOTAB, b"", 10, 8) == 10
    assert line_of(LINES, b"", 10, 0) is line_of(LOCATIONS, b"", 10, 0) is None


def test_cut_table_says_no_more_than_it_knows():
    """Where the end of the table is missing, the range that it ends in is not believed."""
    table = bytes([4, 1, 6, 1])
    assert [line_of(LNOTAB, table, 10, offset, cut=True) for offset in (0, 4, 10, 99)] == [10, 11, None, None]
    assert line_of(LOCATIONS, bytes([0x80, 5, 0xE8, 0x42]), 10, 2) is None


def test_lines_out_of_range_are_none():
    """A line below 0 or above 31 bits is no line."""
    assert line_of(LNOTAB, bytes([2, 200]), 10, 2) is None
    assert line_of(LNOTAB, b"", -5, 0) is None
    top = (1 << 31) - 1
    assert line_of(LNOTAB, bytes([2, 1]), top, 0) == top and line_of(LNOTAB, bytes([2, 1]), top, 2) is None


@settings(max_examples=400, deadline=2000)
@given(
    st.integers(0, 4), st.binary(max_size=400), st.integers(-(2**31), 2**31 - 1),
    st.lists(st.integers(0, 2**31 - 1), max_size=8), st.booleans(),
)  # fmt: skip
def test_any_bytes_have_an_answer(kind, table, first_line, offsets, cut):
    """A line or None, whatever the table; the same for one question as for many."""
    lines = LineTable(kind, table, first_line, cut=cut)
    for offset in offsets:
        line = lines.line(offset)
        assert line is None or 0 <= line < 2**31
        assert line == line_of(kind, table, first_line, offset, cut=cut)


@settings(max_examples=600, deadline=2000)
@given(
    st.integers(0, 4),
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from([0x80, 0x87, 0xE8, 0xEF, 0xF0, 0xF7, 0xFF, 0xD0, 0xE0, 0x40, 0x7F, 0, 1, 2]), max_size=300
        ).map(bytes),
    ),
    st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(2**31 - 300, 2**31 - 1), st.integers(-20, 20)),
    st.booleans(),
)
def test_ranges_are_those_of_the_model(kind, table, first_line, cut):
    """Each range begins where it does in Python, and has its line."""
    starts, lines = _columns.lines(kind, table, first_line, cut)
    found = memoryview(starts).cast("I").tolist(), memoryview(lines).cast("i").tolist()
    assert found == columnmodels.lines(kind, table, first_line, cut)


@pytest.mark.parametrize(("kind", "pair", "step"), [(LNOTAB, bytes([255, 1]), 255), (LINES, bytes([254, 1]), 254)])
def test_offsets_end_where_those_of_frames_do(kind, pair, step):
    """A table of so many ranges that their offsets have no 31 bits ends with the last one that has."""
    number = (1 << 31) // step + 2
    starts, lines = _columns.lines(kind, pair * number, 1, False)
    found = memoryview(starts).cast("I")
    assert len(found) == memoryview(lines).nbytes // 4 == ((1 << 31) - 1) // step + 1
    assert found[-1] == ((1 << 31) - 1) // step * step


@pytest.mark.parametrize("byte", [0x00, 0x40, 0x7F, 0x80, 0xE8, 0xF0, 0xFF])
@pytest.mark.parametrize("kind", [LNOTAB, LINES, LOCATIONS])
def test_long_tables_take_time_in_proportion(kind, byte):
    """4 MiB of anything within 8 s on a busy machine (below 2 s on an idle one); lookups then cost nothing."""
    began = time.process_time()
    lines = LineTable(kind, bytes([0xE8, byte]) * (2 << 20), 1)
    for offset in range(0, 1 << 20, 64):
        lines.line(offset)
    assert time.process_time() - began < 8
