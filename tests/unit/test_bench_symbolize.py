"""How the texts of tools are cut into answers, and what their differences are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from symbolize import agreement, blocks, report
from symbolize.blocks import Frame
from symbolize.programs import Program

TEXT = """0x0000000000001000
inner(int) inlined at /src/f.c:9:4 in outer
/src/f.h:3 (discriminator 2)
outer
/src/f.c:?
0x0000000000001008
??
??:0
0x0000000000001010
other
/src/g.c:12:7
"""
INNER, OUTER = Frame("inner", "f.h", 3, 0), Frame("outer", "f.c", 9, 0)


def test_a_text_is_cut_into_answers():
    assert blocks.cut(TEXT.splitlines()) == [
        [Frame("inner(int)", "/src/f.h", 3, 2), Frame("outer", "/src/f.c", None, 0)],
        [Frame("??", "??", None, 0)],
        [Frame("other", "/src/g.c", 12, 0)],
    ]


def program(name: str, base: str = "gcc-5") -> Program:
    return Program(name, Path("a"), Path("a"), Path("."), base)


@pytest.mark.parametrize(
    ("kind", "name", "base", "mine", "other"),
    [
        ("same", "gcc-5", "gcc-5", [INNER, OUTER], [INNER, OUTER]),
        ("1", "zlib", "clang-5", [INNER, OUTER], [OUTER]),
        ("other", "gcc-5", "gcc-5", [INNER, OUTER], [OUTER]),
        ("2", "gcc-split-5", "gcc-split-5", [INNER, OUTER], [OUTER]),
        ("3", "dwz-alternate", "gcc-4", [INNER, OUTER], [OUTER]),
        ("4", "gcc-5", "gcc-5", [INNER._replace(function="f()"), OUTER], [INNER._replace(function="outer"), OUTER]),
        ("5", "gcc-5", "gcc-5", [OUTER], [OUTER._replace(function="outer [clone .isra.0]")]),
        ("6", "gcc-5", "gcc-5", [OUTER._replace(function="??")], [OUTER]),
        ("7", "gcc-5", "gcc-5", [Frame("f", "??", None, 0)], [Frame("f", "crtstuff.c", None, 0)]),
        ("8", "libpython", "libpython", [OUTER], [OUTER._replace(file="g.c")]),
        ("9", "rust", "rust", [OUTER], [OUTER._replace(function="outer::h0123")]),
        ("11", "gcc-5", "gcc-5", [INNER, OUTER], [INNER, OUTER._replace(discriminator=1)]),
        ("other", "gcc-5", "gcc-5", [INNER, OUTER], [INNER._replace(line=4), OUTER]),
    ],
)
def test_a_difference_has_a_kind(kind, name, base, mine, other):
    assert agreement.kind_of(program(name, base), mine, other) == kind


def test_all_is_one_hundred_and_no_less():
    assert report.share({"compared": 3, "line": 3}, "line") == "100 %"
    assert report.share({"compared": 100_000, "line": 99_999}, "line") == "99.99 %"
    assert report.share({}, "line") == "–"
