"""Blocks that are freed another way than they were allocated are found at the probability of a sample, and nothing else is."""

from __future__ import annotations

import re
import sys
from math import exp, lgamma, log
from pathlib import Path

import pytest
from tracing import LONG

from memleak.query import Snapshot
from memleak.symbolize import Symbolizer

HEADER = Path(__file__).resolve().parents[2] / "native/include"
ALLOCATORS = [
    Path(f"/usr/lib/x86_64-linux-gnu/{name}") for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2")
]  # fmt: skip
KINDS = {
    "pool_freed_by_free", "pool_freed_to_other_pool", "malloc_freed_to_pool", "pool_wrong_size", "pool_freed_twice",
    "malloc_delete", "new_free", "delete_wrong_size",
}  # fmt: skip
PI = 2 / (16 + 256)
COUNT = 60000 if LONG else 20000
NORMAL = {"MEMLEAK_SAMPLE_BYTES": "0"}


def found_in(tracer, binary, **options) -> list:
    """Return the mismatches of the one recording of a program."""
    return Snapshot(tracer.only(binary), symbolizer=Symbolizer()).mismatches(**options)


def by_site(found) -> dict[tuple[str, int], int]:
    """Return how many sampled blocks were found, by kind and number of the site; both stacks must be of that site."""
    counts: dict[tuple[str, int], int] = {}
    for one in found:
        kind, number = re.match(r"void plant_(\w+)<(\d)>", one.freed_trace[0]).groups()
        assert kind == one.kind, one
        assert any(f"plant_{kind}<{number}>" in line for line in one.allocated.trace[:2]), one.allocated.trace
        counts[kind, int(number)] = counts.get((kind, int(number)), 0) + one.samples
    return counts


def binomial_tail(seen: int, trials: int, p: float) -> float:
    """Return twice the smaller of P(X <= seen) and P(X >= seen)."""

    def mass(k: int) -> float:
        return exp(lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1) + k * log(p) + (trials - k) * log(1 - p))

    low = sum(mass(k) for k in range(seen + 1))
    return 2 * min(low, 1 - low + mass(seen))


@pytest.fixture
def planted(program) -> str:
    """The program with 24 sites."""
    return program("mismatches.cc", f"-I{HEADER}")


def test_24_planted_mismatches_are_found_at_the_probability_of_a_sample(tracer, planted):
    """Each of three sites of eight kinds: two-sided, above one in a million; the seed is fixed."""
    done = tracer.same(planted, "wrong", COUNT, mode="normal", env=NORMAL)
    assert done.stdout == "done\n"
    counts = by_site(found_in(tracer, planted))
    assert set(counts) == {(kind, site) for kind in KINDS for site in (1, 2, 3)}
    for (kind, site), seen in sorted(counts.items()):
        p = binomial_tail(seen, COUNT, PI)
        print(f"{kind} {site}: {seen} of {COUNT * PI:.0f} expected, p {p:.3g}")
        assert p > 1e-6, (kind, site, seen, COUNT * PI)


def test_every_mismatch_is_found_in_full_mode(tracer, planted):
    """What goes wrong a thousand times is told a thousand times, as 24 mismatches of one pair of stacks each."""
    tracer.same(planted, "wrong", 1000)
    found = found_in(tracer, planted)
    counts = by_site(found)
    # A block of malloc's that is sampled as such too is malloc's when it comes to free().
    assert {key: n for key, n in counts.items() if key[0] != "pool_freed_by_free"} == {
        (kind, site): 1000 for kind in KINDS - {"pool_freed_by_free"} for site in (1, 2, 3)
    }


def test_right_frees_are_not_reported(tracer, planted):
    """The same program with each block freed as it should be; nothing, also not undecided; in both modes."""
    for mode in ("normal", "full"):
        tracer.same(planted, "right", COUNT if mode == "normal" else 1000, mode=mode, env=NORMAL)
        found = tracer.only(planted)
        assert found.header.counters["samples"] > 1000
        assert found.mismatches == ()
        tracer.forget()


# ---- nothing is reported of programs that do it right ------------------------------------------------------

BUILDS = {
    "shared": (),
    "optimised": ("-O2", "-flto=1"),
    "no_plt": ("-O2", "-fno-plt"),
    "no_pie": ("-no-pie",),
    "lazy": ("-Wl,-z,lazy",),
    "static_library": ("-static-libstdc++", "-static-libgcc"),
    "static_library_seen": ("-static-libstdc++", "-static-libgcc", "-rdynamic"),
    "static_library_stripped": ("-static-libstdc++", "-static-libgcc", "-s", "-O2"),
    "replaced": ("-DREPLACED=1", "-Wno-mismatched-new-delete"),
    "replaced_header": ("-DREPLACED=2", "-Wno-mismatched-new-delete"),
    "replaced_inlined": ("-DREPLACED=1", "-Wno-mismatched-new-delete", "-O2", "-flto=1"),
    "unsized": ("-fno-sized-deallocation",),
}


