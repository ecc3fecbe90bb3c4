"""What stands below every printout: sampling, losses, coverage, own cost, and why numbers are not exact."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import coverage, layout
from .grouping import Group, Source
from .merging import Groups
from .records import Governor

if TYPE_CHECKING:
    from .mismatches import Mismatch


def exact_reasons(sources: tuple[Source, ...], problems: Sequence[str]) -> list[str]:
    """Return why the numbers of some recordings are not exact; *problems* are those of recordings that were left out."""
    reasons = []
    for source in sources:
        prefix = f"{source.recording.origin}: " if len(sources) > 1 else ""
        reasons += [prefix + reason for reason in source.exact_reasons]
    return reasons + list(problems)


def footer(
    sources: tuple[Source, ...],
    groups: Sequence[Group],
    problems: Sequence[str],
    compare: Callable[[], list["Mismatch"]],
) -> dict[str, Any]:
    """Return what `memleak.query.Snapshot.footer` does.

    Args:
        sources: the recordings.
        groups: their stacks.
        problems: recordings that were left out, in words.
        compare: returns the blocks that were freed another way than they were allocated, undecided ones too.
    """
    recordings = [source.recording for source in sources]
    sampling: dict[tuple[Any, ...], int] = {}
    dropped: dict[str, int] = {}
    others: dict[str, int] = {}
    losing = {name for name, makes_inexact in layout.COUNTERS if makes_inexact and name != layout.MERGED}
    python: dict[str, int] = {}
    governors: dict[Governor, int] = {}
    reached = [coverage.of(found) for found in recordings]
    compared = compare() if any(found.mismatches for found in recordings) else []
    for source in sources:
        header = source.recording.header
        law: tuple[Any, ...] = (
            header.effective[:2], header.effective_sample_bytes, header.requested[:2], header.mode,
            *((header.python_effective[:2], header.python_requested[:2]) if header.counts_python else (None, None)),
            header.counts_native,
        )  # fmt: skip
        sampling[law] = sampling.get(law, 0) + 1
        governors[header.governor] = governors.get(header.governor, 0) + 1
        if header.python:
            python[header.python] = python.get(header.python, 0) + 1
        for name, number in header.counters.items():
            if number and name not in ("samples", "forgotten"):
                into = dropped if name in losing else others
                into[name] = into.get(name, 0) + number
    return {
        "recordings": len(sources),
        "sampling": [
            {
                "mode": mode,
                "min_sample_interval": pair[0],
                "max_sample_interval": pair[1],
                "python_min_sample_interval": python_pair[0] if python_pair else None,
                "python_max_sample_interval": python_pair[1] if python_pair else None,
                "sample_bytes": sample_bytes,
                "requested": tuple(requested),
                "python_requested": python_requested,
                "native": native,
                "recordings": number,
            }
            for law, number in sampling.items()
            for pair, sample_bytes, requested, mode, python_pair, python_requested, native in [law]
        ],
        "samples": sum(found.header.counters["samples"] for found in recordings),
        "live_samples": sum(found.live_samples for found in recordings),
        "rows": len(groups),
        "dropped": dropped,
        "counters": others,
        "torn": sum(found.torn for found in recordings),
        "incomplete": [f"{found.origin}: {why}" for found in recordings for why in found.incomplete],
        "problems": list(problems),
        "coverage": "; ".join(words for words in (coverage.sentence(reached), _backtraces(sources, groups)) if words),
        "out_of_reach": [found._asdict() for part in reached for found in part.out_of_reach],
        "python": python,
        "exact": not exact_reasons(sources, problems),
        "exact_reasons": exact_reasons(sources, problems),
        "cost": _cost(sources),
        "pools": {
            "number": sum(len(found.pools) for found in recordings),
            "live_samples": sum(len(found.pool_samples) for found in recordings),
        },
        "mismatches": {
            "number": sum(not one.undecided for one in compared),
            "undecided": sum(bool(one.undecided) for one in compared),
        },
        "governors": [
            {**found._asdict(), "words": str(found), "recordings": number} for found, number in governors.items()
        ],
        "foci": [
            {**focus._asdict(), "words": str(focus)}
            for focus in (found.header.focus for found in recordings)
            if focus.requested or focus.effective
        ],
    }


def _backtraces(sources: tuple[Source, ...], groups: Sequence[Group]) -> str:
    """Say which share of the samples has a complete backtrace in a known place."""
    samples = cut = unknown = unplaced = python_cut = 0
    for count, is_placeless, is_cut, is_unknown, is_python_cut in _traced(sources, groups):
        samples += count
        if is_placeless:
            unplaced += count
        elif is_cut:
            cut += count
        elif is_unknown:
            unknown += count
        python_cut += count if is_python_cut else 0
    if not samples:
        return "no live samples"
    notes = []
    for count, what in (
        (unplaced, "without a backtrace"),
        (cut, "with a backtrace that was cut"),
        (unknown, "through code in no known module"),
        (python_cut, "with a Python stack that was cut"),
    ):
        if count:
            notes.append(f"{count} {what}")
    return f"{samples} live samples" + (f", {', '.join(notes)}" if notes else ", all with complete backtraces")


def _traced(sources: tuple[Source, ...], groups: Sequence[Group]) -> Iterable[tuple[int, bool, bool, bool, bool]]:
    """Yield of each group its samples, and whether it is placeless, cut, through an unknown place, cut in Python."""
    if isinstance(groups, Groups):
        return groups.stacks.backtraces()
    return (
        (
            group.sums.samples, group.placeless, group.truncated, group.has_unknown_frames(sources),
            group.python_truncated,
        )
        for group in groups
    )  # fmt: skip


def _cost(sources: tuple[Source, ...]) -> dict[str, Any]:
    samples = cpu_ns = 0
    costs = set()
    duration_s = 0.0
    for source in sources:
        header = source.recording.header
        taken = header.counters["samples"]
        samples += taken
        cpu_ns += header.cost_ns
        costs.add(header.sample_cost_ns)
        duration_s += source.now_cs / 100
    return {
        "samples": samples,
        "sample_cost_ns": costs.pop() if len(costs) == 1 else None,
        "cpu_ns": cpu_ns,
        "duration_s": duration_s,
        "share": cpu_ns / 1e9 / duration_s if duration_s > 0 else None,
    }
