"""The decoder's idea of a recording is the C header's: constants, enumerations, counters, offsets.

The header and its parts are read twice: as text, which needs no compiler, and by a C program that prints
what the compiler made of them.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from memleak import layout
from memleak.records import Header

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "native" / "include" / "memleak_format.h"
PARTS = [HEADER.with_name(name) for name in re.findall(r'^#include "(mlf_\w+\.h)"$', HEADER.read_text(), re.MULTILINE)]
WHOLE = "".join(path.read_text() for path in [HEADER, *PARTS])
TEXT = re.sub(r"//[^\n]*", "", WHOLE)
SIZES = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I", "uint64_t": "Q", "int32_t": "i", "int64_t": "q", "char": "s"}


def constants():
    """Yield (name without MLF_, value) of each numeric #define and enumerator."""
    for name, expression in re.findall(r"^#define (MLF_\w+) (.+)$", TEXT, re.MULTILINE):
        plain = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", expression.strip())
        if re.fullmatch(r"[\s0-9a-fA-FxX<>()+\-*]+", plain):
            yield name[4:], eval(plain)
    for body in re.findall(r"enum mlf_\w+ \{([^#}]*)\};", TEXT):
        for name, value in re.findall(r"(MLF_\w+) = (\d+)", body):
            yield name[4:], int(value)


def test_header_includes_every_part():
    """No part of the format is left out of what the other tests read."""
    assert sorted(PARTS) == sorted(HEADER.parent.glob("mlf_*.h"))


def test_every_constant_has_its_value():
    """Each constant and enumerator of the header that the decoder names has the header's value."""
    found = dict(constants())
    assert len(found) > 50
    for name, value in found.items():
        if name.startswith("DOMAIN_"):
            assert 0 <= value < len(layout.DOMAINS)
            continue
        assert getattr(layout, name) == value, name


def test_every_domain_has_a_name():
    """DOMAINS is as long as the enumeration, without a gap."""
    values = sorted(value for name, value in constants() if name.startswith("DOMAIN_"))
    assert values == list(range(len(layout.DOMAINS)))


def test_counters_in_order_with_their_meaning():
    """COUNTERS lists the header's counters in its order, with makes_inexact."""
    declared = re.findall(r"X\((\w+), ([01]), \"", WHOLE)
    assert [(name, bool(int(flag))) for name, flag in declared] == list(layout.COUNTERS)


def test_every_counter_and_column_is_explained():
    """docs/reference/rows.md has an entry for each counter and each column."""
    from memleak.rows import COLUMNS

    page = (ROOT / "docs" / "reference" / "rows.md").read_text()
    for name in [*COLUMNS, *(name for name, _ in layout.COUNTERS)]:
        assert f"| `{name}` |" in page, name


def declared_fields(structure):
    """Return (name, struct code) of each fixed member, as the header's text declares them."""
    body = re.search(rf"struct {structure} \{{(.*?)\n\}};", TEXT, re.DOTALL)[1]
    fields = []
    for kind, members in re.findall(r"^\s*((?:struct )?\w+) ([^;]+);", body, re.MULTILINE):
        for member in members.split(","):
            name, count = re.fullmatch(r"(\w+)(?:\[(.*)\])?", member.strip()).groups()
            if count == "":
                continue  # flexible array
            if kind == "struct mlf_record":
                fields.append((name, "8s"))
                continue
            number = None if count is None else evaluate(count)
            if number is None:
                fields.append((name, SIZES[kind]))
            else:
                width = {"B": 1, "s": 1, "I": 4, "Q": 8}[SIZES[kind]]
                fields.append((name, f"{number * width}s"))
    return fields


def evaluate(expression):
    """Return the value of an array's length."""
    return eval(expression, {f"MLF_{name}": value for name, value in constants()})


@pytest.mark.parametrize("structure", layout.STRUCTURES, ids=lambda s: s.name)
def test_fields_as_declared(structure):
    """Each structure has the header's fields, in its order, of its sizes."""
    assert list(structure.codes.items()) == declared_fields(structure.name)


def test_header_value_has_the_fields_of_the_structure():
    """`Header` names every field of mlf_header."""
    assert Header._fields == tuple(layout.HEADER.codes)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the compiler says: name -> number."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = []
    for structure in layout.STRUCTURES:
        lines.append(f'printf("{structure.name} %zu\\n", sizeof(struct {structure.name}));')
        lines += [
            f'printf("{structure.name}.{field} %zu\\n", offsetof(struct {structure.name}, {field}));'
            for field in structure.codes
        ]
    lines += [f'printf("counter.{name} %d\\n", MLF_COUNTER_{name});' for name, _ in layout.COUNTERS]
    lines.append('printf("counters %d\\n", MLF_COUNTER_COUNT);')
    lines.append('printf("check %u\\n", mlf_live_check(0x8123456789abcdefULL, ~0ULL - 5, 7, 139469, 77, ~0U));')
    place = tmp_path_factory.mktemp("format")
    source = place / "print.c"
    body = "\n".join(lines)
    includes = '#include <stddef.h>\n#include <stdio.h>\n#include "memleak_format.h"\n'
    source.write_text(f"{includes}int main(void) {{\n{body}\nreturn 0; }}\n")
    program = place / "print"
    subprocess.run([compiler, "-std=c11", "-I", HEADER.parent, source, "-o", program], check=True)
    out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


@pytest.mark.parametrize("structure", layout.STRUCTURES, ids=lambda s: s.name)
def test_compiled_offsets(structure, compiled):
    """The compiler puts each field where the decoder looks for it."""
    assert structure.bytes == compiled[structure.name]
    for field, offset in structure.offsets.items():
        assert offset == compiled[f"{structure.name}.{field}"], field


def test_compiled_counters_and_check(compiled):
    """Counter slots and the check word are the compiler's."""
    assert compiled["counters"] == len(layout.COUNTERS)
    for slot, (name, _) in enumerate(layout.COUNTERS):
        assert compiled[f"counter.{name}"] == slot
    key = 0x8123456789ABCDEF
    assert layout.live_check(key, 2**64 - 6, 7, 139469, 77, 2**32 - 1) == compiled["check"]