@pytest.mark.parametrize("name", BUILDS)
def test_containers(tracer, program, name):
    """The C++ library and programs that bring operators of their own, in every build; nothing is suspected."""
    binary = program("containers.cc", "-std=c++17", *BUILDS[name], name=f"containers{list(BUILDS).index(name)}")
    for mode, rounds in (("full", 40), ("normal", 1500 if LONG else 400)):
        tracer.same(binary, rounds, mode=mode)
        assert tracer.only(binary).header.counters["samples"] > 500
        assert found_in(tracer, binary, undecided=True) == []
        tracer.forget()


@pytest.mark.parametrize("allocator", ALLOCATORS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["shared", "static_library", "replaced"])
def test_containers_on_another_allocator(tracer, program, allocator, name):
    """With operators of the allocator's own, in front of us and behind."""
    if not allocator.exists():
        pytest.skip(f"{allocator.name} is not installed")
    binary = program("containers.cc", "-std=c++17", *BUILDS[name], name=f"containers{list(BUILDS).index(name)}")
    for preload in (f"{tracer.core}:{allocator}", f"{allocator}:{tracer.core}"):
        done = tracer.run(binary, 100, env={"LD_PRELOAD": preload})
        assert done.returncode == 0
        for found in tracer.recordings():
            assert Snapshot(found, symbolizer=Symbolizer()).mismatches(undecided=True) == []
        tracer.forget()


def test_what_a_program_replaces_is_compared_no_further(tracer, program):
    """With operators of its own, or a copy of the library's, it is not known what they do: then nothing is said."""
    for flags in (("-DREPLACED=1",), ("-static-libstdc++",)):
        binary = program("mismatches.cc", f"-I{HEADER}", *flags, name="mismatches_own")
        tracer.run(binary, "wrong", 2000)
        kinds = {one.kind for one in found_in(tracer, binary)}
        assert kinds >= KINDS - {"pool_freed_by_free", "malloc_delete", "new_free", "delete_wrong_size"}
        tracer.forget()


SUITES = {
    "numpy": "import numpy, sys; sys.exit(not numpy.test(tests=['numpy.lib.tests.test_function_base']))",
    "lxml": """
import io, lxml.etree as etree, lxml.html, lxml.objectify
document = '<a>' + ''.join(f'<b k="{i}">text {i}<c/></b>' for i in range(300)) + '</a>'
for i in range(60):
    tree = etree.fromstring(document)
    assert len(tree.xpath('//b[@k > 10]')) == 289
    sheet = etree.XSLT(etree.XML('''<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
      <xsl:template match="/"><o><xsl:for-each select="//b"><i><xsl:value-of select="@k"/></i></xsl:for-each></o></xsl:template>
      </xsl:stylesheet>'''))
    assert len(sheet(tree).getroot()) == 300
    lxml.html.fromstring('<div><p>one<p>two' * 20).text_content()
    lxml.objectify.fromstring(document)
    for event, node in etree.iterparse(io.BytesIO(document.encode())):
        node.clear()
""",
    "python": "import runpy, sys; sys.argv[1:] = ['test_json', 'test_struct', 'test_ctypes']; runpy.run_module('test', run_name='__main__')",
    "greenlet": """
import greenlet
def inner(n):
    while n:
        n = greenlet.getcurrent().parent.switch(n - 1)
for i in range(3000):
    one = greenlet.greenlet(inner)
    for k in range(3):
        one.switch(3)
    try:
        one.throw(ValueError)
    except ValueError:
        pass
""",
}


@pytest.mark.parametrize("suite", SUITES)
def test_suites_of_python_and_its_extensions(door, tmp_path, suite):
    """Through both doors; docs/reference/pools.md has the command for an hour of them."""
    start = "import memleak; memleak.start()\n"
    done = door.run(sys.executable, "-c", start + SUITES[suite], mode="normal", cwd=tmp_path, timeout=600)
    if "No module named" in done.stderr:
        pytest.skip(f"not installed: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for found in door.recordings():
        assert Snapshot(found, symbolizer=Symbolizer()).mismatches(undecided=True) == []
