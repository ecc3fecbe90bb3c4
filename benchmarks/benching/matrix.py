"""Every candidate on every workload: noise first, then each candidate in turns with what it is compared with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional

from . import figures, measuring, peers
from .candidates import CANDIDATES, Candidate
from .places import Places
from .workloads import QUICK, Workload

NOISE = "noise"


class Cell(NamedTuple):
    """What came of one candidate on one workload; ratios are candidate / baseline."""

    workload: str
    candidate: str
    baseline: str
    failure: str
    ratios: dict[str, figures.Spread]
    differences: dict[str, figures.Spread]
    raw: list[list[Any]]  # who, cpu_s, wall_s, peak_kib, inner_ns: in order of time

    def as_json(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            **self._asdict(),
            "ratios": {name: value._asdict() for name, value in self.ratios.items()},
            "differences": {name: value._asdict() for name, value in self.differences.items()},
        }


def from_json(held: dict[str, Any]) -> Cell:
    """Return a cell that was kept."""
    spreads = {
        kind: {name: figures.Spread(**value) for name, value in held[kind].items()}
        for kind in ("ratios", "differences")
    }
    return Cell(**{**held, **spreads})


def measure(workload: Workload, names: list[str], places: Places, rounds: int, quick: bool) -> Iterator[Cell]:
    """Yield the cells of one workload: noise of each baseline before the first candidate that needs it."""
    amount = max(1, workload.amount // (QUICK if quick else 1))
    rounds *= 1 if quick else workload.times
    quiet: set[str] = set()
    for name in names:
        candidate = CANDIDATES[name]
        if workload.kind not in candidate.kinds:
            continue
        baseline = CANDIDATES[candidate.baseline]
        if baseline.name not in quiet:
            quiet.add(baseline.name)
            yield cell(workload, baseline, baseline, places, rounds, amount)
        yield cell(workload, candidate, baseline, places, rounds, amount)


def cell(
    workload: Workload, candidate: Candidate, baseline: Candidate, places: Places, rounds: int, amount: int
) -> Cell:
    """Measure one candidate, or say why not."""
    name = NOISE if candidate is baseline else candidate.name
    try:
        a, b = (runner(workload, one, places, amount) for one in (baseline, candidate))
        compared = measuring.compare(a, b, rounds)
    except peers.NotAvailable as reason:
        return Cell(workload.name, name, baseline.name, f"not available: {reason}", {}, {}, [])
    raw = [[who, *sample[:4]] for who, sample in zip(compared.sequence, compared.samples)]
    if compared.failure:
        return Cell(workload.name, name, baseline.name, compared.failure, {}, {}, raw)
    return Cell(workload.name, name, baseline.name, "", measured(compared.ratio), measured(compared.difference), raw)


def runner(workload: Workload, candidate: Candidate, places: Places, amount: int) -> measuring.Run:
    """Return what runs the workload once as this candidate."""
    return functools.partial(workload.run, places, candidate.way(places), amount)


def measured(of: Callable[[str], Optional[figures.Spread]]) -> dict[str, figures.Spread]:
    """Return the measures that there are."""
    return {name: value for name in measuring.MEASURES if (value := of(name)) is not None}
