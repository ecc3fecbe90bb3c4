"""How numbers, tables and traces look."""

from __future__ import annotations

import io

import pytest

from memleak.cli import render
from memleak.rows import Row

EMPTY = dict.fromkeys(Row._fields)


def row(**values) -> Row:
    """Return a row with the columns given; the others are as in a row about nothing."""
    base = {**EMPTY, "trace": (), "frames": (), "est_bytes": 0, "est_count": 0, "samples": 0}
    return Row(**{**base, "alloc_bytes": 0, "alloc_count": 0, "exact": False, **values})


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (27_682_406, "26.4 MiB"), (-2048, "-2.0 KiB"), (None, "-")],
)
def test_size(number, text):
    """The largest unit that leaves a number above 1."""
    assert render.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172800, "2d"), (None, "-")]
)
def test_age(seconds, text):
    """One unit is enough."""
    assert render.age(seconds) == text


def test_table_aligns_columns():
    """Words to the left, numbers to the right, no blanks at the end."""
    assert render.table(["name", "n"], [["a", "10"], ["long one", "7"]]) == [
        "name       n",
        "a         10",
        "long one   7",
    ]


def test_interval_says_why_it_is_missing():
    """Exact, unknown, or two limits."""
    assert render.interval(row(exact=True)) == "exact"
    assert render.interval(row()) == "no interval"
    assert render.interval(row(est_bytes_low=0, est_bytes_high=2048)) == "0 B … 2.0 KiB"


def test_trace_is_cut_and_escaped():
    """Control characters of a hostile file do not reach the terminal."""
    assert render.trace(row()) == []
    named = row(trace=("f at a.c:3", "g\x1b[31m", "h"))
    assert render.trace(named, indent="") == ["f at a.c:3", "g\\x1b[31m", "h"]
    assert render.trace(named, indent="", most=1) == ["f at a.c:3", "… 2 more"]
    assert render.name_of(named) == "f at a.c:3"
    assert render.name_of(row(group="g")) == "g"


def test_top_table_heads_samples_as_sampled():
    """Nobody shall take the unscaled columns for the truth."""
    header, line = render.top_table([row(mod_name="glibc_malloc", est_bytes=2048, alloc_bytes=64)])
    assert "SAMPLED alloc_bytes" in header
    assert "SAMPLED alloc_count" in header
    assert "2.0 KiB" in line
    assert "64 B" in line


def test_write_replaces_what_the_stream_cannot_encode():
    """A terminal in the C locale gets question marks, not a traceback."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render.write(["0 … 1"], stream)
    stream.flush()
    assert raw.getvalue() == b"0 ? 1\n"
