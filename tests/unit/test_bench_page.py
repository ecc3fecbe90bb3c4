"""The tables, goals, plots and page that ./bench makes from a result with known numbers."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from benching import command, goals, matrix, page, plot, table
from benching.figures import Spread, spread
from benching.matrix import NOISE, Cell
from benching.measuring import MEASURES


def cell(
    workload: str, candidate: str, cpu: float, *, baseline: str = "stock", failure: str = "", ns: float | None = None
):
    """A cell whose CPU ratio has this median, a hundredth to each side."""
    if failure:
        return Cell(workload, candidate, baseline, failure, {}, {}, [])
    wide = Spread(cpu - 0.01, cpu, cpu + 0.01, 8)
    differences = {"peak_kib": Spread(1024, 2048, 4096, 8)}
    if ns is not None:
        differences["inner_ns"] = Spread(ns - 1, ns, ns + 1, 8)
    return Cell(workload, candidate, baseline, "", dict.fromkeys(MEASURES, wide), differences, [])


CELLS = [
    cell("malloc_pair", NOISE, 1.0),
    cell("malloc_pair", "memleak-normal", 1.3, ns=3.0),
    cell("flask", NOISE, 1.0),
    cell("flask", "memleak-normal", 1.005),
    cell("flask", "memleak-import-normal", 1.008),
    cell("flask", "memleak-full", 1.9),
    cell("flask", "memleak-import-full", 1.7),
    cell("flask", "memray", 2.2),
    cell("flask", "heaptrack", 0, failure="killed by SIGSEGV"),
    cell("flask", "jemalloc-prof", 1.0, baseline="jemalloc", failure="not available: not built with profiling"),
]
FACTS = {
    "cpu": "Example CPU", "cores": 2, "memory_mib": 4096, "machine": "x86_64", "kernel": "6.1", "glibc": "2.36",
    "python": "3.11.2", "hypervisor": True, "load_at_start": [0.1, 0.2, 0.3], "when": "2026-01-02 03:04 UTC", "commit": "abc",
}  # fmt: skip


@pytest.fixture
def held() -> dict:
    """A result as it comes from its file."""
    errors = {
        name: {"groups": {"native": {"rms": spread([rms])._asdict(), "seen": 5, "sites": 5}}}
        for name, rms in (("memleak-normal", 0.125), ("jemalloc-prof", 0.4))
    }
    rows = {"off": {"instructions_over_stock": 17.5, "over_stock_ns": {"low": 1.0, "median": 3.5, "high": 4.0}}}
    rows["stock again"] = {"over_stock_ns": {"low": -0.5, "median": 0.0, "high": 0.5}}
    parts = {"hook": {"lines": ["off: something"], "rows": rows}, "errors": {"lines": [], "rows": errors}}
    result = {
        "format": 1, "machine": FACTS, "rounds": 4, "quick": False, "complete": True, "minutes": 61.5,
        "cells": [cell.as_json() for cell in CELLS], "parts": parts,
    }  # fmt: skip
    return json.loads(json.dumps(result))


def test_a_cell_survives_its_file(held):
    assert [matrix.from_json(one) for one in held["cells"]] == CELLS


def test_a_line_has_the_noise_beside_it():
    words = table.row(CELLS[1], table.noises(CELLS)["malloc_pair", "stock"])
    assert (
        words.split()
        == (
            "malloc_pair memleak-normal 1.300 [1.290 … 1.310] 0.990 … 1.010 1.300 [1.290 … 1.310] 1.300 [1.290 … 1.310] "
            "+3.00 [+2.00 … +4.00]"
        ).split()
    )
    assert "killed by SIGSEGV" in table.row(CELLS[8], None)
    assert "not measured" in table.row(CELLS[1], None)


def test_a_goal_is_met_by_the_worst_door_or_not(held):
    found = {goal.what: goal for goal in goals.goals(held)}
    service = found["Flask service, native and Python, CPU of a request"]
    assert (service.met, service.figure) == (
        True, "1.008 [0.998 … 1.018] (memleak-import-normal; noise 0.990 … 1.010)",
    )  # fmt: skip
    assert found["Flask service, every allocation, CPU of a request"].met is False
    assert found["Flask service, every allocation, CPU of a request"].figure.startswith(
        "1.900 [1.890 … 1.910] (memleak-full;"
    )
    assert found["malloc + free through the hooks, nothing sampled: instructions over stock"].met is True
    assert found["the same: time over stock"].met is False
    assert found["error at native leaks, against jemalloc's profiler"].met is True
    assert found["error at native leaks, against jemalloc's profiler"].figure.startswith(
        "12.5 [12.5 … 12.5] %; jemalloc"
    )


def test_what_was_not_measured_has_no_verdict(held):
    found = {goal.what: goal for goal in goals.goals(held)}
    for what in ("redis, CPU of the server", "its CPU for a request in the Flask service, against jemalloc's profiler"):
        assert found[what].met is None
        assert "nothing of" in found[what].figure
    assert any(line.startswith("NOT MET") for line in goals.lines(list(found.values())))


TEXT = "# Title\n" + "".join(
    f"\nbefore {name}\n\n<!-- {name}: made by ./bench --page -->\nold\n<!-- {name}: end -->\n" for name in page.SECTIONS
)


def test_the_page_keeps_what_is_written_by_hand(held):
    made = page.made(TEXT, held)
    assert "old" not in made
    assert all(f"before {name}\n" in made for name in page.SECTIONS)
    assert "Measured on 2026-01-02 03:04 UTC, commit abc, with 4 rounds" in made
    assert "Example CPU, 2 cores, a virtual machine" in made
    assert "partial or quick" not in made
    assert page.made(made, held) == made
    assert "partial or quick" in page.made(TEXT, {**held, "complete": False})


def test_what_is_measured_again_stands_for_what_there_was(held):
    again = cell("flask", "memleak-normal", 1.5).as_json()
    more = {
        "machine": {**FACTS, "when": "2026-02-03 04:05 UTC"}, "rounds": 7, "quick": False,
        "cells": [again, cell("redis", "memleak-normal", 1.25).as_json()], "parts": {"room": {"lines": ["so much"]}},
    }  # fmt: skip
    found = command.with_more(held, json.loads(json.dumps(more)))
    cells = goals.Result(found)
    assert cells.cell("flask", "memleak-normal").ratios["cpu_s"].median == 1.5
    assert cells.cell("redis", "memleak-normal").ratios["cpu_s"].median == 1.25
    assert len(found["cells"]) == len(held["cells"]) + 1 and list(found["parts"]) == ["hook", "errors", "room"]
    made = page.made(TEXT, found)
    assert "Measured on 2026-02-03 04:05 UTC, commit abc, with 7 rounds: flask, redis, room." in made
    assert "* so much" in made and "partial or quick" not in made
    more["quick"] = True
    assert "partial or quick" in page.made(TEXT, command.with_more(held, more))


def test_the_worst_stands_first(held):
    """Workloads by what the tracer's defaults cost, candidates by CPU, goals that are not met before those that are."""
    made = page.made(TEXT, held)
    assert made.index("### malloc_pair") < made.index("### flask")
    flask = made[made.index("### flask") :]
    order = [
        "| memray |",
        "| memleak-full |",
        "| memleak-import-full |",
        "| memleak-import-normal |",
        "| memleak-normal |",
    ]
    assert sorted(order, key=flask.index) == order
    assert "| heaptrack | killed by SIGSEGV |" in flask
    assert "| jemalloc-prof (over jemalloc) | not available: not built with profiling |" in flask
    assert made.index("**not met**") < made.index("| met |")
    assert (
        "| 1.300 [1.290 … 1.310] | 0.990 … 1.010 | 1.300 [1.290 … 1.310] | 1.300 [1.290 … 1.310] (+2.0 MiB) | +3.00 [+2.00 … +4.00], 1.300 [1.290 … 1.310] × |"
        in made
    )


def test_a_page_without_its_markers_is_refused(held):
    with pytest.raises(ValueError, match="the page has 0 sections named machine"):
        page.made("# Title\n", held)


def test_the_page_of_the_tree_has_every_section(held):
    assert page.made(page.PAGE.read_text(), held).count("made by ./bench --page -->") == len(page.SECTIONS)


def test_a_plot_is_xml_with_a_bar_for_each_candidate(held):
    found = page.plots(held)
    assert set(found) == {"malloc_pair", "flask"}
    root = ElementTree.fromstring(found["flask"])
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"memray", "memleak-full", "heaptrack", "2.200 [2.190 … 2.210]", "killed by SIGSEGV"} <= set(words)


def test_the_scale_is_logarithmic():
    assert plot.position(1.0, 100) == 0
    assert plot.position(100, 100) == pytest.approx(plot.WIDTH)
    assert plot.position(10, 100) == pytest.approx(plot.WIDTH / 2)
    assert plot.position(0.9, 100) == 0
    assert plot.ticks(100)[0] == 1 and plot.ticks(100)[-1] == 100
